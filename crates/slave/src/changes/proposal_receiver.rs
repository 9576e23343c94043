//! Where the replicator takes proposals and hands answers out: the channels of all sessions.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use log::{debug, error, warn};
use relais_proto::{Change, FairQueue, FolderId, Lsn};

use super::channel::{ProposalSocket, Received, ReplicatorEnd};
use super::handoff::HandoffListener;
use super::{ChannelRequest, Proposal, ProposalResult};
use crate::owner::Owner;

/// Most work that is done together: more would keep the first ones waiting.
pub const BATCH: usize = 256;
/// What a change costs that is numbered, and so synced, on its own. Others cost 1.
const ALONE: usize = 32;

/// The channels of all sessions that change something, each with a number of its own.
#[derive(Debug)]
pub struct ProposalReceiver {
    proposal_socket: Arc<ProposalSocket>,
    /// Where other slaves of the folder bring their sessions' channels.
    handoff: Option<HandoffListener>,
    channels: BTreeMap<u64, Channel>,
    next: u64,
    /// Channels with something to be read: their owners take turns, and the channels of each.
    turns: FairQueue<Owner, u64, ()>,
}

#[derive(Debug)]
struct Channel {
    end: ReplicatorEnd,
    /// Whether it has its place in the turns.
    has_turn: bool,
}

/// What has come over the channels.
#[derive(Debug, Default)]
pub struct ReceivedMessages {
    /// Proposals, and the channel that each came on.
    pub proposals: Vec<(u64, Proposal)>,
    /// Puts whose holders somebody wants to know.
    pub holders: Vec<(u64, Lsn)>,
    /// Channels that nothing more comes from.
    pub gone: BTreeSet<u64>,
}

impl ProposalReceiver {
    /// Has no channel yet.
    #[must_use]
    pub fn new(proposal_socket: Arc<ProposalSocket>, handoff: Option<HandoffListener>) -> Self {
        let turns = FairQueue::new(usize::MAX);
        Self { proposal_socket, handoff, channels: BTreeMap::new(), next: 0, turns }
    }

    /// Can be read when there is something to do; without `proposals` what sessions ask for has to wait.
    pub fn fds(&self, proposals: bool) -> impl Iterator<Item = BorrowedFd<'_>> {
        let channels = self.channels.values().filter(move |_| proposals);
        let own = std::iter::once(self.proposal_socket.as_fd())
            .chain(channels.map(|open| open.end.as_fd()));
        own.chain(self.handoff.iter().flat_map(HandoffListener::fds))
    }

    /// Closes all channels: their sessions hand in again what has no answer.
    pub fn close_all(&mut self) {
        self.channels.clear();
    }

    /// Takes the channels that sessions have brought.
    pub fn accept(&mut self) {
        loop {
            match self.proposal_socket.accept() {
                Ok(Some(channel)) => self.add(channel),
                Ok(None) => break,
                // Its session sees that it is closed, and brings another.
                Err(e) => {
                    error!("a channel is lost: {e}");
                    break;
                }
            }
        }
        for channel in
            self.handoff.as_mut().map(HandoffListener::receive_channels).unwrap_or_default()
        {
            self.add(channel);
        }
    }

    fn add(&mut self, end: ReplicatorEnd) {
        self.next += 1;
        self.channels.insert(self.next, Channel { end, has_turn: false });
    }

    /// Closes a channel that is of no more use. Its session hands in again what has no answer.
    pub fn close(&mut self, channel: u64) {
        self.channels.remove(&channel);
    }

    /// Takes proposals from the channels, at most `most` and no more than a batch: by owner in turn, then by channel.
    pub fn gather(&mut self, most: usize) -> ReceivedMessages {
        let mut gathered = ReceivedMessages::default();
        self.look(&mut gathered);
        let (mut cost, mut count) = (0, 0);
        while cost < BATCH && count < most {
            let Some((owner, number, ())) = self.turns.pop() else { break };
            // One that was closed loses its turn.
            let Some(channel) = self.channels.get_mut(&number) else { continue };
            channel.has_turn = false;
            match channel.end.ask() {
                Ok(Received::Message(ChannelRequest::Change(proposal))) => {
                    cost += cost_of(&proposal.change);
                    count += 1;
                    gathered.proposals.push((number, proposal));
                }
                Ok(Received::Message(ChannelRequest::Holders(put))) => {
                    gathered.holders.push((number, put))
                }
                Ok(Received::Nothing) => continue,
                Ok(Received::Gone) => {
                    gathered.gone.insert(number);
                    continue;
                }
                Err(e) => {
                    error!("a channel is of no more use: {e}");
                    gathered.gone.insert(number);
                    continue;
                }
            }
            // There is room for each channel once.
            channel.has_turn = self.turns.push(owner, number, ()).is_ok();
        }
        gathered
    }

    /// Looks which channels have something to be read, and whose sessions have left. What those have asked for is not made: nobody waits
    /// for it. What is staged for it stays as that of an upload that was cut.
    fn look(&mut self, gathered: &mut ReceivedMessages) {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut fds: Vec<PollFd<'_>> =
            self.channels.values().map(|open| PollFd::new(&open.end, PollFlags::IN)).collect();
        if let Err(e) = poll(&mut fds, Some(&now)) {
            return warn!("the sessions' channels cannot be looked at: {e}");
        }
        let found: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        for ((number, channel), found) in self.channels.iter_mut().zip(found) {
            if found.intersects(PollFlags::HUP | PollFlags::ERR) {
                gathered.gone.insert(*number);
            } else if found.contains(PollFlags::IN) && !channel.has_turn {
                let owner = channel.end.owner().clone();
                channel.has_turn = self.turns.push(owner, *number, ()).is_ok();
            }
        }
        for number in &gathered.gone {
            self.channels.remove(number);
        }
    }

    /// Tells who holds content. Where that is lost its session goes on without.
    pub fn tell_holders(&self, channel: u64, holders: &[FolderId]) {
        if let Some(Err(e)) =
            self.channels.get(&channel).map(|channel| channel.end.tell_holders(holders))
        {
            debug!("an answer is lost: {e}");
        }
    }

    /// Answers a proposal; false where the answer is lost: the session has left, or reads none of its answers.
    pub fn answer(&self, channel: u64, answer: &ProposalResult) -> bool {
        match self.channels.get(&channel).map(|channel| channel.end.answer(answer)) {
            Some(Ok(sent)) => {
                if !sent {
                    debug!("a session does not take its answer");
                }
                sent
            }
            Some(Err(e)) => {
                warn!("an answer is lost: {e}");
                false
            }
            None => false,
        }
    }
}

fn cost_of(change: &Change) -> usize {
    match change {
        Change::Move { .. } | Change::Remove { recursive: true, .. } => ALONE,
        _ => 1,
    }
}
