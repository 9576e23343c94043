//! Receives proposals from the channels of all sessions and sends the results.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use log::{debug, error, warn};
use relais_engine::Owner;
use relais_os::{MessageListener, Received};
use relais_proto::{Change, FairQueue, FolderId, LogRateLimiter};
use relais_storage::{BATCH, ProposalResult, SessionRequests};
use rustix::event::{PollFd, PollFlags};

use super::channel::{ChannelRequest, REQUEST, ReplicatorEnd};
use crate::poll::wait_for;

/// Cost of a change that is committed and synced in a batch of its own. Others cost 1.
const ALONE: usize = 32;
/// Pause after a failure to accept a channel.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The channels of all sessions that change something, each with a number.
#[derive(Debug)]
pub struct ProposalReceiver {
    listener: MessageListener,
    channels: BTreeMap<u64, Channel>,
    next: u64,
    /// Channels on which a result was lost. Their proposals must still be read.
    lost: BTreeSet<u64>,
    /// Channels that are not read now.
    paused: BTreeSet<u64>,
    /// End of the pause after a failure to accept a channel, such as for want of descriptors.
    accepts_again: Option<Instant>,
    /// Channels with unread messages, in turns by owner and then by channel.
    turns: FairQueue<Owner, u64, ()>,
    /// Buffer for one request.
    buffer: Box<[u8]>,
}

#[derive(Debug)]
struct Channel {
    end: ReplicatorEnd,
    /// The owner of its proposals; none until it has been read.
    owner: Option<Owner>,
    /// Whether the channel has its place in the turns.
    has_turn: bool,
}

impl ProposalReceiver {
    /// Creates a receiver without channels.
    #[must_use]
    pub fn new(listener: MessageListener) -> Self {
        Self {
            listener,
            channels: BTreeMap::new(),
            next: 0,
            lost: BTreeSet::new(),
            paused: BTreeSet::new(),
            accepts_again: None,
            turns: FairQueue::new(usize::MAX),
            buffer: vec![0; REQUEST].into(),
        }
    }

    /// Returns the descriptors to poll. A listener that has failed rests for a while. Without
    /// `proposals` only new channels are polled.
    pub fn fds(&self, proposals: bool) -> impl Iterator<Item = BorrowedFd<'_>> {
        let channels = self.channels.iter().filter(move |(number, channel)| {
            channel.owner.is_none() || proposals && !self.paused.contains(number)
        });
        let rests = self.accepts_again.is_some_and(|until| Instant::now() < until);
        let listener = (!rests).then(|| self.listener.as_fd());
        listener.into_iter().chain(channels.map(|(_, open)| open.end.as_fd()))
    }

    /// Accepts new channels.
    pub fn accept(&mut self) {
        loop {
            match self.listener.accept() {
                Ok(socket) => {
                    self.next += 1;
                    let end = ReplicatorEnd(socket);
                    self.channels.insert(self.next, Channel { end, owner: None, has_turn: false });
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) => {
                    static NOT_ACCEPTED: LogRateLimiter = LogRateLimiter::new();
                    if let Some(more) = NOT_ACCEPTED.allow(Instant::now()) {
                        error!("cannot accept the channel of a session: {e}{more}");
                    }
                    self.accepts_again = Some(Instant::now() + ACCEPT_PAUSE);
                    return;
                }
            }
        }
    }

    /// Sets the channels that are not read until the next call.
    pub fn pause(&mut self, channels: BTreeSet<u64>) {
        self.paused = channels;
    }

    /// Reads proposals until there are `most`, or one batch, in turns by owner and then by channel.
    ///
    /// The last message may have a few more.
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
            match channel.end.next_requests(&mut self.buffer) {
                Ok(Received::Message(requests)) => {
                    for request in requests {
                        match request {
                            ChannelRequest::Change(proposal) => {
                                cost += cost_of(&proposal.change);
                                count += 1;
                                gathered.proposals.push((number, proposal));
                            }
                            ChannelRequest::Holders(put) => gathered.holders.push((number, put)),
                        }
                    }
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
        gathered.closed.append(&mut self.lost);
        gathered.closed.iter().for_each(|number| drop(self.channels.remove(number)));
        gathered
    }

    /// Finds channels with unread messages, and closed ones. Proposals of closed channels are
    /// dropped. Their staged content stays, as that of an interrupted upload.
    fn poll_channels(&mut self, gathered: &mut SessionRequests) {
        let mut fds: Vec<PollFd<'_>> =
            self.channels.values().map(|open| PollFd::new(&open.end, PollFlags::IN)).collect();
        if let Err(e) = wait_for(&mut fds, Some(Duration::ZERO)) {
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
                match &channel.owner {
                    Some(owner) => {
                        channel.has_turn = self.turns.push(owner.clone(), *number, ()).is_ok();
                    }
                    None => match channel.end.greet() {
                        Ok(Received::Message(owner)) => channel.owner = Some(owner),
                        // The next poll finds it closed.
                        Ok(Received::Nothing | Received::Gone) => {}
                        Err(e) => {
                            debug!("a channel has no owner: {e}");
                            gathered.closed.insert(*number);
                        }
                    },
                }
            }
        }
        gathered.closed.iter().for_each(|number| drop(self.channels.remove(number)));
    }

    /// Sends the holders of a content. If the message is lost, the session continues without it.
    pub fn send_holders(&self, channel: u64, holders: &[FolderId]) {
        if let Some(Err(e)) =
            self.channels.get(&channel).map(|channel| channel.end.send_holders(holders))
        {
            debug!("a result was lost: {e}");
        }
    }

    /// Sends the results of a channel's proposals.
    ///
    /// They are lost if the session has closed or reads no results. Then the channel is closed
    /// after its proposals were read, because the session would take the next result for the lost
    /// one.
    pub fn answer(&mut self, channel: u64, answers: &[ProposalResult]) {
        let Some(open) = self.channels.get(&channel) else { return };
        if self.lost.contains(&channel) {
            return;
        }
        match open.end.answer(answers) {
            Ok(true) => return,
            Ok(false) => debug!("a session does not read its result"),
            Err(e) => warn!("a result was lost: {e}"),
        }
        self.lost.insert(channel);
    }
}

fn cost_of(change: &Change) -> usize {
    match change {
        Change::Move { .. } | Change::Remove { recursive: true, .. } => ALONE,
        _ => 1,
    }
}
