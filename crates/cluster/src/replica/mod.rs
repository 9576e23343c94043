//! The slave's part in changes: what it asks for, what it is told and applies, which contents it fetches, whom it serves.
//!
//! Pure, the other half of [`crate::Coordinator`]: an event and its consequences, as actions that the caller carries out in their
//! order. It knows neither the tree nor the folder; those are the caller's, in a catalogue. Names come at once and in
//! order, contents after.
//!
//! What has to be on disk for good, and is the caller's to keep: the [`ReplicaPosition`] (number, hash, epoch), written in one step with
//! what the changes up to it have made of the catalogue; which contents are there; what is staged, by the id of its change.
//! All else may be lost at any time: changes are told again, sessions ask again, and what is staged is asked about.

mod apply;
mod batch;
mod compare;
mod event;
mod link;
mod missing_contents;
mod own_proposals;
mod readers;
mod service;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use relais_proto::{ChangeId, Digest, ErrorCode, FolderId, Lsn, Refusal, SlaveId, TreePath};

use self::own_proposals::OwnProposals;
use self::readers::WaitingReaders;
use crate::message_budget::{CommittedEntry, ReplicaPosition, ToMaster};
use crate::sequence::ChangeRequest;
use crate::tree::Entry;

pub use self::compare::{Differences, DivergentEntry, ReceivedTree, compare};
pub use self::event::{Action, Event, ProposalResult, Session};
pub use self::missing_contents::{FetchFault, MissingContent, MissingContents};
pub use self::service::{BEHIND, ServiceReadiness, YOUNG, in_service};

/// Most changes that are applied together.
const BATCH: usize = 256;
/// Changes that may wait to be applied before no more are asked for.
const QUEUE: usize = 4096;
/// Most puts named in a page of what is lacking.
const PAGE: usize = 4096;

/// The link while a tree is being taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// None.
    Gone,
    /// The one on which the tree was told.
    Same,
    /// Another one, on which the join is not said yet.
    New,
}

/// How things stand with the master.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// No link.
    Away,
    /// A link, and the join is said.
    Joining,
    /// A link; the join is said once what is being carried out is settled.
    Waiting,
    /// The tree comes in pages.
    ReceivingTree(ReceivedTree),
    /// It came whole and is being taken over.
    Adopting { position: ReplicaPosition, link: Link },
    /// Changes are told.
    Following,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Replica {
    slave: SlaveId,
    folder: FolderId,
    position: ReplicaPosition,
    phase: Phase,
    /// Told, and not handed out yet.
    queue: VecDeque<CommittedEntry>,
    /// Handed out to be carried out, and where the folder stands then.
    carrying: Option<(Vec<CommittedEntry>, ReplicaPosition)>,
    retry_carry: Option<Duration>,
    owes_ready: bool,
    lacks: MissingContents,
    own: OwnProposals,
    readers: WaitingReaders,
    /// Numbers that were heard of, with the time, and are not applied yet.
    heard: VecDeque<(Lsn, Duration)>,
    /// The master's number when it joined; until all content up to there is here it is not whole.
    joined_at: Option<Lsn>,
    whole: bool,
}

impl Replica {
    /// A slave that starts: where its folder stands, what it lacks, and the changes for which something is staged.
    #[must_use]
    pub fn new(
        slave: SlaveId,
        folder: FolderId,
        position: ReplicaPosition,
        lacks: Vec<MissingContent>,
        staged: BTreeSet<ChangeId>,
    ) -> Self {
        Self {
            slave,
            folder,
            position,
            phase: Phase::Away,
            queue: VecDeque::new(),
            carrying: None,
            retry_carry: None,
            owes_ready: false,
            lacks: MissingContents::new(folder, lacks),
            own: OwnProposals::new(staged),
            readers: WaitingReaders::default(),
            heard: VecDeque::new(),
            joined_at: None,
            whole: false,
        }
    }

    /// The last change that it has applied, for good.
    #[must_use]
    pub fn applied(&self) -> Lsn {
        self.position.applied
    }

    /// Where it stands.
    #[must_use]
    pub fn position(&self) -> ReplicaPosition {
        self.position
    }

    /// Whether changes can be asked for.
    #[must_use]
    pub fn is_linked(&self) -> bool {
        !matches!(self.phase, Phase::Away | Phase::Adopting { link: Link::Gone, .. })
    }

    /// Whether all changes are here that there were when it joined.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        matches!(self.phase, Phase::Following)
            && self.position.applied >= self.joined_at.unwrap_or_default()
    }

    /// Changes that sessions have asked for and that are not applied yet.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.own.under_way(self.position.applied)
    }

    /// Contents that it lacks.
    #[must_use]
    pub fn lacks(&self) -> &MissingContents {
        &self.lacks
    }

    /// Whether content that was fetched, or is to be placed, may still come under its name: it is lacking, and was not given up. Whoever carries
    /// out `Fetch` and `SlaveAddresses` asks this in the step before; where it says no the answer is that it is not here.
    #[must_use]
    pub fn wants(&self, put: Lsn) -> bool {
        self.lacks.wants(put)
    }

    /// What speaks for and against sessions here. `bytes` are those of all contents in the tree.
    #[must_use]
    pub fn readiness(&self, now: Duration, bytes: u64) -> ServiceReadiness {
        let behind =
            self.heard.front().map_or(Duration::ZERO, |(_, since)| now.saturating_sub(*since));
        let following = matches!(self.phase, Phase::Following);
        ServiceReadiness {
            following,
            behind,
            whole: self.whole,
            old_lacks: self.lacks.bytes_older(now, YOUNG),
            bytes,
        }
    }

    /// What follows from an event. `now` is the time since a start of the caller's choice, and never goes back.
    pub fn on(&mut self, event: Event, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Linked => self.linked(&mut actions),
            Event::Unlinked => self.unlinked(now),
            Event::Received(message) => self.hear(message, now, &mut actions),
            Event::MasterLsn(lsn) => self.note_mark(lsn, now),
            Event::Proposed { session, request, copies } => {
                self.request(session, request, copies, now, &mut actions)
            }
            Event::Read { session, lsn } => self.readers.add(session, lsn, now),
            Event::SessionClosed(session) => {
                self.readers.remove(session);
                self.own.gone(session);
            }
            Event::Applied { lacks, failed } => self.carried(&lacks, &failed, now, &mut actions),
            Event::ApplyFailed => self.not_carried(now, &mut actions),
            Event::Adopted { lacks } => self.adopted(lacks, now, &mut actions),
            Event::AdoptFailed => self.not_adopted(&mut actions),
            Event::Fetched { put, from, result } => {
                if self.lacks.fetched(put, from, result, now) {
                    self.has(put, &mut actions);
                }
            }
            Event::Published { id, put, ok } => self.placed(id, put, ok, &mut actions),
            Event::Missing(lack) => self.missing(lack, now, &mut actions),
            Event::Refused { put, retry } => {
                self.lacks.refuse(put, retry, now);
                self.note_whole();
            }
            Event::Recovering(epoch) => {
                if self.meets_epoch(epoch, now, &mut actions) && self.is_linked() {
                    self.close("the cluster is being recovered", now, &mut actions);
                }
            }
            Event::Tick => {}
        }
        self.carry_next(now, &mut actions);
        if matches!(self.phase, Phase::Following) {
            self.own
                .seek(self.position.applied >= self.joined_at.unwrap_or_default(), &mut actions);
            self.lacks.next(now, &mut actions);
        }
        self.own.finish(self.position.applied, &self.lacks, now, &mut actions);
        self.readers.answer(self.position.applied, now, &mut actions);
        actions
    }

    fn note_mark(&mut self, lsn: Lsn, now: Duration) {
        // An epoch in which nothing was numbered yet has nothing to be waited for.
        if lsn.number > 0 && lsn > self.heard.back().map_or(self.position.applied, |(lsn, _)| *lsn)
        {
            self.heard.push_back((lsn, now));
        }
    }

    fn note_applied(&mut self) {
        while self.heard.front().is_some_and(|(lsn, _)| *lsn <= self.position.applied) {
            self.heard.pop_front();
        }
        self.note_whole();
    }

    fn note_whole(&mut self) {
        if self.joined_at.is_some_and(|lsn| self.position.applied >= lsn) {
            self.lacks.forget_given_up_before();
        }
        if let Some(lsn) = self.joined_at
            && self.position.applied >= lsn
            && self.lacks.oldest().is_none_or(|oldest| oldest > lsn)
        {
            self.whole = true;
        }
    }

    fn has(&mut self, put: Lsn, actions: &mut Vec<Action>) {
        if matches!(self.phase, Phase::Following) {
            actions.push(Action::Send(ToMaster::Holds { put, has: true }));
        }
        self.note_whole();
    }

    fn placed(&mut self, id: ChangeId, put: Lsn, ok: bool, actions: &mut Vec<Action>) {
        self.own.placed(id, ok, actions);
        if !ok && self.lacks.has(put) && matches!(self.phase, Phase::Following) {
            actions.push(Action::Send(ToMaster::PublishFailed { of: put }));
        }
        if ok && self.lacks.remove(put) {
            self.has(put, actions);
        }
    }

    fn give_up(&mut self, put: Lsn, actions: &mut Vec<Action>) {
        if self.lacks.has(put) {
            self.lacks.give_up(put);
            actions.push(Action::Send(ToMaster::GivenUp { put }));
        } else {
            actions.push(Action::Send(ToMaster::Holds { put, has: true }));
        }
    }

    fn missing(&mut self, lack: MissingContent, now: Duration, actions: &mut Vec<Action>) {
        let put = lack.put;
        self.lacks.add(lack, now);
        if matches!(self.phase, Phase::Following) {
            actions.push(Action::Send(ToMaster::Holds { put, has: false }));
        }
    }

    fn request(
        &mut self,
        session: Option<Session>,
        request: ChangeRequest,
        copies: u16,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        if !self.is_linked() {
            if let Some(session) = session {
                self.own.left_staged(&request);
                let why = Refusal::new(
                    ErrorCode::NoChanges,
                    "changes are not possible now: this slave does not reach its master",
                );
                actions.push(Action::Reply {
                    session,
                    id: request.id,
                    answer: ProposalResult::Refused(why),
                });
            }
            return;
        }
        self.own.add(
            session,
            request,
            copies,
            now,
            matches!(self.phase, Phase::Following),
            actions,
        );
    }
}

/// What is known of content by its change alone.
pub(crate) fn lack_of(
    path: &TreePath,
    put: Lsn,
    size: u64,
    digest: Digest,
    holders: Vec<FolderId>,
) -> MissingContent {
    MissingContent { put, path: path.clone(), size, digest, holders }
}

/// An entry's content as something that is lacking.
#[must_use]
pub fn lack_of_entry(path: &TreePath, entry: &Entry) -> Option<MissingContent> {
    entry
        .content
        .map(|content| lack_of(path, content.put, content.size, content.digest, Vec::new()))
}
