//! A session's changes on their way: handed to the replicator, answered in order.
//!
//! While one is being stored the next can be handed in, so many share the wait for the disk. Where the replicator
//! dies its successor is handed the same changes again; their ids keep them from being made twice.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use log::{debug, error};
use relais_proto::{ErrorCode, Refusal, WaitReason};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::changes::channel::{MOST_PENDING, Received, SessionEnd};
use crate::changes::{Answer, Proposal, no_changes};
use crate::requests::Patience;
use crate::serving::Serving;

/// How long a change waits for a replicator.
const NOBODY: Duration = Duration::from_secs(5);
/// Time between two looks while there is no replicator.
const LOOK: Duration = Duration::from_millis(20);

/// The changes of one session that have no answer yet.
pub struct Pending<'a> {
    serving: &'a Serving,
    channel: Option<SessionEnd>,
    /// As bytes, oldest first, to be handed in again.
    waiting: VecDeque<Vec<u8>>,
    /// Answers that did not come over the channel.
    failed: VecDeque<Answer>,
}

impl<'a> Pending<'a> {
    /// None yet.
    #[must_use]
    pub fn new(serving: &'a Serving) -> Self {
        Self { serving, channel: None, waiting: VecDeque::new(), failed: VecDeque::new() }
    }

    /// Whether every change was answered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.failed.is_empty()
    }

    /// Whether answers have to be taken before a further change.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.waiting.len() >= MOST_PENDING
    }

    /// Can be read when an answer has come.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.channel.as_ref().map(std::os::fd::AsFd::as_fd)
    }

    /// Hands a change in. False where answers have to be taken first; the change is not handed in then.
    ///
    /// # Errors
    /// The refusal, where nobody makes changes.
    pub fn submit(&mut self, proposal: &Proposal, patience: &mut dyn Patience) -> Result<bool, Refusal> {
        if self.is_full() {
            return Ok(false);
        }
        let bytes = proposal.to_bytes();
        if self.channel.is_none() {
            self.channel = Some(self.open(patience)?);
        }
        match self.channel.as_ref().map(|channel| channel.propose(&bytes)) {
            Some(Ok(true)) => {
                self.waiting.push_back(bytes);
                Ok(true)
            }
            Some(Ok(false)) if !self.waiting.is_empty() => Ok(false),
            // The replicator has gone while nothing was under way: there may be a new one already.
            Some(Ok(false)) => {
                self.channel = None;
                let channel = self.open(patience)?;
                let handed = channel.propose(&bytes).map_err(|e| broken(&e))?;
                self.channel = Some(channel);
                self.waiting.push_back(bytes);
                if handed { Ok(true) } else { Err(self.give_up_last()) }
            }
            Some(Err(e)) => Err(broken(&e)),
            None => Err(no_changes("the replicator is gone")),
        }
    }

    fn give_up_last(&mut self) -> Refusal {
        self.waiting.pop_back();
        no_changes("the replicator is gone")
    }

    /// A channel on which a replicator has said hello.
    fn open(&self, patience: &mut dyn Patience) -> Result<SessionEnd, Refusal> {
        let mut until = Instant::now() + NOBODY;
        let mut channel = None;
        while Instant::now() < until {
            if self.serving.is_stopping() {
                return Err(Refusal::new(ErrorCode::Draining, "this slave is stopping"));
            }
            if channel.is_none() {
                channel = match self.serving.desk.open() {
                    Ok(channel) => Some(channel),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => None,
                    Err(e) => return Err(broken(&e)),
                };
            }
            match channel.as_ref().map(SessionEnd::hello).transpose().map_err(|e| broken(&e))? {
                Some(Received::Message(())) => return channel.ok_or_else(|| no_changes("the replicator is gone")),
                Some(Received::Gone) => channel = None,
                Some(Received::Nothing) | None => {}
            }
            wait(channel.as_ref(), LOOK);
            let scanning = !self.serving.is_complete()?;
            if scanning {
                // Nothing is changed before the folder was read; that may take its time.
                until = Instant::now() + NOBODY;
            }
            let reason = if scanning { WaitReason::Scanning } else { WaitReason::Storing };
            patience.still(reason).map_err(|_| Refusal::new(ErrorCode::Cut, "the client has gone"))?;
        }
        Err(no_changes("no process of the slave makes changes at the moment"))
    }

    /// The answer to the oldest change, if it has come.
    pub fn answer(&mut self, patience: &mut dyn Patience) -> Option<Answer> {
        if let Some(answer) = self.failed.pop_front() {
            return Some(answer);
        }
        match self.channel.as_ref()?.answer() {
            Ok(Received::Message(answer)) => {
                self.waiting.pop_front();
                Some(answer)
            }
            Ok(Received::Nothing) => None,
            Ok(Received::Gone) => {
                debug!("the replicator has gone");
                self.hand_in_again(patience);
                self.failed.pop_front()
            }
            Err(e) => {
                error!("an answer of the replicator is lost: {e}");
                self.fail_all(&broken(&e));
                self.failed.pop_front()
            }
        }
    }

    /// Hands everything to the next replicator.
    fn hand_in_again(&mut self, patience: &mut dyn Patience) {
        self.channel = None;
        if self.waiting.is_empty() {
            return;
        }
        let handed = self.open(patience).and_then(|channel| {
            for bytes in &self.waiting {
                if !channel.propose(bytes).map_err(|e| broken(&e))? {
                    return Err(no_changes("the replicator is gone"));
                }
            }
            Ok(channel)
        });
        match handed {
            Ok(channel) => self.channel = Some(channel),
            Err(refusal) => self.fail_all(&refusal),
        }
    }

    fn fail_all(&mut self, refusal: &Refusal) {
        self.channel = None;
        self.failed.extend(self.waiting.drain(..).map(|_| Err(refusal.clone())));
    }
}

fn broken(error: &io::Error) -> Refusal {
    error!("the way to the replicator is broken: {error}");
    no_changes("the slave's processes cannot talk to each other")
}

fn wait(channel: Option<&SessionEnd>, time: Duration) {
    let timeout = Timespec::try_from(time).ok();
    let mut fds: Vec<_> = channel.iter().map(|channel| PollFd::new(*channel, PollFlags::IN)).collect();
    // Woken early or not: the caller looks again.
    let _ = poll(&mut fds, timeout.as_ref());
}
