//! Checks the proposals of sessions, syncs their staged content, and passes them to the replica.

use std::collections::VecDeque;

use log::error;
use relais_cluster::ChangeRequest;
use relais_cluster::replica::Event;
use relais_proto::{Change, ErrorCode, FolderId, Lsn, Refusal, ToMaster, TreePath};
use relais_storage::{CatalogError, CatalogStore, Proposal, StagedName, changes_unavailable_at};
use relais_tree::{MetaKind, TreeError};

use super::ReplicaDriver;
use crate::changes::commit::{is_full, sync_file};
use crate::changes::parallel::parallel_map;
use crate::changes::proposal_receiver::BATCH;
use relais_engine::refuse;

/// Most proposals that are on the way to the master or being applied. One batch is committed while
/// another one is applied.
const UNDER_WAY: usize = 2 * BATCH;

impl ReplicaDriver {
    /// Reads proposals from the channels.
    pub(super) fn take_proposals(
        &mut self,
        store: &CatalogStore,
        events: &mut VecDeque<Event>,
    ) -> Result<(), CatalogError> {
        self.receiver.accept();
        let gathered = self.receiver.gather(self.proposal_capacity());
        for channel in gathered.closed.into_iter().chain(self.pending_answers.take_lost()) {
            self.receiver.close(channel);
            events.extend(
                self.pending_answers.remove_channel(channel).into_iter().map(Event::SessionClosed),
            );
        }
        for (channel, put) in gathered.holders {
            self.ask_holders(channel, put);
        }
        if gathered.proposals.is_empty() {
            return Ok(());
        }
        let full = rustix::fs::fstatvfs(&self.root).is_ok_and(|disk| is_full(&disk));
        let unsynced = self.sync_staged(&gathered.proposals);
        for ((channel, proposal), unsynced) in gathered.proposals.into_iter().zip(unsynced) {
            let session = self.pending_answers.register(channel, &proposal.change);
            // If the content is missing here, it is taken from the upload, unless that is gone.
            let known = store
                .commit_of(proposal.id)?
                .filter(|commit| unsynced.is_some() || !self.replica.lacks().has(commit.version));
            let refusal = match known {
                Some(commit) => {
                    self.discard_unneeded(&proposal);
                    let answer = commit.answer_to(&proposal.change);
                    self.pending_answers.answer(session, answer, &self.receiver);
                    continue;
                }
                None if full && needs_room(&proposal.change) => {
                    Some(Refusal::new(ErrorCode::NoSpace, "the server's disk is full"))
                }
                None => unsynced.or_else(|| self.blocking_entry(&proposal.change)),
            };
            if let Some(refusal) = refusal {
                self.discard_unneeded(&proposal);
                self.pending_answers.answer(session, Err(refusal), &self.receiver);
                continue;
            }
            let Proposal { id, change, expect, keep_mode, staged, copies, .. } = proposal;
            // A change without content needs no copies; the journal is enough.
            let copies = match change {
                Change::Put { .. } if copies == 0 => self.scoreboard.copies(),
                Change::Put { .. } => copies,
                _ => 0,
            };
            if let (Some(staged), Change::Put { digest, .. }) = (staged, &change) {
                // An earlier process may have been killed after a put, so a staged file from before
                // the start may be the replaced content.
                if self.staged.insert(id, staged).is_none() {
                    self.checked.insert(id, *digest);
                }
            }
            events.push_back(Event::Proposed {
                session: Some(session),
                request: ChangeRequest { id, change, expect, keep_mode },
                copies,
            });
        }
        Ok(())
    }

    /// Returns how many more proposals the replica may get. It handles them in order, so the rest
    /// waits in the channels, where sessions take turns.
    pub(super) fn proposal_capacity(&self) -> usize {
        UNDER_WAY.saturating_sub(self.replica.under_way())
    }

    /// Asks the master for the holders of a content. Only the master knows all of them.
    fn ask_holders(&mut self, channel: u64, put: Lsn) {
        match self.link.filter(|_| self.link_announced) {
            Some(link) => {
                self.mailbox.send(link, ToMaster::FindHolders { put });
                self.holder_queries.entry(put).or_default().push(channel);
            }
            None => self.receiver.send_holders(channel, &[]),
        }
    }

    /// Passes the holders from the master to the sessions that asked.
    pub(super) fn send_holders(&mut self, put: Lsn, holders: &[FolderId]) {
        for channel in self.holder_queries.remove(&put).unwrap_or_default() {
            self.receiver.send_holders(channel, holders);
        }
    }

    /// Discards the staged content of a proposal that does not need it. A second connection may
    /// have sent it while the first proposal is pending.
    fn discard_unneeded(&self, proposal: &Proposal) {
        if let Some(staged) =
            proposal.staged.as_ref().filter(|_| !self.staged.contains_key(&proposal.id))
        {
            self.discard_upload(staged);
        }
    }

    /// Discards a staged upload and its row in the table. An earlier session may have left the row
    /// because the file was still there.
    pub(super) fn discard_upload(&self, staged: &StagedName) {
        self.staging.discard(staged);
        self.scoreboard.uploads().release(staged, &self.staging);
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
            let path = path_of(&proposals[at].1.change);
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
        let folder = &self.staging.staged;
        let synced = parallel_map(&unsynced, |(_, name, _)| sync_file(folder, name));
        for ((at, ..), result) in unsynced.into_iter().zip(synced) {
            if let Err(e) = result {
                failed(*at, &e);
            }
        }
        if let Err(e) = self.staging.staged.sync() {
            staged.iter().for_each(|(at, ..)| failed(*at, &e));
        }
        results
    }

    /// Returns why this disk cannot hold the result of a change. Other slaves do not know that.
    fn blocking_entry(&self, change: &Change) -> Option<Refusal> {
        let (Change::Put { path, .. }
        | Change::MakeFolder { path, .. }
        | Change::Move { to: path, .. }) = change
        else {
            return None;
        };
        let (parent, name) = path.split_last()?;
        let folder = match self.root.open_folder(&parent) {
            Ok(folder) => folder,
            // The master knows whether the folder exists.
            Err(TreeError::NotFound | TreeError::NotFolder) => return None,
            Err(e) => return self.refuse_storage(change, &parent, &e),
        };
        if let Err(e) = folder.check_writable() {
            return self.refuse_storage(change, &parent, &e);
        }
        let survey = folder.survey(name.as_bytes()).ok()?;
        let what = match survey.meta.kind {
            _ if survey.mount_point => "a mount point",
            MetaKind::Link => "a symbolic link",
            MetaKind::Special => "a device, FIFO or socket",
            MetaKind::File | MetaKind::Folder => return None,
        };
        Some(Refusal::at(path, ErrorCode::NotServed, format!("{what} has that name")))
    }
}

impl ReplicaDriver {
    /// Refuses a put that this slave cannot store. The other slaves can apply changes without
    /// content.
    fn refuse_storage(&self, change: &Change, at: &TreePath, e: &TreeError) -> Option<Refusal> {
        let Change::Put { path, .. } = change else { return None };
        let whose = if at == path { "" } else { "its folder: " };
        let reason = format!("this slave cannot store it: {whose}{}", e.reason());
        Some(Refusal::at(path, ErrorCode::NotServed, reason))
    }
}

fn needs_room(change: &Change) -> bool {
    matches!(change, Change::Put { .. } | Change::MakeFolder { .. })
}

fn path_of(change: &Change) -> TreePath {
    match change {
        Change::Put { path, .. }
        | Change::MakeFolder { path, .. }
        | Change::SetMode { path, .. }
        | Change::Remove { path, .. }
        | Change::Move { to: path, .. } => path.clone(),
        Change::Withdraw { .. } => TreePath::root(),
    }
}
