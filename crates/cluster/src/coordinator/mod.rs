//! Master side of replication: numbers changes, orders them and sends them to the slaves.
//!
//! Pure: an event leads to actions, which the caller executes in their order. No change is sent
//! before the caller has confirmed that it is in the journal. The caller must write each batch
//! completely or not at all.
//!
//! A master that has just started numbers nothing until all known folders have joined or the grace
//! period has ended, because one of them may have changes that this journal does not have. If one
//! has, nothing is numbered until a recovery.

mod annotation_transfer;
mod copies;
mod folder_set;
mod holders;
mod linked_slave;
mod linked_slaves;
mod locate;
mod located_entry;
mod master_state;
mod removal_records;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Weak;

use relais_proto::{
    Change, ChangeId, ErrorCode, FairQueue, FolderId, LogEntry, Lsn, Refusal, limits, wire_enum,
};

pub use self::annotation_transfer::AnnotationTransfer;
pub use self::holders::Holders;
use self::linked_slave::{LinkedSlave, TreeCopy};
pub use self::located_entry::LocatedEntry;
pub use self::master_state::{HistoryRelation, IDS, MasterState, TAIL, TAIL_BYTES};
pub use self::removal_records::{REMOVALS, REMOVALS_PER_ACCOUNT, RemovalRecords};
use crate::message_budget::{ToMaster, ToSlave};
use crate::packed_map::PackedMap;
use crate::sequence::{ChangeRequest, SequenceResult, Sequencer};
use crate::slave::LinkId;
use crate::tree::Tree;

/// Highest number of changes in one write.
///
/// The paths of 1,024 changes take less than 9 MiB. With [`BATCH_EXTRA`] they are below the
/// journal's limit.
const BATCH: usize = 1024;
/// Highest number of bytes beside the paths in the changes of one write.
const BATCH_EXTRA: usize = 4 * 1024 * 1024;

wire_enum! {
    /// Input of the coordinator. The tags are those of recordings.
    #[allow(missing_docs, reason = "the names of the fields say what they hold")]
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub enum CoordinatorEvent: "event of a master" {
        /// A slave has sent a message. No two links have the same number.
        0 => Received { link: LinkId, message: ToMaster },
        /// A link is closed.
        1 => LinkClosed { link: LinkId },
        /// The last batch is in the journal.
        2 => Written,
        /// The last batch could not be written.
        3 => WriteFailed {
            /// Whether the journal is unusable until the master is restarted.
            for_good: bool,
            /// Refusal for the clients, without a path.
            refusal: Refusal,
        },
        /// The grace period after the start has ended.
        4 => GraceEnded,
        /// An operator has removed a folder for good.
        5 => Forget { folder: FolderId },
        /// Old records are dropped. No action follows.
        6 => Trim(Trimmed),
    }

    /// Records that the coordinator drops.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Trimmed: "dropped records" {
        /// [`MasterState::forget_removed`] before this time.
        0 => RemovalRecords(u64),
        /// [`MasterState::forget_ids`] up to this change.
        1 => Ids(Lsn),
        /// [`MasterState::shorten`] up to this change.
        2 => Changes(Lsn),
    }
}

/// Reason why no changes are numbered until a recovery or a restart of the master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HaltReason {
    /// The journal cannot be written.
    Broken,
    /// A slave has changes that this journal does not have.
    Behind,
    /// A slave has other changes under the same numbers.
    Differs,
    /// A slave has followed a master with a higher epoch.
    Superseded,
}

impl HaltReason {
    /// Returns the reason and the remedy, for people.
    #[must_use]
    pub fn why(self) -> &'static str {
        match self {
            Self::Broken => {
                "the journal cannot be written, or was removed; the log of its server says more"
            }
            Self::Behind => {
                "the master's journal lacks changes that a slave has; run ftpmaster recover"
            }
            Self::Differs => "a slave has had other changes than the master; run ftpmaster recover",
            Self::Superseded => "a later master has taken over",
        }
    }

    fn refusal(self) -> Refusal {
        Refusal::new(ErrorCode::NoChanges, format!("changes are not possible now: {}", self.why()))
    }
}

/// Output of the coordinator.
#[allow(missing_docs, reason = "the names of the fields say what they hold")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CoordinatorAction {
    /// Write this batch to the journal.
    ///
    /// The answer is `Written` or `WriteFailed`. There is no second batch before the answer.
    Write(Vec<LogEntry>),
    /// Send a message to a slave.
    Send { link: LinkId, message: ToSlave },
    /// Close a link. The coordinator already treats it as closed.
    Close { link: LinkId },
    /// Record durably that this folder belongs to the cluster.
    AddFolder { folder: FolderId },
    /// No changes are numbered any more. Report it prominently.
    Halted(HaltReason),
    /// No known folder holds this content, and it cannot be withdrawn. Report it.
    Lost { put: Lsn },
}

/// A proposal that waits for its number.
#[derive(Debug, Clone)]
struct QueuedProposal {
    /// Link and folder of the proposal; `None` for a withdrawal.
    asker: Option<(LinkId, FolderId)>,
    request: ChangeRequest,
    found: bool,
}

impl QueuedProposal {
    /// Whether the change has happened in a folder, so that no lock counts.
    ///
    /// A standalone slave proposes what it finds as requests, but with the account of no session.
    fn is_local(&self) -> bool {
        self.found || self.request.id.account() == 0
    }
}

/// State machine of the master; see the module.
#[derive(Debug, Clone)]
pub struct Coordinator {
    state: MasterState,
    sequencer: Sequencer,
    holders: Holders,
    /// Contents of the tree without a known holder.
    without_holder: PackedMap<Lsn, ()>,
    lost: BTreeSet<Lsn>,
    /// Puts that their own slave could not publish; no client got a success for them.
    failed: BTreeSet<Lsn>,
    /// Puts that are withdrawn once these links have given them up.
    giving_up: BTreeMap<Lsn, BTreeSet<LinkId>>,
    /// Puts whose withdrawal waits or is being written. Their replaced entries stay known.
    withdrawing: BTreeSet<Lsn>,
    peers: BTreeMap<LinkId, LinkedSlave>,
    /// Links that may get a message although there is no new change.
    woken: BTreeSet<LinkId>,
    /// Last change that was offered to all ready links.
    offered: Lsn,
    /// The tree that comparing slaves get, while one of them still receives it.
    copy: Weak<TreeCopy>,
    /// All folders of the cluster, connected or not.
    folders: BTreeSet<FolderId>,
    /// Folders that have not joined since the start. Nothing is numbered while there are any.
    expected: BTreeSet<FolderId>,
    /// Waiting proposals: round robin by link, and on each link by sessions and local changes.
    waiting: FairQueue<LinkId, bool, QueuedProposal>,
    /// Proposals to number next.
    queue: VecDeque<QueuedProposal>,
    /// Changes of the current batch, with the folders that hold their contents.
    writing: Vec<(LogEntry, Option<FolderId>)>,
    /// Queries about changes that are not decided yet.
    queries: Vec<(LinkId, ChangeId)>,
    /// Links that wait for copies of a put, by id until the put has a number.
    wanted: BTreeMap<ChangeId, (LinkId, u16)>,
    awaited: BTreeMap<Lsn, BTreeMap<LinkId, u16>>,
    halted: Option<HaltReason>,
    now_ms: u64,
    /// Actions of the current event.
    actions: Actions,
}

/// Actions in the order of their execution.
#[derive(Debug, Clone, Default)]
struct Actions(Vec<CoordinatorAction>);

impl Actions {
    fn push(&mut self, action: CoordinatorAction) {
        self.0.push(action);
    }

    fn send(&mut self, link: LinkId, message: ToSlave) {
        self.push(CoordinatorAction::Send { link, message });
    }

    /// Answers a proposal. A withdrawal needs no answer.
    fn answer(&mut self, waiting: &QueuedProposal, answer: Result<Lsn, Refusal>) {
        if let Some((link, _)) = waiting.asker {
            self.send(link, ToSlave::ProposalResult { id: waiting.request.id, answer });
        }
    }
}

impl Coordinator {
    /// Continues from the journal's state. `folders` are all folders of the cluster.
    #[must_use]
    pub fn new(state: MasterState, folders: BTreeSet<FolderId>) -> Self {
        Self {
            sequencer: Sequencer::new(state.last()),
            holders: Holders::tracking(state.tree().puts().map(|(put, _)| put)),
            without_holder: state.tree().puts().map(|(put, _)| (put, ())).collect(),
            lost: BTreeSet::new(),
            failed: BTreeSet::new(),
            giving_up: BTreeMap::new(),
            withdrawing: BTreeSet::new(),
            peers: BTreeMap::new(),
            woken: BTreeSet::new(),
            offered: state.last(),
            copy: Weak::new(),
            expected: folders.clone(),
            folders,
            waiting: FairQueue::new(usize::MAX),
            queue: VecDeque::new(),
            writing: Vec::new(),
            queries: Vec::new(),
            wanted: BTreeMap::new(),
            awaited: BTreeMap::new(),
            halted: None,
            now_ms: 0,
            actions: Actions::default(),
            state,
        }
    }

    /// Returns the state of the journal.
    #[must_use]
    pub fn state(&self) -> &MasterState {
        &self.state
    }

    /// Returns the tree as of the journal.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        self.state.tree()
    }

    /// Returns the holders of all contents.
    #[must_use]
    pub fn holders(&self) -> &Holders {
        &self.holders
    }

    /// Returns the last change in the journal.
    #[must_use]
    pub fn last(&self) -> Lsn {
        self.state.last()
    }

    /// Returns the reason of a halt, if there is one.
    #[must_use]
    pub fn halted(&self) -> Option<HaltReason> {
        self.halted
    }

    /// Returns whether it still waits for known folders to join.
    #[must_use]
    pub fn is_opening(&self) -> bool {
        !self.expected.is_empty()
    }

    /// Iterates over the puts whose content no known folder holds.
    pub fn lost(&self) -> impl Iterator<Item = Lsn> + '_ {
        self.lost.iter().copied()
    }

    /// Handles an event and returns the actions.
    ///
    /// `now_ms` is the time in milliseconds since 1970 UTC, for display and expiry.
    pub fn on(&mut self, event: CoordinatorEvent, now_ms: u64) -> Vec<CoordinatorAction> {
        self.now_ms = now_ms;
        match event {
            CoordinatorEvent::Received { link, message } => self.received(link, message),
            CoordinatorEvent::LinkClosed { link } => self.left(link),
            CoordinatorEvent::Written => self.written(),
            CoordinatorEvent::WriteFailed { for_good, refusal } => {
                self.not_written(for_good, &refusal)
            }
            CoordinatorEvent::GraceEnded => self.expected.clear(),
            CoordinatorEvent::Forget { folder } => self.forget(folder),
            CoordinatorEvent::Trim(trimmed) => {
                match trimmed {
                    Trimmed::RemovalRecords(before_ms) => self.state.forget_removed(before_ms),
                    Trimmed::Ids(upto) => self.state.forget_ids(upto),
                    Trimmed::Changes(upto) => self.state.shorten(upto),
                }
                return Vec::new();
            }
        }
        self.decide();
        self.write_next();
        self.answer_queries();
        self.send_changes();
        std::mem::take(&mut self.actions.0)
    }

    fn received(&mut self, link: LinkId, message: ToMaster) {
        if let ToMaster::Join { slave, folder, position } = message {
            return self.joined(link, slave, folder, &position);
        }
        // Messages of links that have not joined, or were closed, are ignored.
        let Some(peer) = self.peers.get_mut(&link) else {
            return self.actions.push(CoordinatorAction::Close { link });
        };
        match message {
            ToMaster::Join { .. } => {}
            ToMaster::Ready => {
                peer.ready = true;
                self.woken.insert(link);
            }
            ToMaster::Applied { upto } => peer.applied = peer.applied.max(upto),
            ToMaster::MissingContents { upto, puts, last } => {
                self.record_missing(link, upto, puts, last)
            }
            ToMaster::Propose { request, found, copies } => {
                self.proposed(link, request, found, copies)
            }
            ToMaster::QueryChange { id } => self.queries.push((link, id)),
            ToMaster::Holds { put, has } => self.holds(link, put, has),
            ToMaster::PublishFailed { of } => {
                self.failed.insert(of);
                self.holds(link, of, false);
            }
            ToMaster::GivenUp { put } => self.given_up(link, put),
            ToMaster::FindHolders { put } => {
                let holders = self.holders.of(put).take(limits::HOLDERS).collect();
                self.actions.send(link, ToSlave::Holders { put, holders });
            }
        }
    }

    fn left(&mut self, link: LinkId) {
        if self.peers.remove(&link).is_some() {
            // An absent slave can obtain content, so all slaves are asked again when it is back.
            self.giving_up.clear();
        }
        // Journaled changes stay valid. The slave repeats its waiting proposals by their ids.
        self.queue.retain(|waiting| waiting.asker.is_none_or(|(asker, _)| asker != link));
        self.waiting.retain(|asker, _, _| *asker != link);
        self.queries.retain(|(asker, _)| *asker != link);
        self.wanted.retain(|_, (asker, _)| *asker != link);
        self.awaited.values_mut().for_each(|links| {
            links.remove(&link);
        });
        self.awaited.retain(|_, links| !links.is_empty());
    }

    fn halt(&mut self, halt: HaltReason) {
        if self.halted.is_some() {
            return;
        }
        self.halted = Some(halt);
        self.actions.push(CoordinatorAction::Halted(halt));
        self.choose_next(usize::MAX);
        for waiting in std::mem::take(&mut self.queue) {
            self.actions.answer(&waiting, Err(halt.refusal()));
        }
    }

    fn proposed(&mut self, link: LinkId, request: ChangeRequest, found: bool, copies: u16) {
        let Some(peer) = self.peers.get(&link) else { return };
        let waiting = QueuedProposal { asker: Some((link, peer.folder)), request, found };
        if let Some(halt) = self.halted {
            let number = self.state.number_of(waiting.request.id);
            return self.actions.answer(&waiting, number.ok_or_else(|| halt.refusal()));
        }
        if copies > 1 {
            self.wanted.insert(waiting.request.id, (link, copies));
        }
        // The queue has no limit, because the links are not read any faster than this.
        if let Err(waiting) = self.waiting.push(link, found, waiting) {
            self.queue.push_back(waiting);
        }
    }

    /// Moves at most `most` waiting proposals to the next batch.
    fn choose_next(&mut self, most: usize) {
        while self.queue.len() < most
            && let Some((.., waiting)) = self.waiting.pop()
        {
            self.queue.push_back(waiting);
        }
    }

    /// Numbers the waiting proposals, unless a batch is being written.
    fn write_next(&mut self) {
        if !self.expected.is_empty() || self.halted.is_some() {
            return;
        }
        while self.writing.is_empty() {
            self.choose_next(BATCH);
            if self.queue.is_empty() {
                return;
            }
            self.refuse_removed();
            self.spare_found();
            let together = self.together();
            let requests = self.queue.iter().take(together);
            let requests = requests.map(|waiting| (&waiting.request, waiting.is_local()));
            let verdicts = self.sequencer.sequence(requests, &mut self.state.known, self.now_ms);
            for verdict in verdicts {
                let Some(waiting) = self.queue.pop_front() else { break };
                match verdict {
                    SequenceResult::Accepted(log_entry) => {
                        self.writing.push((log_entry, waiting.asker.map(|(_, folder)| folder)))
                    }
                    // A change of the current batch is answered when it is committed.
                    SequenceResult::AlreadyCommitted(version) if version > self.last() => {}
                    SequenceResult::AlreadyCommitted(version)
                        if self.state.is_withdrawn(version) =>
                    {
                        self.wanted.remove(&waiting.request.id);
                        let why = format!(
                            "the content could not be stored; change {version} was withdrawn"
                        );
                        let refusal = Refusal::new(ErrorCode::Storage, why);
                        self.actions.answer(&waiting, Err(refusal));
                    }
                    SequenceResult::AlreadyCommitted(version) => {
                        self.actions.answer(&waiting, Ok(version));
                        self.await_copies(waiting.request.id, version);
                    }
                    SequenceResult::Refused(refusal) => {
                        self.wanted.remove(&waiting.request.id);
                        self.actions.answer(&waiting, Err(refusal));
                    }
                }
            }
            if !self.writing.is_empty() {
                self.actions.push(CoordinatorAction::Write(
                    self.writing.iter().map(|(log_entry, _)| log_entry.clone()).collect(),
                ));
            }
        }
    }

    /// Returns how many proposals can be decided together, at least one.
    ///
    /// A local change at a path that may lose content is decided in a later batch.
    fn together(&self) -> usize {
        let (mut goes, mut put, mut extra) = (false, BTreeSet::new(), 0);
        let apart = |waiting: &QueuedProposal| {
            extra += waiting.request.change.extra_bytes();
            if extra > BATCH_EXTRA {
                return true;
            }
            let Change::Put { path, .. } = &waiting.request.change else {
                goes |= matches!(
                    waiting.request.change,
                    Change::Remove { .. } | Change::Move { .. } | Change::Withdraw { .. }
                );
                return false;
            };
            let again = !put.insert(path.clone());
            waiting.found && (goes || again)
        };
        self.queue.iter().take(BATCH).position(apart).unwrap_or(BATCH)
    }

    /// Refuses local changes that bring back removed or replaced content: they are old copies.
    fn refuse_removed(&mut self) {
        let (state, actions) = (&self.state, &mut self.actions);
        self.queue.retain(|waiting| {
            let Change::Put { path, digest, .. } = &waiting.request.change else { return true };
            let Some(version) = state
                .removed(path, *digest)
                .filter(|_| waiting.found && state.number_of(waiting.request.id).is_none())
            else {
                return true;
            };
            let refusal = Refusal::at(
                path,
                ErrorCode::Changed,
                format!("change {version} has removed this content from this path"),
            );
            actions.answer(waiting, Err(refusal));
            false
        });
    }

    fn written(&mut self) {
        for (log_entry, folder) in std::mem::take(&mut self.writing) {
            if let Change::Withdraw { of } = log_entry.change {
                self.withdrawing.remove(&of);
            }
            let (version, id) = (log_entry.version, log_entry.id);
            let is_put = matches!(log_entry.change, Change::Put { .. });
            self.drop_contents(log_entry);
            if let (true, Some(folder)) = (is_put, folder) {
                self.holders.add(version, folder);
            }
            self.find_without_holder(version);
            self.await_copies(id, version);
        }
    }

    fn not_written(&mut self, for_good: bool, refusal: &Refusal) {
        // No other server has seen these numbers.
        self.sequencer = Sequencer::new(self.last());
        let writing = std::mem::take(&mut self.writing);
        for (log_entry, _) in &writing {
            if let Change::Withdraw { of } = log_entry.change {
                self.withdrawing.remove(&of);
                self.without_holder.insert(&of, &());
            }
        }
        let unwritten: BTreeSet<ChangeId> =
            writing.iter().map(|(log_entry, _)| log_entry.id).collect();
        for link in self.peers.keys() {
            for id in &unwritten {
                let answer = Err(refusal.clone());
                self.actions.send(*link, ToSlave::ProposalResult { id: *id, answer });
            }
        }
        self.wanted.retain(|id, _| !unwritten.contains(id));
        if for_good {
            self.halt(HaltReason::Broken);
        }
    }

    /// Answers the queries about changes that are decided now.
    fn answer_queries(&mut self) {
        // A failed journal may hold changes that this process does not count.
        if self.halted == Some(HaltReason::Broken) {
            return;
        }
        let (state, queue, writing) = (&self.state, &self.queue, &self.writing);
        let (waiting, actions) = (&self.waiting, &mut self.actions);
        self.queries.retain(|(link, id)| {
            let number = state.number_of(*id);
            if number.is_none()
                && (queue.iter().any(|waiting| waiting.request.id == *id)
                    || waiting.iter().any(|(.., waiting)| waiting.request.id == *id)
                    || writing.iter().any(|(log_entry, _)| log_entry.id == *id))
            {
                return true;
            }
            let answer =
                number.ok_or_else(|| Refusal::new(ErrorCode::NotFound, "no such change was made"));
            actions.send(*link, ToSlave::ProposalResult { id: *id, answer });
            false
        });
    }
}
