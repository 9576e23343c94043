//! Where the replicator takes proposals and hands answers out: the channels of all sessions.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use log::{debug, error, warn};

use super::channel::{Desk, Received, ReplicatorEnd};
use super::{Answer, Proposal};

/// Most changes that are made together. More would keep the first ones waiting.
const BATCH: usize = 256;

/// The channels of all sessions that change something.
#[derive(Debug)]
pub struct Counter {
    desk: Arc<Desk>,
    channels: Vec<ReplicatorEnd>,
    /// Whose turn it is to be read first.
    turn: usize,
}

impl Counter {
    /// Has no channel yet.
    #[must_use]
    pub fn new(desk: Arc<Desk>) -> Self {
        Self { desk, channels: Vec::new(), turn: 0 }
    }

    /// Can be read when there is something to do.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(self.desk.as_fd()).chain(self.channels.iter().map(AsFd::as_fd))
    }

    /// Closes all channels: their sessions hand in again what has no answer.
    pub fn close_all(&mut self) {
        self.channels.clear();
    }

    /// Takes the channels that sessions have brought.
    pub fn accept(&mut self) {
        loop {
            match self.desk.accept() {
                Ok(Some(channel)) => self.channels.push(channel),
                Ok(None) => return,
                // Its session sees that it is closed, and brings another.
                Err(e) => return error!("a channel is lost: {e}"),
            }
        }
    }

    /// Closes channels that are of no more use. Their sessions hand in again what has no answer.
    pub fn close(&mut self, useless: &BTreeSet<usize>) {
        let mut at = 0;
        self.channels.retain(|channel| {
            at += 1;
            !useless.contains(&(at - 1)) && !is_closed(channel)
        });
    }

    /// Takes at most a batch of proposals from the channels, in turn; for each the place of its channel. The channels that
    /// nothing more comes from are the last result.
    pub fn gather(&mut self) -> (Vec<usize>, Vec<Proposal>, BTreeSet<usize>) {
        let (mut from, mut proposals, mut gone) = (Vec::new(), Vec::new(), BTreeSet::new());
        let count = self.channels.len();
        self.turn = self.turn.wrapping_add(1);
        for step in 0..count {
            let at = (self.turn % count + step) % count;
            while proposals.len() < BATCH {
                match self.channels[at].proposal() {
                    Ok(Received::Message(proposal)) => {
                        from.push(at);
                        proposals.push(proposal);
                    }
                    Ok(Received::Nothing) => break,
                    Ok(Received::Gone) => {
                        gone.insert(at);
                        break;
                    }
                    Err(e) => {
                        error!("a channel is of no more use: {e}");
                        gone.insert(at);
                        break;
                    }
                }
            }
        }
        (from, proposals, gone)
    }

    /// Answers a proposal; false where the answer is lost: the session has left, or reads none of its answers.
    pub fn answer(&self, channel: usize, answer: &Answer) -> bool {
        match self.channels.get(channel).map(|channel| channel.answer(answer)) {
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
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok() && fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}
