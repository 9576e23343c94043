//! Keeps a client's connection alive, and takes turns at hashing, while an answer takes its time.

use std::io;
use std::time::{Duration, Instant};

use relais_proto::{ErrorCode, Refusal, WaitReason};

use crate::hash_semaphore::{HashPermit, HashSemaphore};
use crate::owner::Owner;

/// What a front end does while an answer takes its time.
pub trait KeepAlive {
    /// Tells the client that its answer takes longer, if that is due.
    ///
    /// The engine calls it every few milliseconds, and before each piece that it hashes.
    ///
    /// # Errors
    /// The client has gone or has cancelled the command: the work ends with
    /// [`ErrorCode::Cut`].
    fn send_keepalive(&mut self, reason: WaitReason) -> io::Result<()>;
}

/// Has the work end with [`ErrorCode::Cut`] if the client has gone.
pub(crate) fn keep_waiting(
    keepalive: &mut dyn KeepAlive,
    reason: WaitReason,
) -> Result<(), Refusal> {
    keepalive.send_keepalive(reason).map_err(|_| client_gone())
}

/// Calls `look` in intervals until it returns a value; `None` if it has not within `time`.
pub(crate) fn poll<T>(
    (time, interval): (Duration, Duration),
    reason: WaitReason,
    keepalive: &mut dyn KeepAlive,
    mut look: impl FnMut(&mut dyn KeepAlive) -> Result<Option<T>, Refusal>,
) -> Result<Option<T>, Refusal> {
    let began = Instant::now();
    loop {
        let found = look(keepalive)?;
        if found.is_some() || began.elapsed() >= time {
            return Ok(found);
        }
        std::thread::sleep(interval);
        keep_waiting(keepalive, reason)?;
    }
}

pub(crate) fn client_gone() -> Refusal {
    Refusal::new(ErrorCode::Cut, "the client has gone")
}

/// The turns of one answer at hashing, piece by piece.
pub(crate) struct HashingTurns<'a> {
    keepalive: &'a mut dyn KeepAlive,
    semaphore: &'a HashSemaphore,
    owner: &'a Owner,
    permit: Option<HashPermit>,
}

impl<'a> HashingTurns<'a> {
    pub fn new(
        semaphore: &'a HashSemaphore,
        owner: &'a Owner,
        keepalive: &'a mut dyn KeepAlive,
    ) -> Self {
        Self { keepalive, semaphore, owner, permit: None }
    }

    /// Waits for the permit to hash the next piece.
    ///
    /// The permit is returned before the client is written to, so a client that does not read
    /// blocks no other session.
    pub fn next(&mut self) -> io::Result<()> {
        self.permit = None;
        let mut wait = || self.keepalive.send_keepalive(WaitReason::Hashing);
        wait()?;
        self.permit = Some(self.semaphore.acquire(self.owner, &mut wait)?);
        Ok(())
    }
}
