//! Computes the piece values of the part file beside the receiving thread.
//!
//! Pieces that arrived whole are hashed from their receive buffer. All others, and those from an
//! earlier run, are read back from the part file, so a disk error is detected as well. New pieces
//! have priority, so a long read-back does not delay the receiver.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use relais_proto::limits::PIECE;

use super::blocks::piece_range;
use super::state::DownloadState;
use crate::error::TransferError;

/// Largest content that is hashed in the receiving thread; starting another thread costs more.
const INLINE: u64 = 256 * 1024;
/// Most piece buffers that wait for the hashing thread. The receiver waits for it then.
const WAITING: usize = 3;
/// Interval of checks for an interruption while waiting for values.
const INTERRUPT_CHECK: Duration = Duration::from_millis(100);

pub(super) enum HashJob {
    /// A piece that is complete at the start of a buffer.
    Bytes { index: u64, buffer: Vec<u8>, length: usize },
    /// Pieces that are complete in the part file.
    Disk(Range<u64>),
    /// End after all other jobs.
    Finish,
}

/// The thread that hashes. It ends early when the sender of its jobs is dropped.
struct HashingThread<'scope> {
    jobs: Sender<HashJob>,
    used: Receiver<Vec<u8>>,
    /// Number of buffers that the thread has.
    waiting: usize,
    handle: ScopedJoinHandle<'scope, io::Result<()>>,
}

/// The receiving thread's handle on the hashing.
pub(super) struct Hashing<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    state: &'env DownloadState<'env>,
    /// Size of the content; `None` before [`Self::begin`].
    size: Option<u64>,
    thread: Option<HashingThread<'scope>>,
    /// Dropping it ends the saving thread.
    saver: Option<Sender<()>>,
    /// Whether all pieces are hashed here, and another thread saves.
    is_inline: bool,
    /// Buffers for the next pieces.
    pub(super) spare: Vec<Vec<u8>>,
}

impl<'scope, 'env> Hashing<'scope, 'env> {
    pub(super) fn new(
        scope: &'scope Scope<'scope, 'env>,
        state: &'env DownloadState<'env>,
    ) -> Self {
        let (size, thread, saver) = (None, None, None);
        Self { scope, state, size, thread, saver, is_inline: false, spare: Vec::new() }
    }

    /// Makes the handle of a further stream, whose own thread hashes its pieces.
    pub(super) fn inline(
        scope: &'scope Scope<'scope, 'env>,
        state: &'env DownloadState<'env>,
        size: u64,
    ) -> Self {
        Self { size: Some(size), is_inline: true, ..Self::new(scope, state) }
    }

    /// Starts with content of `size` bytes and its pieces that are already here.
    ///
    /// Does nothing if it has already started.
    pub(super) fn begin(&mut self, size: u64) -> Result<(), TransferError> {
        if self.size.replace(size).is_some() {
            return Ok(());
        }
        if size == 0 {
            // The single piece of empty content arrives with no byte.
            return self.submit(HashJob::Disk(0..1));
        }
        let here: Vec<Range<u64>> =
            self.state.with(|content| content.good.iter().collect()).unwrap_or_default();
        for range in here {
            let last =
                if range.end >= size { relais_tree::piece_count(size) } else { range.end / PIECE };
            self.submit(HashJob::Disk(range.start.div_ceil(PIECE)..last))?;
        }
        Ok(())
    }

    /// Starts periodic saving, for a long download.
    pub(super) fn save_from_now_on(&mut self) -> Result<(), TransferError> {
        if self.saver.is_none() && !self.is_inline {
            let (stop, stopped) = channel();
            let state = self.state;
            self.spawn("save", move || state.keep_saving(&stopped))?;
            self.saver = Some(stop);
        }
        Ok(())
    }

    fn spawn<T: Send + 'scope>(
        &self,
        name: &str,
        work: impl FnOnce() -> T + Send + 'scope,
    ) -> Result<ScopedJoinHandle<'scope, T>, TransferError> {
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn_scoped(self.scope, work)
            .map_err(TransferError::local("starting a thread"))
    }

    /// Returns a buffer of at least `length` bytes, at most a piece.
    pub(super) fn buffer(&mut self, length: usize) -> Result<Vec<u8>, TransferError> {
        if let (true, Some(thread)) = (self.spare.is_empty(), &mut self.thread) {
            let must_wait = thread.waiting >= WAITING;
            let used =
                if must_wait { thread.used.recv().ok() } else { thread.used.try_recv().ok() };
            thread.waiting -= usize::from(used.is_some());
            if must_wait && used.is_none() {
                return Err(self.failure());
            }
            self.spare.extend(used);
        }
        let buffer = self.spare.pop().unwrap_or_default();
        Ok(if buffer.len() < length { vec![0; length] } else { buffer })
    }

    /// Gives a job to the hashing thread, or does it here if the content is small.
    pub(super) fn submit(&mut self, job: HashJob) -> Result<(), TransferError> {
        let size = self.size.unwrap_or_default();
        let mut hasher =
            Hasher { state: self.state, size, backlog: VecDeque::new(), buffer: Vec::new() };
        if self.is_inline || size <= INLINE {
            self.spare.extend(hasher.work(job));
            return hasher.read_back().map_err(reading());
        }
        if self.thread.is_none() {
            let (jobs, todo) = channel();
            let (give_back, used) = channel();
            let handle = self.spawn("hash", move || hasher.run(&todo, &give_back))?;
            self.thread = Some(HashingThread { jobs, used, waiting: 0, handle });
        }
        let Some(thread) = &mut self.thread else { return Err(gone()) };
        thread.waiting += usize::from(matches!(job, HashJob::Bytes { .. }));
        match thread.jobs.send(job) {
            Ok(()) => Ok(()),
            Err(_) => Err(self.failure()),
        }
    }

    /// Waits until all submitted pieces are hashed.
    pub(super) fn settle(&mut self) -> Result<(), TransferError> {
        if self.thread.is_none() {
            return Ok(());
        }
        self.submit(HashJob::Finish)?;
        while let Some(thread) = &self.thread {
            match thread.used.recv_timeout(INTERRUPT_CHECK) {
                Ok(buffer) => self.spare.push(buffer),
                Err(RecvTimeoutError::Disconnected) => return self.join(),
                Err(RecvTimeoutError::Timeout) if self.state.interrupted() => {
                    return Err(TransferError::Interrupted);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        Ok(())
    }

    /// Ends the thread and returns its result.
    fn join(&mut self) -> Result<(), TransferError> {
        let Some(HashingThread { jobs, handle, .. }) = self.thread.take() else { return Ok(()) };
        drop(jobs);
        handle.join().map_err(|_| gone())?.map_err(reading())
    }

    /// Returns the reason for which the thread takes no more jobs.
    fn failure(&mut self) -> TransferError {
        self.join().err().unwrap_or_else(gone)
    }

    /// Drops all values; the next [`Self::begin`] is for another content.
    pub(super) fn reset(&mut self) {
        // What happened to the old content is not of interest.
        let _ = self.join();
        self.state.pieces().clear();
        self.size = None;
    }
}

/// Reports that the hashing thread ended early. A panic is reported where the threads are joined.
fn gone() -> TransferError {
    TransferError::Local {
        error: io::Error::other("the hashing thread has ended"),
        what: "hashing",
    }
}

fn reading() -> impl FnOnce(io::Error) -> TransferError {
    TransferError::local("reading the part file back")
}

/// Hashes pieces: new ones at once, and those to read back one by one.
struct Hasher<'env> {
    state: &'env DownloadState<'env>,
    size: u64,
    /// Pieces to read back.
    backlog: VecDeque<Range<u64>>,
    buffer: Vec<u8>,
}

impl Hasher<'_> {
    /// Hashes until all is done after [`HashJob::Finish`], or the other end of `todo` is dropped.
    fn run(mut self, todo: &Receiver<HashJob>, give_back: &Sender<Vec<u8>>) -> io::Result<()> {
        let mut is_last = false;
        loop {
            let job = match self.backlog.front() {
                None if is_last => return Ok(()),
                None => todo.recv().map_err(|_| TryRecvError::Disconnected),
                Some(_) => todo.try_recv(),
            };
            match job {
                Ok(HashJob::Finish) => is_last = true,
                Ok(job) => {
                    if let Some(buffer) = self.work(job) {
                        // The receiving thread takes no buffers after the end of the download.
                        let _ = give_back.send(buffer);
                    }
                }
                Err(TryRecvError::Empty) => self.read_back()?,
                Err(TryRecvError::Disconnected) => return Ok(()),
            }
        }
    }

    /// Does a job, or puts it into the backlog; returns its buffer.
    fn work(&mut self, job: HashJob) -> Option<Vec<u8>> {
        match job {
            HashJob::Bytes { index, buffer, length } => {
                self.record(index, Some(&buffer[..length]));
                return Some(buffer);
            }
            HashJob::Disk(pieces) if !pieces.is_empty() => self.backlog.push_back(pieces),
            HashJob::Disk(_) | HashJob::Finish => {}
        }
        None
    }

    /// Reads the next piece of the backlog, if there is one, and hashes it.
    fn read_back(&mut self) -> io::Result<()> {
        let Some(pieces) = self.backlog.front_mut() else { return Ok(()) };
        let index = pieces.start;
        pieces.start += 1;
        if pieces.is_empty() {
            self.backlog.pop_front();
        }
        let range = piece_range(index, self.size);
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(usize::try_from(range.end - range.start).unwrap_or(0), 0);
        match self.state.part.read_exact_at(&mut buffer, range.start) {
            Ok(()) => self.record(index, Some(&buffer)),
            // Another program has cut the part file.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => self.record(index, None),
            Err(e) => return Err(e),
        }
        self.buffer = buffer;
        Ok(())
    }

    fn record(&self, index: u64, bytes: Option<&[u8]>) {
        let value = bytes.and_then(|bytes| relais_tree::piece_value(self.size, index, bytes));
        self.state.set_piece(index, value);
    }
}
