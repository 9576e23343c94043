//! Hashes what an upload writes: small content at once, the rest in a thread beside the session's.
//!
//! The thread follows the writer: it reads back what was written, which is in the page cache. So
//! receiving, writing and hashing overlap, and the writer may write without seeing the bytes. The
//! thread ends with the upload, at the latest when its [`UploadHasher`] is dropped.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};
use relais_proto::{ContentHashes, Digest, limits};

use crate::staged_hasher::StagedHasher;

/// Bytes that are hashed at once before a thread starts: it would cost more than it saves.
pub(crate) const INLINE: u64 = limits::PIECE;
/// Bytes that the thread waits for: to be woken for each write would cost as much as the hash.
const STEP: u64 = 2 * limits::PIECE;
/// Bytes that the writer may be ahead. They are in the page cache, and the end waits for no more.
const MAX_LEAD: u64 = 16 * limits::PIECE;
/// Bytes of one read. They stay in the processor's cache until they are hashed.
const BUFFER: usize = 128 * 1024;

/// The hash of the bytes of an upload so far.
pub(crate) struct UploadHasher {
    /// Of the bytes before those of the thread.
    hasher: StagedHasher,
    /// Bytes that were hashed at once since the last thread.
    inline: u64,
    follower: Option<Follower>,
}

/// The thread that hashes.
struct Follower {
    progress: Arc<Progress>,
    thread: JoinHandle<io::Result<StagedHasher>>,
}

/// What the writing thread and the hashing thread share.
struct Progress {
    position: Mutex<Position>,
    moved: Condvar,
}

struct Position {
    written: u64,
    hashed: u64,
    goal: Goal,
    /// Whether the thread hashes no more.
    has_ended: bool,
}

/// What the thread hashes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Goal {
    /// All that is written, and what is still to come.
    Follow,
    /// All that is written.
    Finish,
    /// Nothing: the result is of no interest.
    Stop,
}

impl UploadHasher {
    /// Continues `hasher`, which has hashed the bytes that are there.
    pub fn new(hasher: StagedHasher) -> Self {
        Self { hasher, inline: 0, follower: None }
    }

    /// Whether the next bytes are hashed by the thread, so that they need not be in memory.
    pub fn is_beside(&self) -> bool {
        self.follower.is_some() || self.inline >= INLINE
    }

    /// Hashes `bytes`, which were written to `file` at `at`.
    ///
    /// # Errors
    /// As [`Self::follow`].
    pub fn update(&mut self, bytes: &[u8], file: &File, at: u64) -> io::Result<()> {
        let length = bytes.len() as u64;
        if self.is_beside() {
            return self.follow(file, at, length);
        }
        self.hasher.update(bytes);
        self.inline += length;
        Ok(())
    }

    /// Has the thread hash `length` bytes, which were written to `file` at `at`.
    ///
    /// # Errors
    /// No thread can be started, or it has failed: the file cannot be read, or is too short.
    pub fn follow(&mut self, file: &File, at: u64, length: u64) -> io::Result<()> {
        let follower = match &self.follower {
            Some(follower) => follower,
            None => self.follower.insert(Follower::start(self.hasher.clone(), file, at)?),
        };
        if follower.advance(at + length) {
            return Ok(());
        }
        // The thread has failed.
        self.finish().map(drop)
    }

    /// Waits until all bytes are hashed, and returns their digest. More may follow.
    ///
    /// # Errors
    /// As [`Self::follow`].
    pub fn finish(&mut self) -> io::Result<Digest> {
        if let Some(follower) = self.follower.take() {
            self.hasher = follower.end(Goal::Finish)?;
            self.inline = 0;
        }
        Ok(self.hasher.digest())
    }

    /// Returns the SHA-256 hashes of the bytes up to the last [`Self::finish`], if they are
    /// computed.
    pub fn hashes(&self) -> Option<ContentHashes> {
        self.hasher.hashes()
    }

    /// Ends the thread, and drops its result. It has the file open until then.
    pub fn stop(&mut self) {
        if let Some(follower) = self.follower.take() {
            // The result is of no interest.
            let _ = follower.end(Goal::Stop);
        }
    }
}

impl Drop for UploadHasher {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Follower {
    fn start(hasher: StagedHasher, file: &File, at: u64) -> io::Result<Self> {
        let file = file.try_clone()?;
        let position = Position { written: at, hashed: at, goal: Goal::Follow, has_ended: false };
        let progress = Arc::new(Progress { position: Mutex::new(position), moved: Condvar::new() });
        let ending = Ending(progress.clone());
        let run = move || ending.0.hash(hasher, &file);
        let thread = std::thread::Builder::new().name("hash".to_owned()).spawn(run)?;
        Ok(Self { progress, thread })
    }

    /// Has the thread hash up to `end`, and waits if it is far behind; false if it has failed.
    fn advance(&self, end: u64) -> bool {
        let mut position = self.progress.position.lock();
        position.written = end;
        if position.has_step() {
            self.progress.moved.notify_one();
        }
        while !position.has_ended && position.written - position.hashed > MAX_LEAD {
            self.progress.moved.wait(&mut position);
        }
        !position.has_ended
    }

    /// Ends the thread.
    fn end(self, goal: Goal) -> io::Result<StagedHasher> {
        self.progress.position.lock().goal = goal;
        self.progress.moved.notify_one();
        let panicked = |_| Err(io::Error::other("the thread that hashes failed"));
        self.thread.join().unwrap_or_else(panicked)
    }
}

impl Position {
    /// Whether the thread has enough to do.
    fn has_step(&self) -> bool {
        self.written - self.hashed >= STEP
    }
}

impl Progress {
    /// Hashes what is written, until the goal is reached.
    fn hash(&self, mut hasher: StagedHasher, file: &File) -> io::Result<StagedHasher> {
        let mut buffer = vec![0; BUFFER];
        while let Some((mut at, end)) = self.next_step() {
            while at < end {
                let want = usize::try_from(end - at).map_or(BUFFER, |left| left.min(BUFFER));
                file.read_exact_at(&mut buffer[..want], at)?;
                hasher.update(&buffer[..want]);
                at += want as u64;
            }
            self.position.lock().hashed = end;
            self.moved.notify_one();
        }
        Ok(hasher)
    }

    /// Waits for bytes to hash; returns where they begin and end, or none at the goal.
    fn next_step(&self) -> Option<(u64, u64)> {
        let mut position = self.position.lock();
        while position.goal == Goal::Follow && !position.has_step() {
            self.moved.wait(&mut position);
        }
        let step = (position.hashed, position.written);
        (position.goal != Goal::Stop && step.0 < step.1).then_some(step)
    }
}

/// Tells the writing thread of the end, also of one by a panic.
struct Ending(Arc<Progress>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.position.lock().has_ended = true;
        self.0.moved.notify_one();
    }
}

#[cfg(test)]
#[path = "upload_hasher_tests.rs"]
mod tests;
