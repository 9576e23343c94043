//! Where the replicator takes proposals and hands answers out: the channels of all sessions.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use log::{debug, error, warn};
use relais_proto::{FolderId, Version};

use super::channel::{Desk, Received, ReplicatorEnd};
use super::door::Door;
use super::{Answer, Ask, Proposal};

/// Most changes that are made together. More would keep the first ones waiting.
const BATCH: usize = 256;

/// The channels of all sessions that change something, each with a number of its own.
#[derive(Debug)]
pub struct Counter {
    desk: Arc<Desk>,
    /// Where other slaves of the folder bring their sessions' channels.
    door: Option<Door>,
    channels: BTreeMap<u64, ReplicatorEnd>,
    next: u64,
    /// Whose turn it is to be read first.
    turn: usize,
}

/// What has come over the channels.
#[derive(Debug, Default)]
pub struct Gathered {
    /// Proposals, and the channel that each came on.
    pub proposals: Vec<(u64, Proposal)>,
    /// Puts whose holders somebody wants to know.
    pub holders: Vec<(u64, Version)>,
    /// Channels that nothing more comes from.
    pub gone: BTreeSet<u64>,
}

impl Counter {
    /// Has no channel yet.
    #[must_use]
    pub fn new(desk: Arc<Desk>, door: Option<Door>) -> Self {
        Self { desk, door, channels: BTreeMap::new(), next: 0, turn: 0 }
    }

    /// Can be read when there is something to do.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let own = std::iter::once(self.desk.as_fd()).chain(self.channels.values().map(AsFd::as_fd));
        own.chain(self.door.iter().flat_map(Door::fds))
    }

    /// Closes all channels: their sessions hand in again what has no answer.
    pub fn close_all(&mut self) {
        self.channels.clear();
    }

    /// Takes the channels that sessions have brought.
    pub fn accept(&mut self) {
        loop {
            match self.desk.accept() {
                Ok(Some(channel)) => {
                    self.next += 1;
                    self.channels.insert(self.next, channel);
                }
                Ok(None) => break,
                // Its session sees that it is closed, and brings another.
                Err(e) => {
                    error!("a channel is lost: {e}");
                    break;
                }
            }
        }
        for channel in self.door.as_mut().map(Door::take).unwrap_or_default() {
            self.next += 1;
            self.channels.insert(self.next, channel);
        }
    }

    /// Closes a channel that is of no more use. Its session hands in again what has no answer.
    pub fn close(&mut self, channel: u64) {
        self.channels.remove(&channel);
    }

    /// Closes the channels whose sessions have left; which they were.
    pub fn sweep(&mut self) -> Vec<u64> {
        self.channels
            .extract_if(.., |_, channel| is_closed(channel))
            .map(|(number, _)| number)
            .collect()
    }

    /// Takes at most a batch of proposals from the channels, in turn.
    pub fn gather(&mut self) -> Gathered {
        let mut gathered = Gathered::default();
        self.turn = self.turn.wrapping_add(1);
        let first = self.turn.checked_rem(self.channels.len()).unwrap_or(0);
        for (number, channel) in
            self.channels.iter().skip(first).chain(self.channels.iter().take(first))
        {
            while gathered.proposals.len() < BATCH {
                match channel.ask() {
                    Ok(Received::Message(Ask::Change(proposal))) => {
                        gathered.proposals.push((*number, proposal))
                    }
                    Ok(Received::Message(Ask::Holders(put))) => {
                        gathered.holders.push((*number, put))
                    }
                    Ok(Received::Nothing) => break,
                    Ok(Received::Gone) => {
                        gathered.gone.insert(*number);
                        break;
                    }
                    Err(e) => {
                        error!("a channel is of no more use: {e}");
                        gathered.gone.insert(*number);
                        break;
                    }
                }
            }
        }
        gathered
    }

    /// Tells who holds content. Where that is lost its session goes on without.
    pub fn tell_holders(&self, channel: u64, holders: &[FolderId]) {
        if let Some(Err(e)) =
            self.channels.get(&channel).map(|channel| channel.tell_holders(holders))
        {
            debug!("an answer is lost: {e}");
        }
    }

    /// Answers a proposal; false where the answer is lost: the session has left, or reads none of its answers.
    pub fn answer(&self, channel: u64, answer: &Answer) -> bool {
        match self.channels.get(&channel).map(|channel| channel.answer(answer)) {
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

fn is_closed(channel: &ReplicatorEnd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::new(channel, PollFlags::empty())];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok()
        && fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}
