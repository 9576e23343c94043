//! Sessions that wait for results. Each channel gets its results in the order of its proposals.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use relais_cluster::replica::SessionId;
use relais_proto::Change;
use relais_storage::ProposalResult;

use crate::changes::proposal_receiver::ProposalReceiver;

/// The waiting sessions of each channel.
#[derive(Debug, Default)]
pub struct PendingAnswers {
    next: u64,
    channels: BTreeMap<u64, VecDeque<(SessionId, Option<ProposalResult>)>>,
    channel_of: HashMap<SessionId, u64>,
    /// Proposed change of each waiting session.
    changes: HashMap<SessionId, Change>,
    /// Channels on which a result was lost. Their proposals must still be read.
    lost: BTreeSet<u64>,
}

impl PendingAnswers {
    /// Registers a proposal of a channel.
    pub fn register(&mut self, channel: u64, change: &Change) -> SessionId {
        self.next += 1;
        let session = SessionId(self.next);
        self.changes.insert(session, change.clone());
        self.channels.entry(channel).or_default().push_back((session, None));
        self.channel_of.insert(session, channel);
        session
    }

    /// Returns the change that a waiting session has proposed.
    pub fn change_of(&self, session: SessionId) -> Option<&Change> {
        self.changes.get(&session)
    }

    /// Stores a result, and sends it as soon as all earlier results of the channel are sent.
    pub fn answer(
        &mut self,
        session: SessionId,
        answer: ProposalResult,
        receiver: &ProposalReceiver,
    ) {
        let Some(channel) = self.channel_of.get(&session).copied() else { return };
        let Some(waiting) = self.channels.get_mut(&channel) else { return };
        if let Some((_, place)) = waiting.iter_mut().find(|(other, _)| *other == session) {
            *place = Some(answer);
        }
        while let Some((session, Some(answer))) = waiting.front() {
            self.channel_of.remove(session);
            self.changes.remove(session);
            // After a lost result the session would take the next one for it.
            if !self.lost.contains(&channel) && !receiver.answer(channel, answer) {
                self.lost.insert(channel);
            }
            waiting.pop_front();
        }
        if waiting.is_empty() {
            self.channels.remove(&channel);
        }
    }

    /// Returns the channels on which a result was lost. The caller closes them after it has read
    /// their proposals.
    pub fn take_lost(&mut self) -> BTreeSet<u64> {
        std::mem::take(&mut self.lost)
    }

    /// Removes a closed channel. Returns its waiting sessions.
    pub fn remove_channel(&mut self, channel: u64) -> Vec<SessionId> {
        let sessions: Vec<SessionId> = self
            .channels
            .remove(&channel)
            .into_iter()
            .flatten()
            .map(|(session, _)| session)
            .collect();
        for session in &sessions {
            self.channel_of.remove(session);
            self.changes.remove(session);
        }
        sessions
    }
}
