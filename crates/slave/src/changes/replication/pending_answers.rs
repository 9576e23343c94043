//! Sessions that wait for answers: each channel gets its answers in the order in which it asked.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use relais_cluster::replica::Session;
use relais_proto::Change;

use crate::changes::ProposalResult;
use crate::changes::proposal_receiver::ProposalReceiver;

/// Who waits on which channel.
#[derive(Debug, Default)]
pub struct PendingAnswers {
    next: u64,
    channels: BTreeMap<u64, VecDeque<(Session, Option<ProposalResult>)>>,
    channel_of: HashMap<Session, u64>,
    /// What each session that waits has asked for.
    changes: HashMap<Session, Change>,
    /// Channels on which an answer was lost: what was asked there is still to be read.
    lost: BTreeSet<u64>,
}

impl PendingAnswers {
    /// Something was asked on this channel.
    pub fn begin(&mut self, channel: u64, change: &Change) -> Session {
        self.next += 1;
        let session = Session(self.next);
        self.changes.insert(session, change.clone());
        self.channels.entry(channel).or_default().push_back((session, None));
        self.channel_of.insert(session, channel);
        session
    }

    /// What a session that waits has asked for.
    pub fn change_of(&self, session: Session) -> Option<&Change> {
        self.changes.get(&session)
    }

    /// The answer has come: it and those that waited for it go out.
    pub fn answer(
        &mut self,
        session: Session,
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
            // Behind an answer that is lost, the next would be taken for it.
            if !self.lost.contains(&channel) && !receiver.answer(channel, answer) {
                self.lost.insert(channel);
            }
            waiting.pop_front();
        }
        if waiting.is_empty() {
            self.channels.remove(&channel);
        }
    }

    /// The channels on which an answer was lost: they are to be closed, once all was read that was asked on them.
    pub fn take_lost(&mut self) -> BTreeSet<u64> {
        std::mem::take(&mut self.lost)
    }

    /// The channel is gone: these have no session any more.
    pub fn gone(&mut self, channel: u64) -> Vec<Session> {
        let sessions: Vec<Session> = self
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
