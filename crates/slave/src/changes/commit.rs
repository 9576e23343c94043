//! Making changes, many at once: staged content to the disk, numbers, the folder, the catalogue, answers.
//!
//! The order of these steps is what the promise of `Committed` rests on. Run by the keeper thread alone.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use log::error;
use relais_cluster::{ChangeRequest, SequenceResult};
use relais_proto::{Change, ErrorCode, Kind, LogEntry, Lsn, Refusal, TreePath};
use relais_storage::{
    CatalogError, CatalogStore, Commit, CommitReceipt, Proposal, ProposalResult, StagedName,
    Staging, changes_unavailable,
};
use relais_tree::{Folder, Meta, MetaKind, TreeError};

use super::apply::{Applied, Applier, Displaced, FolderCache, OnForeign};
use super::channel::ProposalSocket;
use super::handoff::HandoffListener;
use super::note::{note, paths};
use super::numbering::Numbering;
use super::obstacles::Obstacles;
use super::parallel::parallel_map;
use super::proposal_receiver::{BATCH, ProposalReceiver, ReceivedMessages};
use super::replication::quarantine::Quarantine;
use super::view::CatalogueView;
use crate::scoreboard::Scoreboard;
use relais_engine::refuse;

/// Bytes of the disk that are kept free of new files and folders; less of a small disk.
const KEPT_FREE: u64 = 256 * 1024;

/// Takes proposals from all sessions and makes them.
pub struct Committer {
    root: Folder,
    staging: Staging,
    quarantine: Quarantine,
    numbering: Box<dyn Numbering>,
    scoreboard: Arc<Scoreboard>,
    counter: ProposalReceiver,
    /// Whether something lies in the folder of removed things.
    litter: bool,
    /// What keeps changes that have their numbers from being noted or withdrawn. Only following the journal anew helps.
    behind: Option<String>,
}

/// A change that has its number, on its way to the disk.
struct Job<'a> {
    numbered: LogEntry,
    proposal: &'a Proposal,
    /// Its place in the batch.
    at: usize,
    result: Result<Applied, TreeError>,
}

impl Committer {
    /// Has no channel yet.
    ///
    /// # Errors
    /// Those of opening the staging folders.
    pub fn new(
        root: Folder,
        numbering: Box<dyn Numbering>,
        scoreboard: Arc<Scoreboard>,
        proposal_socket: Arc<ProposalSocket>,
    ) -> Result<Self, CatalogError> {
        let staging = Staging::open(&root)?;
        let counter = ProposalReceiver::new(proposal_socket, Some(HandoffListener::bind(&root)?));
        let quarantine = Quarantine::open(&root)?;
        Ok(Self {
            root,
            staging,
            quarantine,
            numbering,
            scoreboard,
            counter,
            litter: true,
            behind: None,
        })
    }

    /// Can be read when there is something to do.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.counter.fds(true)
    }

    /// Whether there is something for the sweeper, since this was last asked.
    pub fn take_litter(&mut self) -> bool {
        std::mem::take(&mut self.litter)
    }

    /// The latest change that was made.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.scoreboard.applied_lsn()
    }

    /// Makes what has come, once; whether there was anything.
    ///
    /// # Errors
    /// Those of the catalogue, which has to be brought in order then; [`CatalogError::NotRecorded`] where only a new
    /// committer can. Nobody has an answer then: sessions ask the next one by the ids of their changes.
    pub fn serve(&mut self, store: &CatalogStore) -> Result<bool, CatalogError> {
        self.counter.accept();
        let ReceivedMessages { proposals, holders, closed: mut useless } =
            self.counter.gather(BATCH);
        // Only this folder has it.
        holders.iter().for_each(|(channel, _)| self.counter.send_holders(*channel, &[]));
        let (from, proposals): (Vec<u64>, Vec<Proposal>) = proposals.into_iter().unzip();
        if proposals.is_empty() {
            self.close(useless);
            return Ok(false);
        }
        let before = self.scoreboard.applied_lsn();
        let mut answers: Vec<Option<ProposalResult>> = vec![None; proposals.len()];
        let result = self.make_all(store, &proposals, &mut answers);
        if let Some(why) = &self.behind {
            self.counter.close_all();
            return Err(CatalogError::NotRecorded(why.clone()));
        }
        for ((channel, proposal), answer) in from.iter().zip(&proposals).zip(answers) {
            let answer = answer
                .unwrap_or_else(|| Err(changes_unavailable("the slave cannot use its catalogue")));
            let made = answer.as_ref().is_ok_and(|done| done.version > before);
            self.forget_staged(proposal, &answer, made);
            // After an answer that is lost, the next would be taken for it.
            if !useless.contains(channel) && !self.counter.answer(*channel, &answer) {
                useless.insert(*channel);
            }
        }
        self.close(useless);
        let set_aside = self.quarantine.take_count();
        if set_aside > 0 {
            store.add_to_total("set-aside", set_aside as u64)?;
        }
        result?;
        self.numbering.shorten(store)?;
        Ok(true)
    }

    fn close(&mut self, useless: BTreeSet<u64>) {
        useless.into_iter().for_each(|channel| self.counter.close(channel));
    }

    fn make_all(
        &mut self,
        store: &CatalogStore,
        proposals: &[Proposal],
        answers: &mut [Option<ProposalResult>],
    ) -> Result<(), CatalogError> {
        for (proposal, answer) in proposals.iter().zip(answers.iter_mut()) {
            *answer =
                store.commit_of(proposal.id)?.map(|commit| commit.answer_to(&proposal.change));
        }
        self.refuse_without_room(proposals, answers);
        self.sync_staged(proposals, answers);
        let mut at = 0;
        while at < proposals.len() {
            let end = at + segment(store, &proposals[at..])?;
            let mut obstacles = Obstacles::new(&self.root, store);
            for (proposal, answer) in proposals[at..end]
                .iter()
                .zip(&mut answers[at..end])
                .filter(|(_, answer)| answer.is_none())
            {
                *answer = obstacles.of(&proposal.change)?.map(Err);
            }
            drop(obstacles);
            self.make_some(store, proposals, (at, end), answers)?;
            at = end;
        }
        Ok(())
    }

    /// Refuses what needs room where there is hardly any. What is left is for the journal and the catalogue, and so for
    /// those who remove something: what has its number must not fail for want of room.
    fn refuse_without_room(&self, proposals: &[Proposal], answers: &mut [Option<ProposalResult>]) {
        let needs_room =
            |change: &Change| matches!(change, Change::Put { .. } | Change::MakeFolder { .. });
        let open = || {
            proposals
                .iter()
                .zip(answers.iter())
                .any(|(proposal, answer)| answer.is_none() && needs_room(&proposal.change))
        };
        if !open() || !rustix::fs::fstatvfs(&self.root).is_ok_and(|disk| is_full(&disk)) {
            return;
        }
        for (proposal, answer) in
            proposals.iter().zip(answers).filter(|(_, answer)| answer.is_none())
        {
            if needs_room(&proposal.change) {
                *answer = Some(Err(Refusal::new(ErrorCode::NoSpace, "the server's disk is full")));
            }
        }
    }

    /// What is staged for a change that was refused, or made before, is of no more use; what can be asked for again stays.
    fn forget_staged(&self, proposal: &Proposal, answer: &ProposalResult, made: bool) {
        let keep = made || matches!(answer, Err(refusal) if refusal.code == ErrorCode::NoChanges);
        if let Some(staged) = proposal.staged.as_ref().filter(|_| !keep) {
            self.staging.discard(staged);
        }
    }

    /// Puts staged content on the disk. What cannot be is refused.
    fn sync_staged(&self, proposals: &[Proposal], answers: &mut [Option<ProposalResult>]) {
        let mut wanted = Vec::new();
        for (at, proposal) in proposals.iter().enumerate() {
            if let Some(staged) = proposal.staged.as_ref().filter(|_| answers[at].is_none()) {
                wanted.push((at, staged, proposal.synced));
            }
        }
        if wanted.is_empty() {
            return;
        }
        let mut failed = |at: usize, e: &TreeError| {
            let Change::Put { path, .. } = &proposals[at].change else { return };
            answers[at] = Some(Err(refuse(path, e)));
        };
        let unsynced: Vec<_> = wanted.iter().filter(|(_, _, synced)| !synced).collect();
        let folder = &self.staging.staged;
        let results = parallel_map(&unsynced, |(_, staged, _)| sync_file(folder, staged));
        for ((at, ..), result) in unsynced.iter().zip(results) {
            if let Err(e) = result {
                failed(*at, &e);
            }
        }
        if let Err(e) = self.staging.staged.sync() {
            wanted.iter().for_each(|(at, ..)| failed(*at, &e));
        }
    }

    /// Numbers and makes the proposals from `from` to `to` that have no answer yet.
    fn make_some(
        &mut self,
        store: &CatalogStore,
        proposals: &[Proposal],
        (from, to): (usize, usize),
        answers: &mut [Option<ProposalResult>],
    ) -> Result<(), CatalogError> {
        loop {
            let open: Vec<usize> = (from..to).filter(|at| answers[*at].is_none()).collect();
            if open.is_empty() {
                return Ok(());
            }
            let asked: Vec<ChangeRequest> = open
                .iter()
                .map(|at| ChangeRequest {
                    id: proposals[*at].id,
                    change: proposals[*at].change.clone(),
                    expect: proposals[*at].expect,
                    keep_mode: proposals[*at].keep_mode,
                })
                .collect();
            let verdicts = match self.numbering.number(&asked, &mut CatalogueView(store)) {
                Ok(verdicts) => verdicts,
                Err(refusal) => {
                    open.iter().for_each(|at| answers[*at] = Some(Err(refusal.clone())));
                    return Ok(());
                }
            };
            let (mut jobs, mut known) = (Vec::new(), Vec::new());
            for (at, verdict) in open.into_iter().zip(verdicts) {
                match verdict {
                    SequenceResult::Accepted(numbered) => {
                        let result = Err(TreeError::NotFound);
                        jobs.push(Job { numbered, proposal: &proposals[at], at, result });
                    }
                    SequenceResult::AlreadyCommitted(version) => known.push((at, version)),
                    SequenceResult::Refused(refusal) => answers[at] = Some(Err(refusal)),
                }
            }
            let numbered: Vec<(Lsn, usize)> =
                jobs.iter().map(|job| (job.numbered.version, job.at)).collect();
            self.carry_out(store, jobs, answers)?;
            // What was asked for twice together has one fate.
            for (at, version) in known {
                let first = numbered
                    .iter()
                    .find(|(number, _)| *number == version)
                    .map(|(_, first)| (&proposals[*first].change, answers[*first].clone()));
                answers[at] = Some(match first {
                    Some((change, Some(Ok(done)))) => {
                        Commit::new(done.version, change).answer_to(&proposals[at].change)
                    }
                    Some((_, Some(refused))) => refused,
                    // Nothing numbers what the catalogue has already.
                    _ => Err(changes_unavailable("its number is not known here")),
                });
            }
        }
    }

    /// What was taken back has its former content, but another ctime.
    fn look_again(&self, store: &CatalogStore, jobs: &[Job<'_>]) -> Result<(), CatalogError> {
        for path in jobs
            .iter()
            .filter(|job| job.result.is_err())
            .flat_map(|job| paths(&job.numbered.change))
        {
            if let (Some(row), Ok(meta)) = (store.row(path)?, self.root.stat(path))
                && row.matches_except_ctime(&meta)
            {
                store.update_disk_meta(path, &meta)?;
            }
        }
        store.commit()
    }

    /// Brings numbered changes to the disk and into the catalogue.
    fn carry_out(
        &mut self,
        store: &CatalogStore,
        mut jobs: Vec<Job<'_>>,
        answers: &mut [Option<ProposalResult>],
    ) -> Result<(), CatalogError> {
        let mut parents = FolderCache::new(&self.root);
        // What the batch itself has put there, which the catalogue gets only at its end.
        let mut placed: HashMap<TreePath, Meta> = HashMap::new();
        for job in &mut jobs {
            let LogEntry { change, version, .. } = &job.numbered;
            let mut applier = Applier {
                parents: &mut parents,
                staging: &self.staging,
                quarantine: &mut self.quarantine,
                known: &mut |left: &Displaced<'_>| match placed.get(left.path) {
                    Some(meta) => Ok(left.meta.same_but_renamed(meta)),
                    None => has(store, left),
                },
                on_foreign: OnForeign::RollBack,
            };
            job.result = applier.apply(change, *version, job.proposal.staged.as_ref());
            if let (
                Change::Put { path, .. } | Change::MakeFolder { path, .. },
                Ok(Applied { meta: Some(meta), .. }),
            ) = (change, &job.result)
            {
                placed.insert(path.clone(), *meta);
            }
        }
        sync_parents(&mut jobs, &mut parents, &self.staging, &mut self.quarantine);
        drop(parents);
        let failed: Vec<Lsn> =
            jobs.iter().filter(|job| job.result.is_err()).map(|job| job.numbered.version).collect();
        let withdrawn =
            if failed.is_empty() { Ok(Vec::new()) } else { self.numbering.withdraw(&failed) };
        let last = jobs.last().map(|job| job.numbered.version);
        let withdrawn = match withdrawn {
            Ok(withdrawn) => withdrawn,
            Err(refusal) => return self.fall_behind(store, refusal.to_string()),
        };
        let made: Vec<_> =
            jobs.iter().map(|job| (&job.numbered, job.result.as_ref().ok())).collect();
        if let Some(last) = withdrawn.last().map(|numbered| numbered.version).or(last) {
            self.scoreboard.set_visible_lsn(last);
        }
        let noted =
            note(store, &made, &withdrawn, last).and_then(|()| self.look_again(store, &jobs));
        if let Err(e) = noted {
            return self.fall_behind(store, e.to_string());
        }
        if let Some(last) = withdrawn.last().map(|numbered| numbered.version).or(last) {
            self.scoreboard.set_applied_lsn(last);
        }
        for job in &jobs {
            answers[job.at] = Some(match &job.result {
                Ok(applied) => {
                    self.litter |= applied.finish(&self.staging, &mut self.quarantine);
                    let Commit { version, digest } = Commit::from(&job.numbered);
                    Ok(CommitReceipt { version, copies: 1, digest, fresh: true })
                }
                Err(e) => Err(failure(&job.numbered.change, e)),
            });
        }
        Ok(())
    }

    /// From here on the catalogue lacks what the journal has.
    fn fall_behind(&mut self, store: &CatalogStore, why: String) -> Result<(), CatalogError> {
        if let Err(e) = store.rollback() {
            error!("cannot roll back the catalogue: {e}");
        }
        self.behind = Some(why.clone());
        Err(CatalogError::NotRecorded(why))
    }
}

/// Whether something that has left its place is what the catalogue has there.
pub(super) fn has(store: &CatalogStore, left: &Displaced<'_>) -> Result<bool, TreeError> {
    let row = store.row(left.path).map_err(|e| TreeError::Io("look up", io::Error::other(e)))?;
    Ok(row.is_some_and(|row| match (row.entry.kind, left.renamed) {
        (Kind::Folder, _) => left.meta.kind == MetaKind::Folder,
        (Kind::File, true) => row.matches_except_ctime(left.meta),
        (Kind::File, false) => row.matches(left.meta),
    }))
}

/// How many of the first proposals can be looked at together: those up to the first that concerns a whole subtree, or that one alone.
fn segment(store: &CatalogStore, proposals: &[Proposal]) -> Result<usize, CatalogError> {
    for (at, proposal) in proposals.iter().enumerate() {
        let alone = match &proposal.change {
            Change::Move { .. } | Change::Withdraw { .. } => true,
            Change::Remove { path, recursive } => {
                *recursive || store.row(path)?.is_some_and(|row| row.entry.kind == Kind::Folder)
            }
            Change::Put { .. } | Change::MakeFolder { .. } | Change::SetMode { .. } => false,
        };
        if alone {
            return Ok(at.max(1));
        }
    }
    Ok(proposals.len())
}

pub(super) fn is_full(disk: &rustix::fs::StatVfs) -> bool {
    // Some file systems do not tell.
    disk.f_blocks > 0
        && disk.f_bavail.saturating_mul(disk.f_frsize)
            < KEPT_FREE.min(disk.f_blocks.saturating_mul(disk.f_frsize) / 64)
}

pub(super) fn sync_file(staged: &Folder, name: &StagedName) -> Result<(), TreeError> {
    staged.open_read(name.as_str())?.file.sync_all().map_err(|e| TreeError::Io("sync the file", e))
}

/// Puts the names in all folders concerned on the disk. Where that fails, what was changed in the folder is taken back.
fn sync_parents(
    jobs: &mut [Job<'_>],
    parents: &mut FolderCache<'_>,
    staging: &Staging,
    quarantine: &mut Quarantine,
) {
    let concerned: BTreeSet<&TreePath> =
        jobs.iter().filter_map(|job| job.result.as_ref().ok()).flat_map(|a| &a.parents).collect();
    let concerned: Vec<TreePath> = concerned.into_iter().cloned().collect();
    let folders: Vec<_> =
        concerned.iter().map(|path| parents.get(path).and_then(Folder::try_clone)).collect();
    let results = parallel_map(&folders, |folder| match folder {
        Ok(folder) => folder.sync().map_err(|e| e.to_string()),
        Err(e) => Err(e.to_string()),
    });
    let broken = |path: &TreePath| {
        let at = concerned.binary_search(path).ok()?;
        results.get(at)?.as_ref().err().cloned()
    };
    for job in jobs.iter_mut().rev() {
        let Ok(applied) = &job.result else { continue };
        if let Some(error) = applied.parents.iter().find_map(broken) {
            applied.roll_back(parents, staging, quarantine);
            job.result = Err(TreeError::Io("sync the folder", io::Error::other(error)));
        }
    }
}

fn failure(change: &Change, error: &TreeError) -> Refusal {
    match paths(change).last() {
        Some(path) => refuse(path, error),
        None => Refusal::new(error.code(), error.public_text()),
    }
}
