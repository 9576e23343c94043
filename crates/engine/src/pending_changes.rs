//! A session's pending changes: handed to the catalogue writer, and answered in order.
//!
//! While one change is being stored the next can be handed in, so many share the wait for the disk.
//! If the writer dies its successor gets the same changes again; their ids keep them from being
//! made twice.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{debug, error};
use relais_os::Received;
use relais_proto::{Change, Refusal, WaitReason, limits};
use relais_storage::{CatalogStore, CommitReceipt, Proposal, changes_unavailable};

use crate::change::{Committed, PreparedChange};
use crate::context::SessionContext;
use crate::engine::{SCAN_WAIT, stopping, wait_for};
use crate::host::{MOST_PENDING, ProposalChannel};
use crate::keep_alive::{KeepAlive, keep_waiting};

/// How long a change waits for a catalogue writer.
const WRITER_WAIT: Duration = Duration::from_secs(5);
/// How long a catalogue writer may send no answer at all.
///
/// It may be alive and stuck, because it was stopped or its disk hangs. The change may still be
/// made; a client that repeats the command with the same id learns the result.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The same for a put that waits for copies on other disks.
///
/// The writer itself gives up waiting for copies after 30 s, and that answer has to come first.
const ANSWER_TIMEOUT_WITH_COPIES: Duration = Duration::from_secs(32);
/// Time between two checks for a catalogue writer.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The changes of one session that have no answer yet.
pub(crate) struct PendingChanges {
    context: Arc<SessionContext>,
    channel: Option<Box<dyn ProposalChannel>>,
    /// Oldest first; they are kept to be handed in again.
    changes: VecDeque<PreparedChange>,
    /// Changes that failed without an answer of the writer.
    failed: VecDeque<Refusal>,
    /// When the writer last answered, or was first given a change after that.
    answered_at: Instant,
}

impl PendingChanges {
    pub fn new(context: Arc<SessionContext>) -> Self {
        Self {
            context,
            channel: None,
            changes: VecDeque::new(),
            failed: VecDeque::new(),
            answered_at: Instant::now(),
        }
    }

    /// Has later changes belong to another login of the same user.
    pub fn set_context(&mut self, context: Arc<SessionContext>) {
        self.context = context;
    }

    /// Whether every change was answered.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.failed.is_empty()
    }

    pub fn channel(&self) -> Option<&dyn ProposalChannel> {
        self.channel.as_deref()
    }

    /// Hands a change in; returns it if answers have to be taken first.
    pub fn submit(
        &mut self,
        mut change: PreparedChange,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<Option<PreparedChange>, Refusal> {
        // The answer to a change with a follow-up comes with that of the follow-up.
        let has_follow_up = self.changes.back().is_some_and(|last| !last.follow_ups.is_empty());
        if self.changes.len() >= MOST_PENDING || has_follow_up {
            return Ok(Some(change));
        }
        let submitted = self.try_submit(&change.proposal, keepalive);
        if self.context.recorded(&mut change.record, submitted)? {
            if self.changes.is_empty() {
                self.answered_at = Instant::now();
            }
            self.changes.push_back(change);
            return Ok(None);
        }
        Ok(Some(change))
    }

    fn try_submit(
        &mut self,
        proposal: &Proposal,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<bool, Refusal> {
        if let Some(channel) = &self.channel {
            match channel.propose(proposal).map_err(|e| channel_failed(&e))? {
                false if self.changes.is_empty() => {}
                submitted => return Ok(submitted),
            }
            // The writer has gone while no change was pending; there may be a new one already.
            self.channel = None;
        }
        let channel = self.open(keepalive)?;
        let submitted = channel.propose(proposal).map_err(|e| channel_failed(&e))?;
        self.channel = Some(channel);
        if submitted { Ok(true) } else { Err(writer_ended()) }
    }

    /// Returns how long the writer may send no answer now.
    fn answer_timeout(&self) -> Duration {
        let waits_for_copies = |proposal: &Proposal| {
            let copies = match proposal.copies {
                0 => self.context.host().copies(),
                copies => copies,
            };
            matches!(proposal.change, Change::Put { .. }) && copies > 1
        };
        if self.changes.iter().any(|change| waits_for_copies(&change.proposal)) {
            ANSWER_TIMEOUT_WITH_COPIES
        } else {
            ANSWER_TIMEOUT
        }
    }

    /// Opens a channel, and waits until a writer has greeted on it.
    fn open(&self, keepalive: &mut dyn KeepAlive) -> Result<Box<dyn ProposalChannel>, Refusal> {
        let began = Instant::now();
        let mut until = began + WRITER_WAIT;
        let mut channel: Option<Box<dyn ProposalChannel>> = None;
        while Instant::now() < until {
            if self.context.is_stopping() {
                return Err(stopping());
            }
            if channel.is_none() {
                channel = match self.context.host().open_channel(&self.context.principal.owner) {
                    Ok(channel) => Some(channel),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => None,
                    Err(e) => return Err(channel_failed(&e)),
                };
            }
            if let Some(open) = channel.take() {
                match open.read_greeting().map_err(|e| channel_failed(&e))? {
                    Received::Message(()) => return Ok(open),
                    Received::Gone => {}
                    Received::Nothing => channel = Some(open),
                }
            }
            wait_for(channel.as_deref(), POLL_INTERVAL);
            let scanning = self.context.with_catalogue(CatalogStore::is_scanning)?;
            if scanning && began.elapsed() < SCAN_WAIT {
                // No change is made before the folder was scanned, which may take long.
                until = Instant::now() + WRITER_WAIT;
            }
            let reason = if scanning { WaitReason::Scanning } else { WaitReason::Storing };
            keep_waiting(keepalive, reason)?;
        }
        Err(changes_unavailable("the slave has no replicator at the moment"))
    }

    /// Hands a change in and waits for its answer. No other change may be pending.
    pub fn commit(
        &mut self,
        change: PreparedChange,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<Committed, Refusal> {
        self.submit(change, keepalive)?;
        loop {
            if let Some(answer) = self.answer(keepalive) {
                return answer;
            }
            wait_for(self.channel(), limits::WAIT_EVERY / 10);
            keep_waiting(keepalive, WaitReason::Storing)?;
        }
    }

    /// Returns the answer to the oldest change, if it has come.
    pub fn answer(&mut self, keepalive: &mut dyn KeepAlive) -> Option<Result<Committed, Refusal>> {
        if let Some(refusal) = self.failed.pop_front() {
            return Some(Err(refusal));
        }
        match self.channel.as_ref()?.read_result() {
            Ok(Received::Message(result)) => {
                self.answered_at = Instant::now();
                // The writer answers no more than it was asked.
                let mut change = self.changes.pop_front()?;
                if let Some(staged) = &change.proposal.staged {
                    self.context.release_upload(staged);
                }
                let result = self.context.recorded(&mut change.record, result);
                let made = match result {
                    Ok(receipt) => self.committed(receipt, &change.proposal.change),
                    Err(refusal) => return Some(Err(refusal)),
                };
                // A follow-up does not change what the client is told about its change.
                let made =
                    change.committed.map_or(made, |first| Committed { lsn: made.lsn, ..first });
                if let Some(proposal) = change.follow_ups.pop_front() {
                    change = PreparedChange { proposal, committed: Some(made), ..change };
                    return match self.submit(change, keepalive) {
                        Ok(None) => None,
                        Ok(Some(_)) => Some(Err(writer_ended())),
                        Err(refusal) => Some(Err(refusal)),
                    };
                }
                change.record.end(Ok(()));
                Some(Ok(made))
            }
            Ok(Received::Nothing)
                if self.changes.is_empty()
                    || self.answered_at.elapsed() < self.answer_timeout() =>
            {
                None
            }
            unanswered => {
                match unanswered {
                    Err(e) => self.fail_all(&channel_failed(&e)),
                    Ok(Received::Gone) => {
                        debug!("the replicator has gone");
                        self.resubmit_all(keepalive);
                    }
                    Ok(_) => self.fail_all(&changes_unavailable(
                        "it is not known yet whether the change was made; ask again",
                    )),
                }
                self.failed.pop_front().map(Err)
            }
        }
    }

    /// Returns what the client is told about a change that was made.
    fn committed(&self, receipt: CommitReceipt, change: &Change) -> Committed {
        let CommitReceipt { version, copies, digest, fresh } = receipt;
        let is_current = match change {
            // If the catalogue cannot tell, the client checks for itself.
            Change::Put { path, .. } if !fresh => {
                self.context.is_current(path, version).unwrap_or(false)
            }
            _ => true,
        };
        let lsn = self.context.visible_lsn().max(version);
        Committed { version, copies, lsn, digest, is_current }
    }

    /// Hands all pending changes to the next writer.
    fn resubmit_all(&mut self, keepalive: &mut dyn KeepAlive) {
        self.channel = None;
        if self.changes.is_empty() {
            return;
        }
        let submitted = self.open(keepalive).and_then(|channel| {
            let mut proposals = self.changes.iter().map(|change| &change.proposal);
            proposals.try_for_each(|proposal| submit_one(&*channel, proposal, keepalive))?;
            Ok(channel)
        });
        match submitted {
            Ok(channel) => {
                self.channel = Some(channel);
                self.answered_at = Instant::now();
            }
            Err(refusal) => self.fail_all(&refusal),
        }
    }

    fn fail_all(&mut self, refusal: &Refusal) {
        self.channel = None;
        for mut change in self.changes.drain(..) {
            change.record.end(Err(refusal.code));
            self.failed.push_back(refusal.clone());
        }
    }
}

/// Hands in one of many proposals, once there is space for it.
fn submit_one(
    channel: &dyn ProposalChannel,
    proposal: &Proposal,
    keepalive: &mut dyn KeepAlive,
) -> Result<(), Refusal> {
    let until = Instant::now() + WRITER_WAIT;
    while !channel.propose(proposal).map_err(|e| channel_failed(&e))? {
        if Instant::now() >= until {
            return Err(writer_ended());
        }
        std::thread::sleep(Duration::from_millis(1));
        keep_waiting(keepalive, WaitReason::Storing)?;
    }
    Ok(())
}

fn writer_ended() -> Refusal {
    changes_unavailable("the slave's replicator has ended")
}

fn channel_failed(error: &io::Error) -> Refusal {
    error!("the channel to the replicator has failed: {error}");
    changes_unavailable("the slave's processes cannot talk to each other")
}
