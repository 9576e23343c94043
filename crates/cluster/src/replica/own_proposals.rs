//! Proposals of this slave, until each is answered and its staged upload is published or deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use relais_proto::{Change, ChangeId, ErrorCode, Lsn, Refusal};

use super::{Action, MissingContents, ProposalResult, SessionId};
use crate::message_budget::ToMaster;
use crate::sequence::ChangeRequest;

/// Time that a session waits for its change and its copies.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Time that a session waits after the link is closed, because it may come back soon.
const UNLINKED_TIMEOUT: Duration = Duration::from_secs(5);

/// A proposal without a final answer.
#[derive(Debug, Clone)]
struct PendingProposal {
    request: ChangeRequest,
    sessions: Vec<SessionId>,
    found: bool,
    wanted: u16,
    copies: u16,
    version: Option<Lsn>,
    /// The staged upload is being published.
    publishing: bool,
    /// The upload could not be published; the same bytes are not tried again.
    is_unpublishable: bool,
    /// The master was queried about this id before the current request. Its answer may still say
    /// that the change is unknown.
    was_queried: bool,
    until: Duration,
}

/// State of a staged upload without a waiting session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OrphanedUpload {
    /// The master has not been queried on this link.
    NotQueried,
    Queried,
    /// The change has a number.
    Numbered(Lsn),
    Publishing,
}

/// All proposals of this slave; see the module.
#[derive(Debug, Clone)]
pub(super) struct OwnProposals {
    mine: BTreeMap<ChangeId, PendingProposal>,
    orphans: BTreeMap<ChangeId, OrphanedUpload>,
    /// Whether a proposal may be finished that was not before. It avoids a look at all proposals at
    /// every event.
    is_changed: bool,
    /// Last applied change and changes of the missing contents at the last look.
    seen: (Lsn, u64),
    /// First end of a waiting time.
    deadline: Duration,
}

impl OwnProposals {
    pub fn new(staged: BTreeSet<ChangeId>) -> Self {
        Self {
            mine: BTreeMap::new(),
            orphans: staged.into_iter().map(|id| (id, OrphanedUpload::NotQueried)).collect(),
            is_changed: true,
            seen: Default::default(),
            deadline: Duration::MAX,
        }
    }

    pub fn add(
        &mut self,
        session: Option<SessionId>,
        request: ChangeRequest,
        copies: u16,
        now: Duration,
        speaks: bool,
        actions: &mut Vec<Action>,
    ) {
        let id = request.id;
        // The upload may be on its way to its path already; it is found there then.
        let orphan = self.orphans.remove(&id);
        let known = self.mine.remove(&id);
        // A new proposal has no number yet, so nothing can follow from it now.
        self.is_changed |= known.is_some() || orphan.is_some();
        let mut mine = known.unwrap_or_else(|| PendingProposal {
            request,
            sessions: Vec::new(),
            found: session.is_none(),
            wanted: 0,
            copies: 0,
            version: None,
            publishing: orphan == Some(OrphanedUpload::Publishing),
            is_unpublishable: false,
            was_queried: orphan == Some(OrphanedUpload::Queried),
            until: now,
        });
        // The session has staged the upload again.
        mine.is_unpublishable = false;
        mine.sessions.extend(session);
        mine.wanted = mine.wanted.max(copies);
        mine.until = now + TIMEOUT;
        self.deadline = self.deadline.min(mine.until);
        if speaks {
            actions.push(propose(&mine));
        }
        self.mine.insert(id, mine);
    }

    /// The change is refused for now; its staged upload is queried later.
    pub fn left_staged(&mut self, request: &ChangeRequest) {
        if matches!(request.change, Change::Put { .. }) && !self.mine.contains_key(&request.id) {
            self.orphans.entry(request.id).or_insert(OrphanedUpload::NotQueried);
        }
    }

    pub fn propose_all(&mut self, actions: &mut Vec<Action>) {
        for mine in self.mine.values() {
            actions.push(propose(mine));
            if let Some(of) = mine.version.filter(|_| mine.is_unpublishable) {
                actions.push(Action::Send(ToMaster::PublishFailed { of }));
            }
        }
    }

    /// Returns the number of proposals of sessions that are not applied yet.
    pub fn under_way(&self, applied: Lsn) -> usize {
        let is_under_way = |mine: &&PendingProposal| {
            !mine.found && mine.version.is_none_or(|version| version > applied)
        };
        self.mine.values().filter(is_under_way).count()
    }

    pub fn gone(&mut self, session: SessionId) {
        for mine in self.mine.values_mut() {
            mine.sessions.retain(|other| *other != session);
        }
    }

    pub fn unlinked(&mut self, now: Duration) {
        self.is_changed = true;
        for mine in self.mine.values_mut() {
            mine.until = mine.until.min(now + UNLINKED_TIMEOUT);
            mine.was_queried = false;
        }
        for orphan in self.orphans.values_mut().filter(|orphan| **orphan == OrphanedUpload::Queried)
        {
            *orphan = OrphanedUpload::NotQueried;
        }
    }

    /// Queries the master about orphaned uploads, once the slave has caught up.
    pub fn query_orphans(&mut self, caught_up: bool, actions: &mut Vec<Action>) {
        if !caught_up {
            return;
        }
        for (id, orphan) in
            self.orphans.iter_mut().filter(|(_, orphan)| **orphan == OrphanedUpload::NotQueried)
        {
            *orphan = OrphanedUpload::Queried;
            actions.push(Action::Send(ToMaster::QueryChange { id: *id }));
        }
    }

    /// A new master must confirm the numbers that the former one assigned.
    pub fn epoch_began(&mut self) {
        self.is_changed = true;
        self.mine.values_mut().for_each(|mine| mine.version = None);
        for orphan in
            self.orphans.values_mut().filter(|orphan| **orphan != OrphanedUpload::Publishing)
        {
            *orphan = OrphanedUpload::NotQueried;
        }
    }

    /// Records that a change with this id has a number.
    pub fn number_assigned(&mut self, id: ChangeId, version: Lsn) {
        self.is_changed = true;
        if let Some(mine) = self.mine.get_mut(&id) {
            mine.version = Some(version);
        }
        if let Some(orphan) =
            self.orphans.get_mut(&id).filter(|orphan| **orphan != OrphanedUpload::Publishing)
        {
            *orphan = OrphanedUpload::Numbered(version);
        }
    }

    pub fn answered(
        &mut self,
        id: ChangeId,
        answer: Result<Lsn, Refusal>,
        actions: &mut Vec<Action>,
    ) {
        let refusal = match answer {
            Ok(version) => return self.number_assigned(id, version),
            Err(refusal) => refusal,
        };
        if self.orphans.get(&id) == Some(&OrphanedUpload::Queried) {
            self.orphans.remove(&id);
            actions.push(Action::Discard(id));
            return;
        }
        // This answer belongs to a query from before the current request.
        if refusal.code == ErrorCode::NotFound
            && let Some(mine) = self.mine.get_mut(&id)
            && (mine.version.is_some() || std::mem::take(&mut mine.was_queried))
        {
            return;
        }
        let Some(mine) = self.mine.remove(&id) else { return };
        let later = refusal.code == ErrorCode::NoChanges || refusal.code == ErrorCode::NoSpace;
        for session in mine.sessions {
            actions.push(Action::Reply {
                session,
                id,
                answer: ProposalResult::Refused(refusal.clone()),
            });
        }
        match (mine.found, later) {
            // The next scan finds the local change again.
            (true, true) => {}
            (true, false) => actions.push(Action::Quarantine { id, why: refusal }),
            // A journal that failed may hold the change all the same, and the master that reads it
            // again needs the content.
            (false, true) if refusal.code == ErrorCode::NoChanges => {
                self.left_staged(&mine.request);
            }
            (false, _) => actions.push(Action::Discard(id)),
        }
    }

    pub fn copies(&mut self, put: Lsn, copies: u16) {
        self.is_changed = true;
        for mine in self.mine.values_mut().filter(|mine| mine.version == Some(put)) {
            mine.copies = mine.copies.max(copies);
        }
    }

    /// Records that a put was withdrawn.
    pub fn withdrawn(&mut self, of: Lsn, actions: &mut Vec<Action>) {
        let ids: Vec<ChangeId> = self
            .mine
            .iter()
            .filter(|(_, mine)| mine.version == Some(of))
            .map(|(id, _)| *id)
            .collect();
        for mine in ids.into_iter().filter_map(|id| self.mine.remove(&id)) {
            let why = Refusal::new(
                ErrorCode::Storage,
                format!("the content could not be stored; change {of} was withdrawn"),
            );
            for session in mine.sessions {
                actions.push(Action::Reply {
                    session,
                    id: mine.request.id,
                    answer: ProposalResult::Refused(why.clone()),
                });
            }
            actions.push(Action::Discard(mine.request.id));
        }
    }

    pub fn published(&mut self, id: ChangeId, ok: bool, actions: &mut Vec<Action>) {
        self.is_changed = true;
        if let Some(mine) = self.mine.get_mut(&id) {
            mine.publishing = false;
            mine.is_unpublishable = !ok;
        }
        if self.orphans.get(&id).is_some_and(|orphan| *orphan == OrphanedUpload::Publishing || !ok)
        {
            self.orphans.remove(&id);
            actions.push(Action::Discard(id));
        }
    }

    /// Answers the sessions whose change is stored, or whose time is over.
    pub fn finish(
        &mut self,
        applied: Lsn,
        missing: &MissingContents,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        let seen = (applied, missing.changes());
        if !std::mem::take(&mut self.is_changed) && self.seen == seen && now < self.deadline {
            return;
        }
        self.seen = seen;
        let mut left = Vec::new();
        self.mine.retain(|id, mine| {
            let version = mine.version.filter(|version| *version <= applied);
            // If the content that replaced it is still missing, a withdrawal may restore this one.
            // Then the staged upload is kept, and the session gets no success.
            let stored = version.filter(|version| {
                !missing.has(*version) && !missing.behind(*version, &mine.request.change)
            });
            if let (Some(version), None) = (version, stored)
                && !mine.publishing
                && !mine.is_unpublishable
                && missing.fits(version, digest(&mine.request.change))
            {
                mine.publishing = true;
                actions.push(Action::Publish { id: *id, put: version });
            }
            let answer = match stored {
                Some(version) if mine.wanted <= 1 || mine.copies >= mine.wanted => {
                    ProposalResult::Done { version, copies: mine.copies.max(1) }
                }
                Some(version) if now >= mine.until => {
                    ProposalResult::TooFewCopies { version, copies: mine.copies.max(1) }
                }
                // The change was applied and replaced since, and its replacement is not available.
                None if now >= mine.until
                    && version.is_some_and(|version| !missing.has(version)) =>
                {
                    ProposalResult::TooFewCopies { version: version.unwrap_or_default(), copies: 0 }
                }
                _ if now >= mine.until => {
                    let why = "the result of this change is not known yet; ask again";
                    ProposalResult::Refused(Refusal::new(ErrorCode::TimedOut, why))
                }
                _ => return true,
            };
            if stored.is_some() && !mine.publishing {
                actions.push(Action::Discard(*id));
            } else {
                // The staged upload may still be needed.
                left.push((
                    *id,
                    if mine.publishing {
                        OrphanedUpload::Publishing
                    } else {
                        version.map_or(OrphanedUpload::NotQueried, OrphanedUpload::Numbered)
                    },
                ));
            }
            for session in &mine.sessions {
                actions.push(Action::Reply { session: *session, id: *id, answer: answer.clone() });
            }
            false
        });
        self.deadline = self.mine.values().map(|mine| mine.until).min().unwrap_or(Duration::MAX);
        self.orphans.extend(left);
        self.orphans.retain(|id, orphan| {
            let OrphanedUpload::Numbered(version) = *orphan else { return true };
            if version > applied {
                return true;
            }
            if missing.has(version) != missing.wants(version)
                || missing.any_behind(version) && !missing.has(version)
            {
                return true;
            }
            if missing.has(version) {
                *orphan = OrphanedUpload::Publishing;
                actions.push(Action::Publish { id: *id, put: version });
                return true;
            }
            actions.push(Action::Discard(*id));
            false
        });
    }
}

fn propose(mine: &PendingProposal) -> Action {
    Action::Send(ToMaster::Propose {
        request: mine.request.clone(),
        found: mine.found,
        copies: mine.wanted,
    })
}

fn digest(change: &Change) -> Option<relais_proto::Digest> {
    match change {
        Change::Put { digest, .. } => Some(*digest),
        _ => None,
    }
}
