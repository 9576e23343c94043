//! A session's pending changes: handed to the replicator, and answered in order.
//!
//! While one change is being stored the next can be handed in, so many share the wait for the disk.
//! If the replicator dies its successor gets the same changes again; their ids keep them from being
//! made twice.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use log::{debug, error};
use relais_proto::{Change, ErrorCode, Refusal, WaitReason};
use relais_storage::{CommitReceipt, Proposal, StagedName, changes_unavailable};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::changes::ChannelRequest;
use crate::changes::channel::{MOST_PENDING, Received, SessionEnd};
use crate::engine::owner::Owner;
use crate::engine::requests::{KeepAlive, SCAN_WAIT};
use crate::engine::serving::ServingContext;

/// How long a change waits for a replicator.
const REPLICATOR_WAIT: Duration = Duration::from_secs(5);
/// How long a replicator may send no answer at all.
///
/// It may be alive and stuck, because it was stopped or its disk hangs. The change may still be
/// made; a client that repeats the request with the same id learns the result.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The same for a put that waits for copies on other disks.
///
/// The replicator itself gives up waiting for copies after 30 s, and that answer has to come first.
const ANSWER_TIMEOUT_WITH_COPIES: Duration = Duration::from_secs(32);
/// Time between two checks for a replicator.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The changes of one session that have no answer yet.
pub struct PendingChanges<'a> {
    serving: &'a ServingContext,
    owner: &'a Owner,
    channel: Option<SessionEnd>,
    /// Oldest first; they are kept to be handed in again.
    changes: VecDeque<PendingChange>,
    /// Results that did not come over the channel.
    local_results: VecDeque<Result<CommittedChange, Refusal>>,
    /// When the replicator last answered, or was first given a change after that.
    answered_at: Instant,
}

/// A committed change, as it is reported to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommittedChange {
    /// The result from the replicator.
    pub receipt: CommitReceipt,
    /// Whether the path of a put still has the content of that put.
    pub is_current: bool,
}

/// A change without an answer.
struct PendingChange {
    bytes: Vec<u8>,
    staged: Option<StagedName>,
    /// Whether its answer waits for copies on other disks.
    for_copies: bool,
}

impl<'a> PendingChanges<'a> {
    /// Makes an empty queue.
    #[must_use]
    pub fn new(serving: &'a ServingContext, owner: &'a Owner) -> Self {
        Self {
            serving,
            owner,
            channel: None,
            changes: VecDeque::new(),
            local_results: VecDeque::new(),
            answered_at: Instant::now(),
        }
    }

    /// Whether every change was answered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.local_results.is_empty()
    }

    /// Whether answers have to be taken before a further change.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.changes.len() >= MOST_PENDING
    }

    /// Returns the descriptor that is readable when an answer has come.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.channel.as_ref().map(std::os::fd::AsFd::as_fd)
    }

    /// Hands a change in; false if answers have to be taken first, and the change was not handed
    /// in.
    ///
    /// # Errors
    /// The refusal if there is no replicator.
    pub fn submit(
        &mut self,
        proposal: &Proposal,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<bool, Refusal> {
        if self.is_full() {
            return Ok(false);
        }
        let bytes = ChannelRequest::change(proposal);
        let for_copies = self.waits_for_copies(proposal);
        let staged = proposal.staged.clone();
        if self.channel.is_none() {
            self.channel = Some(self.open(keepalive)?);
        }
        match self.channel.as_ref().map(|channel| channel.propose(&bytes)) {
            Some(Ok(true)) => {
                self.start_answer_timer();
                self.changes.push_back(PendingChange { bytes, staged, for_copies });
                Ok(true)
            }
            Some(Ok(false)) if !self.changes.is_empty() => Ok(false),
            // The replicator has gone while no change was pending; there may be a new one already.
            Some(Ok(false)) => {
                self.channel = None;
                let channel = self.open(keepalive)?;
                let submitted = channel.propose(&bytes).map_err(|e| channel_failed(&e))?;
                self.channel = Some(channel);
                self.start_answer_timer();
                self.changes.push_back(PendingChange { bytes, staged, for_copies });
                if submitted { Ok(true) } else { Err(self.drop_last()) }
            }
            Some(Err(e)) => Err(channel_failed(&e)),
            None => Err(changes_unavailable("the slave's replicator has ended")),
        }
    }

    fn waits_for_copies(&self, proposal: &Proposal) -> bool {
        let copies =
            if proposal.copies == 0 { self.serving.scoreboard.copies() } else { proposal.copies };
        matches!(proposal.change, Change::Put { .. }) && copies > 1
    }

    /// Returns how long the replicator may send no answer now.
    fn answer_timeout(&self) -> Duration {
        if self.changes.iter().any(|change| change.for_copies) {
            ANSWER_TIMEOUT_WITH_COPIES
        } else {
            ANSWER_TIMEOUT
        }
    }

    fn drop_last(&mut self) -> Refusal {
        self.changes.pop_back();
        changes_unavailable("the slave's replicator has ended")
    }

    /// Opens a channel, and waits until a replicator has greeted on it.
    fn open(&self, keepalive: &mut dyn KeepAlive) -> Result<SessionEnd, Refusal> {
        let began = Instant::now();
        let mut until = began + REPLICATOR_WAIT;
        let mut channel = None;
        while Instant::now() < until {
            if self.serving.is_stopping() {
                return Err(Refusal::new(ErrorCode::Draining, "this slave is stopping"));
            }
            if channel.is_none() {
                channel = match self.serving.proposal_socket.open(self.owner) {
                    Ok(channel) => Some(channel),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => None,
                    Err(e) => return Err(channel_failed(&e)),
                };
            }
            match channel
                .as_ref()
                .map(SessionEnd::read_greeting)
                .transpose()
                .map_err(|e| channel_failed(&e))?
            {
                Some(Received::Message(())) => {
                    return channel
                        .ok_or_else(|| changes_unavailable("the slave's replicator has ended"));
                }
                Some(Received::Gone) => channel = None,
                Some(Received::Nothing) | None => {}
            }
            wait(channel.as_ref(), POLL_INTERVAL);
            let scanning = self.serving.is_scanning()?;
            if scanning && began.elapsed() < SCAN_WAIT {
                // No change is made before the folder was scanned, which may take long.
                until = Instant::now() + REPLICATOR_WAIT;
            }
            let reason = if scanning { WaitReason::Scanning } else { WaitReason::Storing };
            keepalive
                .send_keepalive(reason)
                .map_err(|_| Refusal::new(ErrorCode::Cut, "the client has gone"))?;
        }
        Err(changes_unavailable("the slave has no replicator at the moment"))
    }

    /// Returns the answer to the oldest change, if it has come.
    pub fn answer(
        &mut self,
        keepalive: &mut dyn KeepAlive,
    ) -> Option<Result<CommittedChange, Refusal>> {
        if let Some(answer) = self.local_results.pop_front() {
            return Some(answer);
        }
        match self.channel.as_ref()?.answer() {
            Ok(Received::Message(answer)) => {
                self.answered_at = Instant::now();
                let change = self.changes.pop_front();
                if let Some(staged) = change.as_ref().and_then(|change| change.staged.as_ref()) {
                    self.serving.finish_upload(staged);
                }
                Some(answer.map(|receipt| self.to_committed(receipt, change.as_ref())))
            }
            Ok(Received::Nothing)
                if !self.changes.is_empty()
                    && self.answered_at.elapsed() >= self.answer_timeout() =>
            {
                self.fail_all(&changes_unavailable(
                    "it is not known yet whether the change was made; ask again",
                ));
                self.local_results.pop_front()
            }
            Ok(Received::Nothing) => None,
            Ok(Received::Gone) => {
                debug!("the replicator has gone");
                self.resubmit_all(keepalive);
                self.local_results.pop_front()
            }
            Err(e) => {
                error!("cannot read an answer of the replicator: {e}");
                self.fail_all(&channel_failed(&e));
                self.local_results.pop_front()
            }
        }
    }

    /// Returns what the client is told about a change that was made.
    fn to_committed(
        &self,
        receipt: CommitReceipt,
        change: Option<&PendingChange>,
    ) -> CommittedChange {
        let path = || match ChannelRequest::from_bytes(&change?.bytes) {
            Ok(ChannelRequest::Change(Proposal { change: Change::Put { path, .. }, .. })) => {
                Some(path)
            }
            _ => None,
        };
        let is_current = receipt.fresh
            || path().is_none_or(|path| {
                // If the catalogue cannot tell, the client checks for itself.
                self.serving.is_current(&path, receipt.version).unwrap_or(false)
            });
        CommittedChange { receipt, is_current }
    }

    /// Hands all pending changes to the next replicator.
    fn resubmit_all(&mut self, keepalive: &mut dyn KeepAlive) {
        self.channel = None;
        if self.changes.is_empty() {
            return;
        }
        let submitted = self.open(keepalive).and_then(|channel| {
            self.changes
                .iter()
                .try_for_each(|change| submit_one(&channel, &change.bytes, keepalive))?;
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

    /// Restarts the timer for answers, if no change is pending.
    fn start_answer_timer(&mut self) {
        if self.changes.is_empty() {
            self.answered_at = Instant::now();
        }
    }

    fn fail_all(&mut self, refusal: &Refusal) {
        self.channel = None;
        self.local_results.extend(self.changes.drain(..).map(|_| Err(refusal.clone())));
    }
}

/// Hands in one of many proposals, once there is space for it.
fn submit_one(
    channel: &SessionEnd,
    bytes: &[u8],
    keepalive: &mut dyn KeepAlive,
) -> Result<(), Refusal> {
    let until = Instant::now() + REPLICATOR_WAIT;
    while !channel.propose(bytes).map_err(|e| channel_failed(&e))? {
        if Instant::now() >= until {
            return Err(changes_unavailable("the slave's replicator has ended"));
        }
        std::thread::sleep(Duration::from_millis(1));
        keepalive
            .send_keepalive(WaitReason::Storing)
            .map_err(|_| Refusal::new(ErrorCode::Cut, "the client has gone"))?;
    }
    Ok(())
}

fn channel_failed(error: &io::Error) -> Refusal {
    error!("the channel to the replicator has failed: {error}");
    changes_unavailable("the slave's processes cannot talk to each other")
}

fn wait(channel: Option<&SessionEnd>, time: Duration) {
    let timeout = Timespec::try_from(time).ok();
    let mut fds: Vec<_> =
        channel.iter().map(|channel| PollFd::new(*channel, PollFlags::IN)).collect();
    // The caller checks again in any case.
    let _ = poll(&mut fds, timeout.as_ref());
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::changes::ChannelRequest;
    use crate::changes::channel::{ProposalSocket, ReplicatorEnd};
    use crate::engine::serving::ServingParts;
    use crate::scoreboard::Scoreboard;
    use relais_os::ProcessMailbox;
    use relais_proto::{ChangeId, Expect, FolderId, Lsn, Mode, SlaveId, TreePath};
    use relais_storage::{FOLDER, MetadataFolder};
    use relais_tree::Folder;

    /// A replicator that accepts channels while a session waits for it.
    struct Replicator {
        proposal_socket: Arc<ProposalSocket>,
        ends: Vec<ReplicatorEnd>,
        keepalives: usize,
        accepts: bool,
    }

    impl KeepAlive for Replicator {
        fn send_keepalive(&mut self, _: WaitReason) -> io::Result<()> {
            self.keepalives += 1;
            if self.accepts {
                while let Some(end) = self.proposal_socket.accept()? {
                    self.ends.push(end);
                }
            }
            if self.keepalives > 500 { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
        }
    }

    impl Replicator {
        /// Returns the ids of all proposals that have come.
        fn take(&self) -> Vec<u8> {
            let mut ids = Vec::new();
            while let Received::Message(ChannelRequest::Change(proposal)) =
                self.ends.last().unwrap().next_request().unwrap()
            {
                ids.push(proposal.id.0[0]);
            }
            ids
        }

        fn answer(&self, number: u64) -> bool {
            self.ends
                .last()
                .unwrap()
                .answer(&Ok(CommitReceipt::new(Lsn { epoch: 1, number })))
                .unwrap()
        }
    }

    fn serving() -> (tempfile::TempDir, ServingContext, Replicator) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(FOLDER)).unwrap();
        let proposal_socket = Arc::new(ProposalSocket::new().unwrap());
        let folder = Folder::open(dir.path()).unwrap();
        let parts = ServingParts {
            own: MetadataFolder::open(&folder).unwrap(),
            folder,
            folder_id: FolderId([1; 16]),
            slave_id: SlaveId([2; 16]),
            block_size: 1024,
            umask: Mode::new(0o022),
            scoreboard: Arc::new(Scoreboard::new(1, 1, 1).unwrap()),
            hints: Arc::new(ProcessMailbox::new().unwrap()),
            proposal_socket: proposal_socket.clone(),
            mailboxes: Arc::default(),
            read_only: None,
            is_cluster_member: false,
            worker: 0,
            transfers: None,
        };
        (
            dir,
            ServingContext::new(parts).unwrap(),
            Replicator { proposal_socket, ends: Vec::new(), keepalives: 0, accepts: true },
        )
    }

    fn proposal(n: u8, name: &str) -> Proposal {
        let change =
            Change::MakeFolder { path: TreePath::new(name).unwrap(), mode: Mode::new(0o755) };
        Proposal {
            id: ChangeId([n; 16]),
            change,
            expect: Expect::Any,
            keep_mode: false,
            staged: None,
            synced: false,
            copies: 0,
        }
    }

    fn numbers(pending: &mut PendingChanges<'_>, replicator: &mut Replicator) -> Vec<u64> {
        std::iter::from_fn(|| pending.answer(replicator))
            .map(|answer| answer.unwrap().receipt.version.number)
            .collect()
    }

    #[test]
    fn successor_gets_unanswered_changes_in_order() {
        let ((_dir, serving, mut replicator), owner) = (serving(), Owner::from_text("ann"));
        let mut pending = PendingChanges::new(&serving, &owner);
        assert!(pending.is_empty());
        for n in 1..=5 {
            assert!(pending.submit(&proposal(n, "d"), &mut replicator).unwrap());
        }
        assert_eq!(replicator.take(), [1, 2, 3, 4, 5]);
        assert!(replicator.answer(11) && replicator.answer(12));
        replicator.ends.clear();
        assert_eq!(numbers(&mut pending, &mut replicator), [11, 12]);
        assert_eq!((replicator.take(), replicator.ends.len()), (vec![3, 4, 5], 1));
        for n in 13..=15 {
            assert!(!pending.is_empty());
            assert!(replicator.answer(n));
        }
        assert_eq!(numbers(&mut pending, &mut replicator), [13, 14, 15]);
        assert!(pending.is_empty());
        // The replicator dies while no change is pending.
        replicator.ends.clear();
        assert!(pending.submit(&proposal(6, "d"), &mut replicator).unwrap());
        assert_eq!(replicator.take(), [6]);
    }

    #[test]
    fn pending_changes_are_limited_and_resubmitted() {
        let ((_dir, serving, mut replicator), owner) = (serving(), Owner::from_text("ann"));
        let mut pending = PendingChanges::new(&serving, &owner);
        let long = vec!["x".repeat(255); 15].join("/");
        let mut submitted = 0_u8;
        while pending.submit(&proposal(submitted, &long), &mut replicator).unwrap() {
            submitted += 1;
        }
        assert!((20..=128).contains(&submitted), "{submitted} of 4 KiB fit");
        assert_eq!(replicator.take().len(), usize::from(submitted));
        while pending.submit(&proposal(submitted, &long), &mut replicator).unwrap() {
            submitted += 1;
        }
        replicator.take();
        // The successor reads them in steps, since they do not fit into its channel at once.
        replicator.ends.clear();
        let reader = std::thread::scope(|scope| {
            let proposal_socket = replicator.proposal_socket.clone();
            let reader = scope.spawn(move || {
                let (mut end, mut ids) = (None, Vec::new());
                while ids.len() < submitted.into() {
                    match &end {
                        None => end = proposal_socket.accept().unwrap(),
                        Some(end) => match ReplicatorEnd::next_request(end).unwrap() {
                            Received::Message(ChannelRequest::Holders(_)) => {}
                            Received::Message(ChannelRequest::Change(proposal)) => {
                                ids.push(proposal.id.0[0])
                            }
                            Received::Nothing => std::thread::sleep(Duration::from_millis(1)),
                            Received::Gone => panic!("the session gave up after {}", ids.len()),
                        },
                    }
                }
                (end.unwrap(), ids)
            });
            replicator.accepts = false;
            assert_eq!(pending.answer(&mut replicator), None);
            reader.join().unwrap()
        });
        assert_eq!(reader.1, (0..submitted).collect::<Vec<_>>());
    }

    #[test]
    fn change_waits_for_a_replicator() {
        let ((dir, serving, mut replicator), owner) = (serving(), Owner::from_text("ann"));
        replicator.accepts = false;
        let began = Instant::now();
        let refused = PendingChanges::new(&serving, &owner)
            .submit(&proposal(1, "d"), &mut replicator)
            .unwrap_err();
        assert_eq!(refused.code, ErrorCode::NoChanges);
        assert!((REPLICATOR_WAIT..2 * REPLICATOR_WAIT).contains(&began.elapsed()));
        // While the folder is being scanned the change keeps waiting.
        std::fs::write(dir.path().join(FOLDER).join("lock"), "mark").unwrap();
        replicator.keepalives = 200;
        let mut pending = PendingChanges::new(&serving, &owner);
        let refused = pending.submit(&proposal(1, "d"), &mut replicator).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Cut);
        serving.begin_stop();
        replicator.keepalives = 0;
        assert_eq!(
            pending.submit(&proposal(1, "d"), &mut replicator).unwrap_err().code,
            ErrorCode::Draining
        );
        assert!(pending.is_empty() && replicator.keepalives == 0);
    }
}
