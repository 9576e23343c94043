//! The master's part in changes: which get a number, in which order, and who is told of them.
//!
//! Pure: an event and its consequences, as actions that the caller carries out in their order. Nothing is told to anybody before the
//! caller has said that it is in the journal. What the caller is asked to write has to be written whole or not at all.
//!
//! A master that has just started numbers nothing until every folder that it knows has joined, or the caller says that they had
//! time enough: one of them may have changes that this journal lacks. Where one has, nothing is numbered until a recovery.

mod copies;
mod holders;
mod linked_slaves;
mod master_state;
mod removal_records;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use relais_proto::{
    Change, ChangeId, ErrorCode, FairQueue, FolderId, LogEntry, Lsn, Refusal, limits,
};

pub use self::holders::Holders;
use self::linked_slaves::LinkedSlave;
pub use self::master_state::{HistoryRelation, IDS, MasterState, TAIL, TAIL_BYTES};
pub use self::removal_records::{REMOVALS, REMOVALS_PER_ACCOUNT, RemovalRecords};
pub(crate) use self::snapshot::{count, many};
use crate::message_budget::{ToMaster, ToSlave};
use crate::sequence::{ChangeRequest, SequenceResult, Sequencer};
use crate::slave::LinkId;
use crate::tree::Tree;

/// Most changes that are written together. As many of the longest have less than 9 MiB, which is less than a journal takes at once.
const BATCH: usize = 1024;

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A slave has said something. No link ever has the number of another.
    Received {
        /// The link it came on.
        link: LinkId,
        /// What it said.
        message: ToMaster,
    },
    /// A link is gone.
    LinkClosed {
        /// Which link.
        link: LinkId,
    },
    /// What was to be written is in the journal.
    Written,
    /// It could not be written. With `for_good` nothing can be until the master is started again.
    WriteFailed {
        /// Whether the journal is broken.
        for_good: bool,
        /// What askers are told.
        refusal: Refusal,
    },
    /// Since the start, all slaves had time to join.
    GraceEnded,
    /// An operator says that a folder will not come back.
    Forget {
        /// Which folder.
        folder: FolderId,
    },
}

/// Why nothing is numbered until an operator has recovered the cluster, or the master was started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HaltReason {
    /// The journal cannot be written.
    Broken,
    /// A slave has changes that this journal lacks.
    Behind,
    /// A slave has had other changes under the same numbers.
    Differs,
    /// A slave has followed a master with a higher epoch.
    Superseded,
}

impl HaltReason {
    /// Why, and what helps, for people.
    #[must_use]
    pub fn why(self) -> &'static str {
        match self {
            Self::Broken => {
                "the master's journal cannot be written, or was removed; the master's log says more"
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

/// What has to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write this to the journal; the answer is `Written` or `NotWritten`. There is never a second one before the answer.
    Write(Vec<LogEntry>),
    /// Tell a slave something.
    Send {
        /// Its link.
        link: LinkId,
        /// What.
        message: ToSlave,
    },
    /// Close a link. It counts as gone already.
    Close {
        /// Which link.
        link: LinkId,
    },
    /// Remember, for good, that this folder belongs to the cluster.
    AddFolder {
        /// Which folder.
        folder: FolderId,
    },
    /// Nothing is numbered any more. Say so, loudly.
    Halted(HaltReason),
    /// No folder that is known has this content, and it cannot be withdrawn. Say so.
    Lost {
        /// The put that brought it.
        put: Lsn,
    },
}

/// A change that waits for its number.
#[derive(Debug, Clone)]
struct QueuedProposal {
    /// Where it came from; none for a withdrawal.
    asker: Option<(LinkId, FolderId)>,
    request: ChangeRequest,
    found: bool,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Coordinator {
    state: MasterState,
    sequencer: Sequencer,
    holders: Holders,
    /// Contents of the tree that no folder is known to hold.
    homeless: BTreeSet<Lsn>,
    lost: BTreeSet<Lsn>,
    /// Puts that their own slave could not place: nobody was told that they are done.
    failed: BTreeSet<Lsn>,
    /// Puts that are to be withdrawn once these have given them up.
    asking: BTreeMap<Lsn, BTreeSet<LinkId>>,
    /// Puts whose withdrawal waits or is being written: what they replaced stays known.
    withdrawing: BTreeSet<Lsn>,
    peers: BTreeMap<LinkId, LinkedSlave>,
    /// All folders of the cluster, there or not.
    folders: BTreeSet<FolderId>,
    /// Those that did not join since the start. While there are any nothing is numbered.
    expected: BTreeSet<FolderId>,
    /// What waits: links take turns, and on each what sessions ask for and what was found in the folder.
    waiting: FairQueue<LinkId, bool, QueuedProposal>,
    /// What is numbered next.
    queue: VecDeque<QueuedProposal>,
    /// Being written, with the folders that hold the puts among them.
    writing: Vec<(LogEntry, Option<FolderId>)>,
    /// Changes that a slave asked about while they were under way.
    sought: Vec<(LinkId, ChangeId)>,
    /// Who wants to hear when how many disks have the content of a put; first by ids, until they have numbers.
    wanted: BTreeMap<ChangeId, (LinkId, u16)>,
    awaited: BTreeMap<Lsn, BTreeMap<LinkId, u16>>,
    halted: Option<HaltReason>,
    now_ms: u64,
}

impl Coordinator {
    /// Goes on from a journal. `folders` are all that belong to the cluster.
    #[must_use]
    pub fn new(state: MasterState, folders: BTreeSet<FolderId>) -> Self {
        Self {
            sequencer: Sequencer::new(state.last()),
            holders: Holders::default(),
            homeless: state.tree().puts().map(|(put, _)| put).collect(),
            lost: BTreeSet::new(),
            failed: BTreeSet::new(),
            asking: BTreeMap::new(),
            withdrawing: BTreeSet::new(),
            peers: BTreeMap::new(),
            expected: folders.clone(),
            folders,
            waiting: FairQueue::new(usize::MAX),
            queue: VecDeque::new(),
            writing: Vec::new(),
            sought: Vec::new(),
            wanted: BTreeMap::new(),
            awaited: BTreeMap::new(),
            halted: None,
            now_ms: 0,
            state,
        }
    }

    /// What is in the journal.
    #[must_use]
    pub fn state(&self) -> &MasterState {
        &self.state
    }

    /// To shorten it, or to forget what was removed long ago.
    pub fn state_mut(&mut self) -> &mut MasterState {
        &mut self.state
    }

    /// The tree as it is in the journal.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        self.state.tree()
    }

    /// Who holds what.
    #[must_use]
    pub fn holders(&self) -> &Holders {
        &self.holders
    }

    /// The last change in the journal.
    #[must_use]
    pub fn last(&self) -> Lsn {
        self.state.last()
    }

    /// Why nothing is numbered, where that is so.
    #[must_use]
    pub fn halted(&self) -> Option<HaltReason> {
        self.halted
    }

    /// Whether it still waits for folders that it knows.
    #[must_use]
    pub fn is_opening(&self) -> bool {
        !self.expected.is_empty()
    }

    /// Puts whose content no known folder has.
    pub fn lost(&self) -> impl Iterator<Item = Lsn> + '_ {
        self.lost.iter().copied()
    }

    /// What follows from an event. `now_ms` is the time in milliseconds since 1970, for people and for forgetting.
    pub fn on(&mut self, event: Event, now_ms: u64) -> Vec<Action> {
        self.now_ms = now_ms;
        let mut actions = Vec::new();
        match event {
            Event::Received { link, message } => self.heard(link, message, &mut actions),
            Event::LinkClosed { link } => self.left(link),
            Event::Written => self.written(&mut actions),
            Event::WriteFailed { for_good, refusal } => {
                self.not_written(for_good, &refusal, &mut actions)
            }
            Event::GraceEnded => self.expected.clear(),
            Event::Forget { folder } => self.forget(folder),
        }
        self.decide(&mut actions);
        self.write_next(&mut actions);
        self.answer_sought(&mut actions);
        self.tell_all(&mut actions);
        actions
    }

    fn heard(&mut self, link: LinkId, message: ToMaster, actions: &mut Vec<Action>) {
        if let ToMaster::Join { slave, folder, position } = message {
            return self.joined(link, slave, folder, &position, actions);
        }
        // Whoever has not joined, or was told to go, is not listened to.
        let Some(peer) = self.peers.get_mut(&link) else {
            return actions.push(Action::Close { link });
        };
        match message {
            ToMaster::Join { .. } => {}
            ToMaster::Ready => peer.ready = true,
            ToMaster::Applied { upto } => peer.applied = peer.applied.max(upto),
            ToMaster::MissingContents { upto, puts, last } => {
                self.lacks(link, upto, puts, last, actions)
            }
            ToMaster::Propose { request, found, copies } => {
                self.proposed(link, request, found, copies, actions)
            }
            ToMaster::QueryChange { id } => self.sought.push((link, id)),
            ToMaster::Holds { put, has } => self.holds(link, put, has, actions),
            ToMaster::PublishFailed { of } => {
                self.failed.insert(of);
                self.holds(link, of, false, actions);
            }
            ToMaster::GivenUp { put } => self.given_up(link, put),
            ToMaster::FindHolders { put } => {
                let holders = self.holders.of(put).take(limits::HOLDERS).collect();
                actions.push(Action::Send { link, message: ToSlave::Holders { put, holders } });
            }
        }
    }

    fn left(&mut self, link: LinkId) {
        if self.peers.remove(&link).is_some() {
            // Whoever is not there can come by content: all are asked again when it is back.
            self.asking.clear();
        }
        // What is in the journal counts all the same; what only waits is asked for again by its id.
        self.queue.retain(|waiting| waiting.asker.is_none_or(|(asker, _)| asker != link));
        self.waiting.retain(|asker, _, _| *asker != link);
        self.sought.retain(|(asker, _)| *asker != link);
        self.wanted.retain(|_, (asker, _)| *asker != link);
        self.awaited.values_mut().for_each(|links| {
            links.remove(&link);
        });
        self.awaited.retain(|_, links| !links.is_empty());
    }

    fn halt(&mut self, halt: HaltReason, actions: &mut Vec<Action>) {
        if self.halted.is_some() {
            return;
        }
        self.halted = Some(halt);
        actions.push(Action::Halted(halt));
        self.choose_next(usize::MAX);
        for waiting in std::mem::take(&mut self.queue) {
            answer(&waiting, Err(halt.refusal()), actions);
        }
    }

    fn proposed(
        &mut self,
        link: LinkId,
        request: ChangeRequest,
        found: bool,
        copies: u16,
        actions: &mut Vec<Action>,
    ) {
        let Some(peer) = self.peers.get(&link) else { return };
        let waiting = QueuedProposal { asker: Some((link, peer.folder)), request, found };
        if let Some(halt) = self.halted {
            let number = self.state.number_of(waiting.request.id);
            return answer(&waiting, number.ok_or_else(|| halt.refusal()), actions);
        }
        if copies > 1 {
            self.wanted.insert(waiting.request.id, (link, copies));
        }
        // There is no bound on it: links are read no faster than this.
        if let Err(waiting) = self.waiting.push(link, found, waiting) {
            self.queue.push_back(waiting);
        }
    }

    /// Has at most so many of those that wait numbered next.
    fn choose_next(&mut self, most: usize) {
        while self.queue.len() < most
            && let Some((.., waiting)) = self.waiting.pop()
        {
            self.queue.push_back(waiting);
        }
    }

    /// Numbers what waits, while nothing is being written.
    fn write_next(&mut self, actions: &mut Vec<Action>) {
        if !self.expected.is_empty() || self.halted.is_some() {
            return;
        }
        while self.writing.is_empty() {
            self.choose_next(BATCH);
            if self.queue.is_empty() {
                return;
            }
            self.refuse_removed(actions);
            self.spare_found();
            let request: Vec<ChangeRequest> = self
                .queue
                .iter()
                .take(self.together())
                .map(|waiting| waiting.request.clone())
                .collect();
            let Ok(verdicts) =
                self.sequencer.sequence(&request, &mut self.state.known, self.now_ms);
            for verdict in verdicts {
                let Some(waiting) = self.queue.pop_front() else { break };
                match verdict {
                    SequenceResult::Accepted(log_entry) => {
                        self.writing.push((log_entry, waiting.asker.map(|(_, folder)| folder)))
                    }
                    // One that is being written is answered when it is told.
                    SequenceResult::AlreadyCommitted(version) if version > self.last() => {}
                    SequenceResult::AlreadyCommitted(version)
                        if self.state.is_withdrawn(version) =>
                    {
                        self.wanted.remove(&waiting.request.id);
                        let why = format!(
                            "the content could not be stored; change {version} was withdrawn"
                        );
                        answer(&waiting, Err(Refusal::new(ErrorCode::Storage, why)), actions);
                    }
                    SequenceResult::AlreadyCommitted(version) => {
                        answer(&waiting, Ok(version), actions);
                        self.await_copies(waiting.request.id, version, actions);
                    }
                    SequenceResult::Refused(refusal) => {
                        self.wanted.remove(&waiting.request.id);
                        answer(&waiting, Err(refusal), actions);
                    }
                }
            }
            if !self.writing.is_empty() {
                actions.push(Action::Write(
                    self.writing.iter().map(|(log_entry, _)| log_entry.clone()).collect(),
                ));
            }
        }
    }

    /// How many of those that wait can be decided together: where content may go from a path, what was found there is decided afterwards.
    fn together(&self) -> usize {
        let (mut goes, mut put) = (false, BTreeSet::new());
        let apart = |waiting: &QueuedProposal| {
            let Change::Put { path, .. } = &waiting.request.change else {
                goes |= !matches!(
                    waiting.request.change,
                    Change::MakeFolder { .. } | Change::SetMode { .. }
                );
                return false;
            };
            let again = !put.insert(path.clone());
            waiting.found && (goes || again)
        };
        self.queue.iter().take(BATCH).position(apart).unwrap_or(BATCH)
    }

    /// What was found in a folder, and is what was once removed or replaced there, is an old copy.
    fn refuse_removed(&mut self, actions: &mut Vec<Action>) {
        let state = &self.state;
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
                format!("this content went from there with change {version}"),
            );
            answer(waiting, Err(refusal), actions);
            false
        });
    }

    fn written(&mut self, actions: &mut Vec<Action>) {
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
            self.find_homeless(version);
            self.await_copies(id, version, actions);
        }
    }

    fn not_written(&mut self, for_good: bool, refusal: &Refusal, actions: &mut Vec<Action>) {
        // Nobody has seen these numbers.
        self.sequencer = Sequencer::new(self.last());
        let writing = std::mem::take(&mut self.writing);
        for (log_entry, _) in &writing {
            if let Change::Withdraw { of } = log_entry.change {
                self.withdrawing.remove(&of);
                self.homeless.insert(of);
            }
        }
        let unwritten: BTreeSet<ChangeId> =
            writing.iter().map(|(log_entry, _)| log_entry.id).collect();
        for link in self.peers.keys() {
            for id in &unwritten {
                actions.push(Action::Send {
                    link: *link,
                    message: ToSlave::ProposalResult { id: *id, answer: Err(refusal.clone()) },
                });
            }
        }
        self.wanted.retain(|id, _| !unwritten.contains(id));
        if for_good {
            self.halt(HaltReason::Broken, actions);
        }
    }

    /// Answers who asked about changes that are under way no more.
    fn answer_sought(&mut self, actions: &mut Vec<Action>) {
        let (state, queue, writing) = (&self.state, &self.queue, &self.writing);
        let waiting = &self.waiting;
        self.sought.retain(|(link, id)| {
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
            actions.push(Action::Send {
                link: *link,
                message: ToSlave::ProposalResult { id: *id, answer },
            });
            false
        });
    }
}

fn answer(waiting: &QueuedProposal, answer: Result<Lsn, Refusal>, actions: &mut Vec<Action>) {
    if let Some((link, _)) = waiting.asker {
        actions.push(Action::Send {
            link,
            message: ToSlave::ProposalResult { id: waiting.request.id, answer },
        });
    }
}
