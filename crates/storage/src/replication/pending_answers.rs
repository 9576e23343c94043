//! Sessions that wait for results. Each channel gets its results in the order of its proposals.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::messages::Output;
use crate::ProposalResult;
use relais_cluster::replica::SessionId;
use relais_proto::Change;

/// The waiting sessions of each channel.
#[derive(Debug, Default)]
pub struct PendingAnswers {
    next: u64,
    channels: BTreeMap<u64, VecDeque<(SessionId, Option<ProposalResult>)>>,
    /// Channel and proposed change of each waiting session.
    waiting: HashMap<SessionId, (u64, Change)>,
}

impl PendingAnswers {
    /// Registers a proposal of a channel.
    pub fn register(&mut self, channel: u64, change: &Change) -> SessionId {
        self.next += 1;
        let session = SessionId(self.next);
        self.channels.entry(channel).or_default().push_back((session, None));
        self.waiting.insert(session, (channel, change.clone()));
        session
    }

    /// Returns the change that a waiting session has proposed.
    pub fn change_of(&self, session: SessionId) -> Option<&Change> {
        self.waiting.get(&session).map(|(_, change)| change)
    }

    /// Stores a result. Returns the results of the channel that can be sent now, in their order.
    pub fn answer(&mut self, session: SessionId, answer: ProposalResult) -> Vec<Output> {
        let Some(channel) = self.waiting.get(&session).map(|(channel, _)| *channel) else {
            return Vec::new();
        };
        let Some(waiting) = self.channels.get_mut(&channel) else { return Vec::new() };
        if let Some((_, place)) = waiting.iter_mut().find(|(other, _)| *other == session) {
            *place = Some(answer);
        }
        let mut ready = Vec::new();
        while let Some((session, Some(_))) = waiting.front() {
            self.waiting.remove(session);
            let answer = waiting.pop_front().and_then(|(_, answer)| answer);
            ready.extend(answer.map(|answer| Output::Answer(channel, answer)));
        }
        if waiting.is_empty() {
            self.channels.remove(&channel);
        }
        ready
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
            self.waiting.remove(session);
        }
        sessions
    }
}
