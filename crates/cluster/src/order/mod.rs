//! The master's part in changes: which get a number, in which order, and who is told of them.
//!
//! Pure: an event and its consequences, as actions that the caller carries out. Nothing is told to anybody before the
//! caller has said that it is in the journal. What the caller is asked to write has to be written whole or not at all.

mod holders;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use relais_proto::{Change, ChangeId, ErrorCode, FolderId, Numbered, Refusal, SlaveId, Version};

pub use self::holders::Holders;
use crate::sequence::{Asked, Sequencer, Verdict};
use crate::slave::LinkId;
use crate::tree::{Known, Tree};

/// Most changes that are written together.
const BATCH: usize = 1024;
/// Most changes that are sent to a slave at once.
const PAGE: usize = 256;
/// Most changes kept for slaves that were away. One that is further behind compares trees.
pub const TAIL: usize = 100_000;

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A slave is there, with all changes up to `applied`.
    Joined {
        /// Which slave.
        slave: SlaveId,
        /// The link it came on.
        link: LinkId,
        /// The folder that it serves.
        folder: FolderId,
        /// The last change that it has applied.
        applied: Version,
    },
    /// A link is gone.
    Left {
        /// Which link.
        link: LinkId,
    },
    /// A slave asks for a change. The content of a put is on its disk.
    Proposed {
        /// Its link.
        link: LinkId,
        /// The change.
        asked: Asked,
    },
    /// What was to be written is in the journal.
    Written,
    /// It could not be written. With `for_good` nothing can be until the master is started again.
    NotWritten {
        /// Whether the journal is broken.
        for_good: bool,
        /// What askers are told.
        refusal: Refusal,
    },
    /// A slave has applied all changes up to this one.
    Applied {
        /// Its link.
        link: LinkId,
        /// The last of them.
        upto: Version,
    },
    /// A slave has the content of a put on its disk, or has it no more.
    Holds {
        /// Its link.
        link: LinkId,
        /// The put.
        put: Version,
        /// Whether it has it.
        has: bool,
    },
    /// A slave could not carry out a change that it asked for; the former state is still there.
    Failed {
        /// Its link.
        link: LinkId,
        /// The change.
        of: Version,
        /// The id for the change that withdraws it.
        id: ChangeId,
    },
    /// A slave has taken what it was last sent and can take more.
    Ready {
        /// Its link.
        link: LinkId,
    },
}

/// A change as a slave is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The change.
    pub numbered: Numbered,
    /// For a put: the folders that hold its content.
    pub holders: Vec<FolderId>,
}

/// What has to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write this to the journal; the answer is `Written` or `NotWritten`. There is never a second one before the answer.
    Write(Vec<Numbered>),
    /// Tell a slave of changes, in order. It says `Ready` when it can take more.
    Tell {
        /// Its link.
        link: LinkId,
        /// The next changes for it.
        changes: Vec<Told>,
    },
    /// Answer a slave that asked for a change which gets no new number.
    Answer {
        /// Its link.
        link: LinkId,
        /// The change.
        id: ChangeId,
        /// The number that it has already, or why it gets none.
        answer: Result<Version, Refusal>,
    },
    /// The journal does not reach back to where this slave is: it has to compare trees.
    Compare {
        /// Its link.
        link: LinkId,
    },
}

/// A slave that is there.
#[derive(Debug, Clone)]
struct Peer {
    slave: SlaveId,
    folder: FolderId,
    /// The last change that it was told of.
    told: Version,
    /// The last change that it has applied.
    applied: Version,
    /// Whether it can be sent more.
    ready: bool,
}

/// A change that waits for its number.
#[derive(Debug, Clone)]
struct Waiting {
    link: LinkId,
    folder: Option<FolderId>,
    asked: Asked,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Order {
    known: Known,
    sequencer: Sequencer,
    holders: Holders,
    peers: BTreeMap<LinkId, Peer>,
    queue: VecDeque<Waiting>,
    /// Being written, with the folders that hold the puts among them.
    writing: Vec<(Numbered, Option<FolderId>)>,
    /// The latest changes, oldest first.
    tail: VecDeque<Numbered>,
    /// The last change that is not kept any more.
    base: Version,
    broken: bool,
    now_ms: u64,
}

impl Default for Order {
    fn default() -> Self {
        Self {
            known: Known::default(),
            sequencer: Sequencer::new(Version::default()),
            holders: Holders::default(),
            peers: BTreeMap::new(),
            queue: VecDeque::new(),
            writing: Vec::new(),
            tail: VecDeque::new(),
            base: Version::default(),
            broken: false,
            now_ms: 0,
        }
    }
}

impl Order {
    /// Takes a change from the journal, at the start: before any event.
    pub fn recover(&mut self, numbered: Numbered) {
        self.sequencer = Sequencer::new(numbered.version);
        self.keep(numbered);
    }

    /// The tree as it is in the journal.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.known.tree
    }

    /// Who holds what.
    #[must_use]
    pub fn holders(&self) -> &Holders {
        &self.holders
    }

    /// The last change in the journal.
    #[must_use]
    pub fn last(&self) -> Version {
        self.known.tree.last()
    }

    /// The last change that the slave on this link has applied.
    #[must_use]
    pub fn applied(&self, link: LinkId) -> Option<Version> {
        self.peers.get(&link).map(|peer| peer.applied)
    }

    /// What follows from an event. `now_ms` is the time in milliseconds since 1970, for people.
    pub fn on(&mut self, event: Event, now_ms: u64) -> Vec<Action> {
        self.now_ms = now_ms;
        let mut actions = Vec::new();
        match event {
            Event::Joined { slave, link, folder, applied } => {
                self.joined(Peer { slave, folder, told: applied, applied, ready: true }, link, &mut actions)
            }
            Event::Left { link } => self.left(link),
            Event::Proposed { link, asked } => self.proposed(link, asked, &mut actions),
            Event::Written => self.written(),
            Event::NotWritten { for_good, refusal } => self.not_written(for_good, &refusal, &mut actions),
            Event::Applied { link, upto } => self.applied_upto(link, upto),
            Event::Holds { link, put, has } => self.holds(link, put, has),
            Event::Failed { link, of, id } => self.failed(link, of, id),
            Event::Ready { link } => {
                if let Some(peer) = self.peers.get_mut(&link) {
                    peer.ready = true;
                }
            }
        }
        self.write_next(&mut actions);
        self.tell_all(&mut actions);
        actions
    }

    fn joined(&mut self, peer: Peer, link: LinkId, actions: &mut Vec<Action>) {
        let reaches = peer.applied >= self.base;
        // What nobody here has numbered came from another master, or from a journal that was lost.
        let foreign = peer.applied > self.last();
        self.peers.retain(|_, other| other.slave != peer.slave);
        if !reaches || foreign {
            actions.push(Action::Compare { link });
            return;
        }
        self.peers.insert(link, peer);
    }

    fn left(&mut self, link: LinkId) {
        self.peers.remove(&link);
        // What is in the journal counts all the same; what only waits is asked for again by its id.
        self.queue.retain(|waiting| waiting.link != link);
    }

    fn proposed(&mut self, link: LinkId, asked: Asked, actions: &mut Vec<Action>) {
        let Some(peer) = self.peers.get(&link) else { return };
        if self.broken {
            let refusal = Refusal::new(ErrorCode::NoChanges, "changes are not possible now: the master's journal cannot be written");
            actions.push(Action::Answer { link, id: asked.id, answer: Err(refusal) });
            return;
        }
        self.queue.push_back(Waiting { link, folder: Some(peer.folder), asked });
    }

    /// Numbers what waits, while nothing is being written.
    fn write_next(&mut self, actions: &mut Vec<Action>) {
        while self.writing.is_empty() && !self.queue.is_empty() {
            let count = self.queue.len().min(BATCH);
            let asked: Vec<Asked> = self.queue.iter().take(count).map(|waiting| waiting.asked.clone()).collect();
            let Ok(verdicts) = self.sequencer.sequence(&asked, &mut self.known, self.now_ms);
            for verdict in verdicts {
                let Some(waiting) = self.queue.pop_front() else { break };
                let answer = match verdict {
                    Verdict::Numbered(numbered) => {
                        self.writing.push((numbered, waiting.folder));
                        continue;
                    }
                    // One that is being written is answered when it is told.
                    Verdict::Known(version) if version > self.last() => continue,
                    Verdict::Known(version) => Ok(version),
                    Verdict::Refused(refusal) => Err(refusal),
                };
                actions.push(Action::Answer { link: waiting.link, id: waiting.asked.id, answer });
            }
            if !self.writing.is_empty() {
                actions.push(Action::Write(self.writing.iter().map(|(numbered, _)| numbered.clone()).collect()));
            }
        }
    }

    fn written(&mut self) {
        for (numbered, folder) in std::mem::take(&mut self.writing) {
            if let (Change::Put { .. }, Some(folder)) = (&numbered.change, folder) {
                self.holders.add(numbered.version, folder);
            }
            self.keep(numbered);
        }
    }

    fn not_written(&mut self, for_good: bool, refusal: &Refusal, actions: &mut Vec<Action>) {
        self.broken |= for_good;
        // Nobody has seen these numbers.
        self.sequencer.forget_after(self.known.tree.last());
        let unwritten: BTreeSet<ChangeId> = std::mem::take(&mut self.writing).iter().map(|(numbered, _)| numbered.id).collect();
        let waiting =
            if for_good { std::mem::take(&mut self.queue).into_iter().map(|waiting| waiting.asked.id).collect() } else { Vec::new() };
        for link in self.peers.keys() {
            for id in unwritten.iter().chain(&waiting) {
                actions.push(Action::Answer { link: *link, id: *id, answer: Err(refusal.clone()) });
            }
        }
    }

    fn keep(&mut self, numbered: Numbered) {
        self.known.apply(&numbered);
        self.tail.push_back(numbered);
        if self.tail.len() > TAIL
            && let Some(oldest) = self.tail.pop_front()
        {
            self.base = oldest.version;
        }
    }

    fn applied_upto(&mut self, link: LinkId, upto: Version) {
        if let Some(peer) = self.peers.get_mut(&link) {
            peer.applied = peer.applied.max(upto);
        }
    }

    fn holds(&mut self, link: LinkId, put: Version, has: bool) {
        let Some(peer) = self.peers.get(&link) else { return };
        if has {
            self.holders.add(put, peer.folder);
            // Two disks have it: what it replaced will not be needed again.
            if self.holders.copies(put) > 1 {
                self.known.tree.settle(put);
            }
        } else {
            self.holders.remove(put, peer.folder);
        }
    }

    fn failed(&mut self, link: LinkId, of: Version, id: ChangeId) {
        let Some(peer) = self.peers.get(&link) else { return };
        self.holders.remove(of, peer.folder);
        // Somebody else has the content by now: then it stands, and is fetched from there.
        if self.holders.copies(of) == 0 {
            let asked = Asked { id, change: Change::Withdraw { of }, expect: relais_proto::Expect::Any };
            self.queue.push_back(Waiting { link, folder: None, asked });
        }
    }

    /// Sends each slave that can take it what it has not been told.
    fn tell_all(&mut self, actions: &mut Vec<Action>) {
        let links: Vec<LinkId> = self.peers.keys().copied().collect();
        for link in links {
            let Some(peer) = self.peers.get(&link).filter(|peer| peer.ready && peer.told < self.known.tree.last()) else { continue };
            let from = self.tail.partition_point(|numbered| numbered.version <= peer.told);
            let changes: Vec<Told> = self.tail.range(from..).take(PAGE).map(|numbered| self.told(numbered)).collect();
            let Some(last) = changes.last().map(|told| told.numbered.version) else { continue };
            if let Some(peer) = self.peers.get_mut(&link) {
                (peer.told, peer.ready) = (last, false);
            }
            actions.push(Action::Tell { link, changes });
        }
    }

    fn told(&self, numbered: &Numbered) -> Told {
        Told { numbered: numbered.clone(), holders: self.holders.of(numbered.version).collect() }
    }
}
