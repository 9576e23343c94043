//! Slave side of replication: proposes, applies and fetches contents.
//!
//! Pure, the counterpart of [`crate::Coordinator`]: an event leads to actions, which the caller
//! executes in their order. The replica knows neither the tree nor the folder; the caller keeps
//! them in a catalogue. Names are applied at once and in order, contents later.
//!
//! The caller keeps durably: the [`ReplicaPosition`] (number, hash, epoch), in one transaction with
//! the catalogue rows of the changes up to it; the contents that are here; the staged uploads by
//! the ids of their changes. All other state may be lost at any time: the master sends changes
//! again, sessions repeat requests, and staged uploads are queried.

mod apply;
mod batch;
mod compare;
mod event;
mod fetch_slots;
mod link;
mod missing_content;
mod missing_contents;
mod missing_index;
mod own_proposals;
mod service;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use relais_proto::{ChangeId, ErrorCode, FolderId, Lsn, Refusal, SlaveId};

use self::own_proposals::OwnProposals;
use crate::message_budget::{CommittedEntry, ReplicaPosition, ToMaster};
use crate::sequence::ChangeRequest;

pub use self::compare::{Differences, DivergentEntry, ReceivedTree, compare};
pub use self::event::{Action, Event, ProposalResult, SessionId};
pub use self::missing_content::{FetchFault, MissingContent, lack_of_entry};
pub use self::missing_contents::MissingContents;
pub use self::service::{BEHIND, ServiceReadiness, YOUNG, in_service};

/// Highest number of changes in one batch.
const BATCH: usize = 256;
/// Queued changes above which the slave requests no more.
const QUEUE: usize = 4096;
/// Bytes of properties and hashes in queued changes above which the slave requests no more.
const QUEUE_EXTRA: usize = 8 * 1024 * 1024;
/// Highest number of puts in a page of missing contents.
const PAGE: usize = 4096;

/// State of the link while the slave adopts a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// No link.
    Gone,
    /// The link that delivered the tree.
    Same,
    /// A new link, on which the slave has not joined yet.
    New,
}

/// State of the connection to the master.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// No link.
    Away,
    /// A link; the join is sent.
    Joining,
    /// A link; the join is sent once the current batch is done.
    Waiting,
    /// The tree arrives in pages.
    ReceivingTree(ReceivedTree),
    /// The tree is complete and is being adopted.
    Adopting { position: ReplicaPosition, link: Link },
    /// Changes arrive.
    Following,
}

/// State machine of the slave; see the module.
#[derive(Debug, Clone)]
pub struct Replica {
    slave: SlaveId,
    folder: FolderId,
    position: ReplicaPosition,
    phase: Phase,
    /// Received changes that are not handed to the caller yet.
    queue: VecDeque<CommittedEntry>,
    /// The batch that the caller applies, and the position after it.
    applying: Option<(Vec<CommittedEntry>, ReplicaPosition)>,
    retry_apply: Option<Duration>,
    owes_ready: bool,
    missing: MissingContents,
    own: OwnProposals,
    /// Known changes that are not applied yet, each with the time of their first notice.
    announced: VecDeque<(Lsn, Duration)>,
    /// Master's last change at the join; the slave is complete once it has all content up to it.
    joined_at: Option<Lsn>,
    whole: bool,
    /// Time of the current event, and the actions that follow from it.
    now: Duration,
    actions: Vec<Action>,
}

impl Replica {
    /// Starts from a durable position, the missing contents and the staged uploads.
    #[must_use]
    pub fn new(
        slave: SlaveId,
        folder: FolderId,
        position: ReplicaPosition,
        missing: Vec<MissingContent>,
        staged: BTreeSet<ChangeId>,
    ) -> Self {
        Self {
            slave,
            folder,
            position,
            phase: Phase::Away,
            queue: VecDeque::new(),
            applying: None,
            retry_apply: None,
            owes_ready: false,
            missing: MissingContents::new(folder, missing),
            own: OwnProposals::new(staged),
            announced: VecDeque::new(),
            joined_at: None,
            whole: false,
            now: Duration::ZERO,
            actions: Vec::new(),
        }
    }

    fn send(&mut self, message: ToMaster) {
        self.actions.push(Action::Send(message));
    }

    fn is_following(&self) -> bool {
        matches!(self.phase, Phase::Following)
    }

    /// Returns the last durably applied change.
    #[must_use]
    pub fn applied(&self) -> Lsn {
        self.position.applied
    }

    /// Returns the position of the folder.
    #[must_use]
    pub fn position(&self) -> ReplicaPosition {
        self.position
    }

    /// Returns whether proposals can be sent.
    #[must_use]
    pub fn is_linked(&self) -> bool {
        !matches!(self.phase, Phase::Away | Phase::Adopting { link: Link::Gone, .. })
    }

    /// Returns whether all changes that existed at the join are applied.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        self.is_following() && self.position.applied >= self.joined_at.unwrap_or_default()
    }

    /// Returns the number of proposals of sessions that are not applied yet.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.own.under_way(self.position.applied)
    }

    /// Returns the missing contents.
    #[must_use]
    pub fn missing(&self) -> &MissingContents {
        &self.missing
    }

    /// Returns whether content may still be published: it is missing, and was not given up.
    ///
    /// The caller asks this in the step before `Fetch` or `Publish` takes effect. If the answer is
    /// false, the caller reports that the content is not here.
    #[must_use]
    pub fn wants(&self, put: Lsn) -> bool {
        self.missing.wants(put)
    }

    /// Returns the readiness for sessions. `bytes` is the size of all contents in the tree.
    #[must_use]
    pub fn readiness(&self, now: Duration, bytes: u64) -> ServiceReadiness {
        let behind =
            self.announced.front().map_or(Duration::ZERO, |(_, since)| now.saturating_sub(*since));
        ServiceReadiness {
            following: self.is_following(),
            behind,
            whole: self.whole,
            old_missing_bytes: self.missing.bytes_older(now, YOUNG),
            bytes,
        }
    }

    /// Handles an event and returns the actions.
    ///
    /// `now` is the time since a start of the caller's choice, and never goes back.
    pub fn on(&mut self, event: Event, now: Duration) -> Vec<Action> {
        self.now = now;
        match event {
            Event::Linked => self.linked(),
            Event::Unlinked => self.unlinked(),
            Event::Received(message) => self.hear(message),
            Event::MasterLsn(lsn) => self.note_lsn(lsn),
            Event::Proposed { session, request, copies } => self.request(session, request, copies),
            Event::SessionClosed(session) => self.own.gone(session),
            Event::Applied { missing, failed } => self.batch_applied(&missing, &failed),
            Event::ApplyFailed => self.apply_failed(),
            Event::Adopted { missing } => self.adopted(missing),
            Event::AdoptFailed => self.not_adopted(),
            Event::Fetched { put, from, fault } => {
                if self.missing.fetched(put, from, fault, self.now) {
                    self.has(put);
                }
            }
            Event::Published { id, put, ok } => self.published(id, put, ok),
            Event::Missing(content) => self.add_missing(content),
            Event::Refused { put, retry } => {
                self.missing.refuse(put, retry, self.now);
                // The content is not behind the obstacle, so the master's question is answered now.
                if retry && self.missing.reveal(put) {
                    self.give_up(put);
                }
                self.note_whole();
            }
            Event::Hidden { put } => {
                self.missing.hide(put, self.now);
                self.note_whole();
            }
            Event::Recovering(epoch) => {
                if self.check_epoch(epoch) && self.is_linked() {
                    self.close("the cluster is being recovered");
                }
            }
            Event::Tick => {}
        }
        self.apply_next();
        if self.is_following() {
            self.own.query_orphans(
                self.position.applied >= self.joined_at.unwrap_or_default(),
                &mut self.actions,
            );
            self.missing.next(now, &mut self.actions);
        }
        self.own.finish(self.position.applied, &self.missing, now, &mut self.actions);
        std::mem::take(&mut self.actions)
    }

    fn note_lsn(&mut self, lsn: Lsn) {
        // An epoch without changes needs no waiting.
        if lsn.number > 0
            && lsn > self.announced.back().map_or(self.position.applied, |(lsn, _)| *lsn)
        {
            self.announced.push_back((lsn, self.now));
        }
    }

    fn note_applied(&mut self) {
        while self.announced.front().is_some_and(|(lsn, _)| *lsn <= self.position.applied) {
            self.announced.pop_front();
        }
        self.note_whole();
    }

    fn note_whole(&mut self) {
        if self.joined_at.is_some_and(|lsn| self.position.applied >= lsn) {
            self.missing.forget_given_up_before();
        }
        if !self.whole
            && let Some(lsn) = self.joined_at
            && self.position.applied >= lsn
            && self.missing.oldest().is_none_or(|oldest| oldest > lsn)
        {
            self.whole = true;
        }
    }

    fn has(&mut self, put: Lsn) {
        if self.is_following() {
            self.send(ToMaster::Holds { put, has: true });
        }
        self.note_whole();
    }

    fn published(&mut self, id: ChangeId, put: Lsn, ok: bool) {
        self.own.published(id, ok, &mut self.actions);
        if !ok && self.missing.has(put) && self.is_following() {
            self.send(ToMaster::PublishFailed { of: put });
        }
        if ok && self.missing.remove(put) {
            self.has(put);
        }
    }

    fn give_up(&mut self, put: Lsn) {
        if !self.missing.has(put) {
            self.send(ToMaster::Holds { put, has: true });
        } else if !self.missing.defer_give_up(put) {
            self.missing.give_up(put);
            self.send(ToMaster::GivenUp { put });
            self.note_whole();
        }
    }

    fn add_missing(&mut self, content: MissingContent) {
        let put = content.put;
        self.missing.add(content, self.now);
        if self.is_following() {
            self.send(ToMaster::Holds { put, has: false });
        }
    }

    fn request(&mut self, session: Option<SessionId>, request: ChangeRequest, copies: u16) {
        if !self.is_linked() {
            if let Some(session) = session {
                self.own.left_staged(&request);
                let why = Refusal::new(
                    ErrorCode::NoChanges,
                    "changes are not possible now: this slave does not reach its master",
                );
                self.actions.push(Action::Reply {
                    session,
                    id: request.id,
                    answer: ProposalResult::Refused(why),
                });
            }
            return;
        }
        self.own.add(session, request, copies, self.now, self.is_following(), &mut self.actions);
    }
}
