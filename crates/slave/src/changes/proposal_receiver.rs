//! Receives proposals from the channels of all sessions and sends the results.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use log::{debug, error, warn};
use relais_os::Received;
use relais_proto::{Change, FairQueue, FolderId};
use relais_storage::{BATCH, ProposalResult, SessionRequests};

use super::ChannelRequest;
use super::channel::{ProposalSocket, ReplicatorEnd};
use super::handoff::HandoffListener;
use relais_engine::Owner;

/// Cost of a change that is committed and synced in a batch of its own. Others cost 1.
const ALONE: usize = 32;

/// The channels of all sessions that change something, each with a number.
#[derive(Debug)]
pub struct ProposalReceiver {
    proposal_socket: Arc<ProposalSocket>,
    /// Receives the channels of other slaves of the folder.
    handoff: Option<HandoffListener>,
    channels: BTreeMap<u64, Channel>,
    next: u64,
    /// Channels that are not read now.
    paused: BTreeSet<u64>,
    /// Channels with unread messages, in turns by owner and then by channel.
    turns: FairQueue<Owner, u64, ()>,
}

#[derive(Debug)]
struct Channel {
    end: ReplicatorEnd,
    /// Whether the channel has its place in the turns.
    has_turn: bool,
}

impl ProposalReceiver {
    /// Creates a receiver without channels.
    #[must_use]
    pub fn new(proposal_socket: Arc<ProposalSocket>, handoff: Option<HandoffListener>) -> Self {
        let turns = FairQueue::new(usize::MAX);
        Self {
            proposal_socket,
            handoff,
            channels: BTreeMap::new(),
            next: 0,
            paused: BTreeSet::new(),
            turns,
        }
    }

    /// Returns the descriptors to poll. Without `proposals` the channels are left out.
    pub fn fds(&self, proposals: bool) -> impl Iterator<Item = BorrowedFd<'_>> {
        let channels = self
            .channels
            .iter()
            .filter(move |(number, _)| proposals && !self.paused.contains(number));
        let own = std::iter::once(self.proposal_socket.as_fd())
            .chain(channels.map(|(_, open)| open.end.as_fd()));
        own.chain(self.handoff.iter().flat_map(HandoffListener::fds))
    }

    /// Accepts new channels.
    pub fn accept(&mut self) {
        loop {
            match self.proposal_socket.accept() {
                Ok(Some(channel)) => self.add(channel),
                Ok(None) => break,
                // The session notices that its channel is closed and opens another.
                Err(e) => {
                    error!("a channel was lost: {e}");
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

    /// Closes a useless channel. Its session sends unanswered proposals again.
    pub fn close(&mut self, channel: u64) {
        self.channels.remove(&channel);
    }

    /// Sets the channels that are not read until the next call.
    pub fn pause(&mut self, channels: BTreeSet<u64>) {
        self.paused = channels;
    }

    /// Reads at most `most` proposals and at most one batch, in turns by owner and then by channel.
    pub fn gather(&mut self, most: usize) -> SessionRequests {
        let mut gathered = SessionRequests::default();
        self.poll_channels(&mut gathered);
        let (mut cost, mut count) = (0, 0);
        while cost < BATCH && count < most {
            let Some((owner, number, ())) = self.turns.pop() else { break };
            // A closed channel loses its turn.
            let Some(channel) = self.channels.get_mut(&number) else { continue };
            channel.has_turn = false;
            if self.paused.contains(&number) {
                continue;
            }
            match channel.end.next_request() {
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
                    gathered.closed.insert(number);
                    continue;
                }
                Err(e) => {
                    error!("cannot read from a channel; it is closed: {e}");
                    gathered.closed.insert(number);
                    continue;
                }
            }
            // The queue has room for each channel once.
            channel.has_turn = self.turns.push(owner, number, ()).is_ok();
        }
        gathered
    }

    /// Finds channels with unread messages, and closed ones. Proposals of closed channels are
    /// dropped. Their staged content stays, as that of an interrupted upload.
    fn poll_channels(&mut self, gathered: &mut SessionRequests) {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut fds: Vec<PollFd<'_>> =
            self.channels.values().map(|open| PollFd::new(&open.end, PollFlags::IN)).collect();
        if let Err(e) = poll(&mut fds, Some(&now)) {
            return warn!("cannot poll the sessions' channels: {e}");
        }
        let found: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        for ((number, channel), found) in self.channels.iter_mut().zip(found) {
            if found.intersects(PollFlags::HUP | PollFlags::ERR) {
                gathered.closed.insert(*number);
            } else if found.contains(PollFlags::IN)
                && !channel.has_turn
                && !self.paused.contains(number)
            {
                let owner = channel.end.owner().clone();
                channel.has_turn = self.turns.push(owner, *number, ()).is_ok();
            }
        }
        for number in &gathered.closed {
            self.channels.remove(number);
        }
    }

    /// Sends the holders of a content. If the message is lost, the session continues without it.
    pub fn send_holders(&self, channel: u64, holders: &[FolderId]) {
        if let Some(Err(e)) =
            self.channels.get(&channel).map(|channel| channel.end.send_holders(holders))
        {
            debug!("a result was lost: {e}");
        }
    }

    /// Sends the result of a proposal. Returns `false` if it is lost, because the session has
    /// closed or reads no results.
    pub fn answer(&self, channel: u64, answer: &ProposalResult) -> bool {
        match self.channels.get(&channel).map(|channel| channel.end.answer(answer)) {
            Some(Ok(sent)) => {
                if !sent {
                    debug!("a session does not read its result");
                }
                sent
            }
            Some(Err(e)) => {
                warn!("a result was lost: {e}");
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
