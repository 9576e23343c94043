//! Checks the proposals of sessions, syncs their staged content, and passes them to the replica.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use log::error;
use relais_cluster::ChangeRequest;
use relais_cluster::replica::Event;
use relais_proto::{Change, ErrorCode, Kind, LinkMessage, Refusal, ToMaster};
use relais_tree::{Folder, TreeError};

use super::blocking_entries::{BlockingEntries, is_unserved};
use super::driver::{HeldProposal, ReplicaDriver, StagedContent};
use super::messages::{Output, SessionRequests};
use crate::apply::FolderCache;
use crate::parallel::parallel_map;
use crate::{CatalogError, CatalogStore, Commit, Proposal, changes_unavailable_at, refuse};

/// Largest cost of a batch of proposals. A larger batch would delay its first changes.
pub const BATCH: usize = 256;
/// Bytes of the disk that are kept free of new files and folders; less of a small disk.
const KEPT_FREE: u64 = 256 * 1024;
/// Most proposals that are on the way to the master or being applied. One batch is committed while
/// another one is applied.
const UNDER_WAY: usize = 2 * BATCH;

/// Time that a change waits for a local change at its path to be numbered.
const HOLD: Duration = Duration::from_secs(5);

impl ReplicaDriver {
    /// Checks the proposals and other requests of sessions.
    pub(super) fn take_requests(
        &mut self,
        requests: SessionRequests,
        store: &CatalogStore,
    ) -> Result<(), CatalogError> {
        for channel in requests.closed {
            self.events.extend(
                self.pending_answers.remove_channel(channel).into_iter().map(Event::SessionClosed),
            );
        }
        for (channel, put) in requests.holders {
            // Only the master knows all holders.
            if self.link.is_some() && self.link_announced {
                self.send(LinkMessage::ToMaster(ToMaster::FindHolders { put }));
                self.holder_queries.entry(put).or_default().push(channel);
            } else {
                self.outputs.push(Output::Holders(channel, Vec::new()));
            }
        }
        let now = Instant::now();
        let unsynced = self.sync_staged(&requests.proposals);
        let mut waiting = std::mem::take(&mut self.held);
        waiting.retain(|held| self.pending_answers.change_of(held.session).is_some());
        for ((channel, proposal), unsynced) in requests.proposals.into_iter().zip(unsynced) {
            let session = self.pending_answers.register(channel, &proposal.change);
            waiting.push(HeldProposal { channel, session, proposal, unsynced, since: now });
        }
        if waiting.is_empty() {
            return Ok(());
        }
        // One read transaction for all; each of its own would take the locks of the database again.
        store.ask_together(|store| self.check_proposals(waiting, store))
    }

    /// Decides which proposals go to the coordinator, which are refused and which wait.
    fn check_proposals(
        &mut self,
        waiting: Vec<HeldProposal>,
        store: &CatalogStore,
    ) -> Result<(), CatalogError> {
        let mut paused = BTreeSet::new();
        let full = rustix::fs::fstatvfs(&self.disk.root).is_ok_and(|disk| is_full(&disk));
        let root = self.disk.root.clone();
        let mut blocking = BlockingEntries::new(&root, store);
        let mut targets = FolderCache::new(&root);
        for held in waiting {
            // Changes of one session are made in their order.
            if paused.contains(&held.channel) {
                self.held.push(held);
                continue;
            }
            // If the content is missing here, it is taken from the upload, unless that is gone.
            let (change, unsynced) = (&held.proposal.change, &held.unsynced);
            let known = store
                .commit_of(held.proposal.id)?
                .filter(|commit| unsynced.is_some() || !self.replica.missing().has(commit.version));
            let answer = match known {
                // The master counts the copies of content that the tree still has.
                Some(commit) if self.waits_for_copies(&held.proposal, commit, store)? => {
                    self.known.insert(held.proposal.id);
                    None
                }
                Some(commit) => Some(commit.answer_to(change)),
                None if full
                    && matches!(change, Change::Put { .. } | Change::MakeFolder { .. }) =>
                {
                    Some(Err(Refusal::new(ErrorCode::NoSpace, "the server's disk is full")))
                }
                None if unsynced.is_some() => unsynced.clone().map(Err),
                None if self.config.is_sole => {
                    self.propose_folders_of(change, &mut blocking)?;
                    let blocked = blocking.of(change)?;
                    if blocked.as_ref().is_some_and(|refusal| refusal.retry_after > 0)
                        && held.since.elapsed() < HOLD
                    {
                        paused.insert(held.channel);
                        self.held.push(held);
                        continue;
                    }
                    blocked.map(Err)
                }
                None => blocking_entry(change, &mut targets).map(Err),
            };
            let HeldProposal { session, proposal, .. } = held;
            if let Some(answer) = answer {
                // A second connection may have sent the content of a pending proposal again.
                if let Some(staged) = &proposal.staged
                    && !self.staged.contains_key(&proposal.id)
                {
                    self.discard_upload(staged);
                }
                self.answer(session, answer);
                continue;
            }
            let Proposal { id, change, expect, keep_mode, staged, copies, tokens, hashes, .. } =
                proposal;
            // A change without content needs no copies; the journal is enough. A standalone slave
            // has no others.
            let is_put = matches!(change, Change::Put { .. });
            let copies = if is_put && !self.config.is_sole { copies } else { 0 };
            if let (Some(staged), Change::Put { digest, .. }) = (staged, &change) {
                // An earlier process may have been killed after a put, so a staged file from before
                // the start may be the replaced content.
                let digest = self.staged.get(&id).map_or(Some(*digest), |former| former.digest);
                self.staged.insert(id, StagedContent { name: staged, digest, hashes });
            }
            self.events.push_back(Event::Proposed {
                session: Some(session),
                request: ChangeRequest { id, change, expect, keep_mode, tokens },
                copies,
            });
        }
        self.outputs.push(Output::PauseChannels(paused));
        Ok(())
    }

    /// Whether a put that was committed before has to be on more disks before it is answered.
    fn waits_for_copies(
        &self,
        proposal: &Proposal,
        commit: Commit,
        store: &CatalogStore,
    ) -> Result<bool, CatalogError> {
        let Change::Put { path, .. } = &proposal.change else { return Ok(false) };
        if proposal.copies <= 1
            || self.config.is_sole
            || commit.answer_to(&proposal.change).is_err()
        {
            return Ok(false);
        }
        Ok(store.row(path)?.is_some_and(|row| row.content == Some(commit.version)))
    }

    /// Returns how many more proposals the replica may get. It handles them in order, so the rest
    /// waits in the channels, where sessions take turns.
    #[must_use]
    pub fn proposal_capacity(&self) -> usize {
        UNDER_WAY.saturating_sub(self.replica.under_way())
    }

    /// Syncs staged content. Returns the refusal for each proposal whose content cannot be synced.
    fn sync_staged(&self, proposals: &[(u64, Proposal)]) -> Vec<Option<Refusal>> {
        let mut results = vec![None; proposals.len()];
        let staged: Vec<_> = proposals
            .iter()
            .enumerate()
            .filter_map(|(at, (_, proposal))| {
                Some((at, proposal.staged.as_ref()?, proposal.synced))
            })
            .collect();
        if staged.is_empty() {
            return results;
        }
        let mut failed = |at: usize, e: &TreeError| {
            let path = proposals[at].1.change.paths().next().cloned().unwrap_or_default();
            results[at] = Some(match e {
                // The file was discarded after an earlier result of the same change.
                TreeError::NotFound => {
                    changes_unavailable_at(&path, "its uploaded content is gone")
                }
                _ => {
                    error!("cannot sync a staged file: {e}");
                    refuse(&path, e)
                }
            });
        };
        let unsynced: Vec<_> = staged.iter().filter(|(_, _, synced)| !synced).collect();
        let folder = &self.disk.staging.staged;
        let synced = parallel_map(&unsynced, |(_, name, _)| {
            let file = folder.open_read(name.to_string())?.file;
            file.sync_all().map_err(|e| TreeError::Io("sync the file", e))
        });
        for ((at, ..), result) in unsynced.into_iter().zip(synced) {
            if let Err(e) = result {
                failed(*at, &e);
            }
        }
        if let Err(e) = self.disk.staging.staged.sync() {
            staged.iter().for_each(|(at, ..)| failed(*at, &e));
        }
        results
    }

    /// Proposes new local folders at and above the paths of a change, so that they are numbered
    /// before it.
    fn propose_folders_of(
        &mut self,
        change: &Change,
        known: &mut BlockingEntries<'_>,
    ) -> Result<(), CatalogError> {
        for path in change.paths() {
            let mut new = Vec::new();
            let mut at = Some(path.clone());
            while let Some(path) = at.filter(|path| !path.is_root()) {
                let row = known.row(&path)?;
                if row.as_ref().is_some_and(|row| row.entry.version.is_some()) {
                    break;
                }
                at = path.split_last().map(|(parent, _)| parent);
                let folder = row.filter(|row| row.entry.kind == Kind::Folder);
                new.extend(folder.map(|row| (path, row.entry.mode)));
            }
            for (path, mode) in new.into_iter().rev() {
                if !self.local_changes.by_path.contains_key(&path) {
                    self.events.extend(self.local_changes.add_folder(path, mode));
                }
            }
        }
        Ok(())
    }
}

/// Returns why this disk cannot hold the result of a change. Other slaves do not know that.
///
/// A folder of `targets` is checked once, for all changes in it.
fn blocking_entry(change: &Change, targets: &mut FolderCache<'_>) -> Option<Refusal> {
    let (Change::Put { path, .. }
    | Change::MakeFolder { path, .. }
    | Change::Move { to: path, .. }) = change
    else {
        return None;
    };
    let (parent, name) = path.split_last()?;
    match targets.get_checked(&parent, Folder::check_writable) {
        Ok(folder) => is_unserved(path, &folder.survey(name.as_bytes()).ok()?),
        // The master knows whether the folder exists.
        Err(TreeError::NotFound | TreeError::NotFolder) => None,
        Err(e) if matches!(change, Change::Put { .. }) => {
            let reason = format!("this slave cannot store it: its folder: {}", e.reason());
            Some(Refusal::at(path, ErrorCode::NotServed, reason))
        }
        // The other slaves can apply changes without content.
        Err(_) => None,
    }
}

/// Returns whether the disk has hardly any space or no inode. The rest is for the journal and the
/// catalogue, and so for changes that remove something.
fn is_full(disk: &rustix::fs::StatVfs) -> bool {
    // Some file systems do not report their size.
    disk.f_files > 0 && disk.f_favail == 0
        || disk.f_blocks > 0
            && disk.f_bavail.saturating_mul(disk.f_frsize)
                < KEPT_FREE.min(disk.f_blocks.saturating_mul(disk.f_frsize) / 64)
}
