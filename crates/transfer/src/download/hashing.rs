//! Computes the piece values of the part file beside the receiving thread.
//!
//! Pieces that arrived whole are hashed from their receive buffer. All others, and those from an
//! earlier run, are read back from the part file, so a disk error is detected as well. New pieces
//! have priority, so a long read-back does not delay the receiver.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::Scope;
use std::time::Duration;

use relais_proto::Digest;
use relais_proto::limits::PIECE;

use super::blocks::piece_range;
use super::state::DownloadState;
use crate::error::TransferError;

/// Largest content that is hashed in the receiving thread; starting another thread costs more.
const INLINE: u64 = 256 * 1024;
/// Highest number of piece buffers. The receiver waits while the hashing thread has all of them.
const BUFFERS: usize = 4;
/// Interval of checks for an interruption while waiting for values.
const INTERRUPT_CHECK: Duration = Duration::from_millis(100);

/// Known piece values by number. The table grows with received bytes, not with announced ones.
#[derive(Debug, Default)]
pub(super) struct PieceTable(Mutex<Vec<Option<Digest>>>);

impl PieceTable {
    fn with<T>(&self, use_it: impl FnOnce(&mut Vec<Option<Digest>>) -> T) -> T {
        // The values are plain, so they stay valid after a panic elsewhere.
        use_it(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, index: u64, value: Option<Digest>) {
        let Ok(index) = usize::try_from(index) else { return };
        self.with(|values| {
            if values.len() <= index && value.is_some() {
                values.resize(index + 1, None);
            }
            if let Some(place) = values.get_mut(index) {
                *place = value;
            }
        });
    }
}

/// A piece of a content of a certain size.
#[derive(Debug, Clone, Copy)]
struct PieceInBuffer {
    index: u64,
    size: u64,
}

impl PieceInBuffer {
    fn value(self, bytes: &[u8]) -> Option<Digest> {
        relais_tree::piece_value(self.size, self.index, bytes)
    }

    /// Returns the value of the piece in the part file; `None` if the file ends before.
    fn read(self, part: &File, buffer: &mut Vec<u8>) -> io::Result<Option<Digest>> {
        let range = piece_range(self.index, self.size);
        buffer.resize(usize::try_from(range.end - range.start).unwrap_or(0), 0);
        match part.read_exact_at(buffer, range.start) {
            Ok(()) => Ok(self.value(buffer)),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(e) => Err(e),
        }
    }
}

enum HashJob {
    Bytes { place: PieceInBuffer, buffer: Vec<u8>, length: usize },
    Disk { pieces: Range<u64>, size: u64 },
    Reset,
    Settle(Sender<io::Result<()>>),
}

/// The receiving thread's handle on the hashing.
pub(super) struct Hashing<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    state: &'env DownloadState<'env>,
    table: &'env PieceTable,
    size: u64,
    begun: bool,
    /// Hashes in this thread, for small content.
    hasher: Hasher<'env>,
    thread: Option<Thread>,
    /// Dropping it ends the saving thread.
    saver: Option<Sender<()>>,
    spare: Vec<Vec<u8>>,
    made: usize,
}

struct Thread {
    jobs: Sender<HashJob>,
    used: Receiver<Vec<u8>>,
}

impl<'scope, 'env> Hashing<'scope, 'env> {
    pub(super) fn new(
        scope: &'scope Scope<'scope, 'env>,
        state: &'env DownloadState<'env>,
        table: &'env PieceTable,
    ) -> Self {
        Self {
            scope,
            state,
            table,
            size: 0,
            begun: false,
            hasher: Hasher::new(state, table),
            thread: None,
            saver: None,
            spare: Vec::new(),
            made: 0,
        }
    }

    /// Starts with content of `size` bytes and its pieces that are already here.
    ///
    /// Does nothing if it has already started.
    pub(super) fn begin(&mut self, size: u64) -> Result<(), TransferError> {
        if self.begun {
            return Ok(());
        }
        (self.begun, self.size) = (true, size);
        if size > INLINE && self.thread.is_none() {
            self.start_thread()?;
        }
        if size == 0 {
            // The single piece of empty content arrives with no byte.
            return self.on_disk(0..1);
        }
        let here: Vec<Range<u64>> =
            self.state.with(|content| content.good.iter().collect()).unwrap_or_default();
        for range in here {
            let last =
                if range.end >= size { relais_tree::piece_count(size) } else { range.end / PIECE };
            self.on_disk(range.start.div_ceil(PIECE)..last)?;
        }
        Ok(())
    }

    fn start_thread(&mut self) -> Result<(), TransferError> {
        let (jobs, todo) = channel();
        let (give_back, used) = channel();
        let hasher = Hasher::new(self.state, self.table);
        self.spawn("hash", move || hasher.run(&todo, &give_back))?;
        self.thread = Some(Thread { jobs, used });
        Ok(())
    }

    /// Starts periodic saving, for a long download.
    pub(super) fn save_from_now_on(&mut self) -> Result<(), TransferError> {
        if self.saver.is_none() {
            let (stop, stopped) = channel();
            let state = self.state;
            self.spawn("save", move || state.keep_saving(&stopped))?;
            self.saver = Some(stop);
        }
        Ok(())
    }

    fn spawn(&self, name: &str, work: impl FnOnce() + Send + 'scope) -> Result<(), TransferError> {
        let builder = std::thread::Builder::new().name(name.to_owned());
        builder
            .spawn_scoped(self.scope, work)
            .map(|_| ())
            .map_err(TransferError::local("starting a thread"))
    }

    /// Returns a buffer of at least `length` bytes, at most a piece.
    pub(super) fn buffer(&mut self, length: usize) -> Result<Vec<u8>, TransferError> {
        let waiting = self.made >= BUFFERS;
        let mut buffer = match (self.spare.pop(), &self.thread) {
            (Some(buffer), _) => buffer,
            (None, Some(thread)) if waiting => thread.used.recv().map_err(|_| gone())?,
            (None, Some(thread)) => thread.used.try_recv().unwrap_or_default(),
            (None, None) => Vec::new(),
        };
        if buffer.is_empty() {
            self.made += 1;
        }
        if buffer.len() < length {
            buffer = vec![0; length];
        }
        Ok(buffer)
    }

    /// Takes back an unused buffer.
    pub(super) fn give_back(&mut self, buffer: Vec<u8>) {
        self.spare.push(buffer);
    }

    /// Hashes piece `index`, which is complete in the first `length` bytes of `buffer`.
    pub(super) fn in_memory(
        &mut self,
        index: u64,
        buffer: Vec<u8>,
        length: usize,
    ) -> Result<(), TransferError> {
        let place = PieceInBuffer { index, size: self.size };
        self.submit(HashJob::Bytes { place, buffer, length })
    }

    /// Hashes pieces that are complete in the part file.
    pub(super) fn on_disk(&mut self, pieces: Range<u64>) -> Result<(), TransferError> {
        self.submit(HashJob::Disk { pieces, size: self.size })
    }

    /// Gives a job to the hashing thread, or does it here if there is none.
    fn submit(&mut self, job: HashJob) -> Result<(), TransferError> {
        if let Some(thread) = &self.thread {
            return thread.jobs.send(job).map_err(|_| gone());
        }
        self.spare.extend(self.hasher.work(job));
        while self.hasher.read_back() {}
        self.hasher.failed.take().map_or(Ok(()), |error| Err(reading()(error)))
    }

    /// Waits until all submitted pieces are hashed.
    pub(super) fn settle(&mut self) -> Result<(), TransferError> {
        let Some(thread) = &self.thread else { return Ok(()) };
        let (done, settled) = channel();
        thread.jobs.send(HashJob::Settle(done)).map_err(|_| gone())?;
        loop {
            match settled.recv_timeout(INTERRUPT_CHECK) {
                Ok(result) => return result.map_err(reading()),
                Err(RecvTimeoutError::Disconnected) => return Err(gone()),
                Err(RecvTimeoutError::Timeout) if self.state.interrupted() => {
                    return Err(TransferError::Interrupted);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Gives access to the known values by number; call [`Self::settle`] first.
    pub(super) fn values<T>(&self, look: impl FnOnce(&[Option<Digest>]) -> T) -> T {
        self.table.with(|values| look(values))
    }

    /// Drops the value of a piece.
    pub(super) fn forget(&self, index: u64) {
        self.table.set(index, None);
    }

    /// Drops all values; the next [`Self::begin`] is for another content.
    pub(super) fn reset(&mut self) -> Result<(), TransferError> {
        self.submit(HashJob::Reset)?;
        self.settle()?;
        self.table.with(Vec::clear);
        self.begun = false;
        Ok(())
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
    table: &'env PieceTable,
    /// Pieces to read back.
    backlog: VecDeque<(Range<u64>, u64)>,
    failed: Option<io::Error>,
    buffer: Vec<u8>,
}

impl<'env> Hasher<'env> {
    fn new(state: &'env DownloadState<'env>, table: &'env PieceTable) -> Self {
        Self { state, table, backlog: VecDeque::new(), failed: None, buffer: Vec::new() }
    }

    /// Hashes until the other end of `todo` is dropped.
    fn run(mut self, todo: &Receiver<HashJob>, give_back: &Sender<Vec<u8>>) {
        // Notified when the backlog is empty.
        let mut waiting: Option<Sender<io::Result<()>>> = None;
        loop {
            let job = if self.backlog.is_empty() {
                if let Some(waiting) = waiting.take() {
                    // There is no receiver after the end of the download.
                    let _ = waiting.send(self.failed.take().map_or(Ok(()), Err));
                }
                todo.recv().map_err(|_| TryRecvError::Disconnected)
            } else {
                todo.try_recv()
            };
            match job {
                Ok(HashJob::Settle(done)) => waiting = Some(done),
                Ok(job) => {
                    if let Some(buffer) = self.work(job) {
                        // The receiving thread takes no buffers after the end of the download.
                        let _ = give_back.send(buffer);
                    }
                }
                Err(TryRecvError::Empty) => {
                    self.read_back();
                }
                Err(TryRecvError::Disconnected) => return,
            }
        }
    }

    /// Does a job, or puts it into the backlog; returns its buffer.
    fn work(&mut self, job: HashJob) -> Option<Vec<u8>> {
        match job {
            HashJob::Bytes { place, buffer, length } => {
                self.table.set(place.index, place.value(&buffer[..length]));
                return Some(buffer);
            }
            HashJob::Disk { pieces, size } if !pieces.is_empty() => {
                self.backlog.push_back((pieces, size));
            }
            HashJob::Reset => {
                self.backlog.clear();
                self.failed = None;
            }
            HashJob::Disk { .. } | HashJob::Settle(_) => {}
        }
        None
    }

    /// Reads the next piece of the backlog and hashes it; returns whether there was one.
    fn read_back(&mut self) -> bool {
        let Some((pieces, size)) = self.backlog.front_mut() else { return false };
        let place = PieceInBuffer { index: pieces.start, size: *size };
        pieces.start += 1;
        if pieces.is_empty() {
            self.backlog.pop_front();
        }
        match place.read(self.state.part, &mut self.buffer) {
            Ok(value) => self.table.set(place.index, value),
            Err(e) => self.failed = Some(e),
        }
        true
    }
}
