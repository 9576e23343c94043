//! Appends batches to a journal, and decides the state after each failure.
//!
//! Each batch is one write and one sync.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use relais_proto::{LogEntry, Lsn, Timeline};

use crate::error::JournalError;
use crate::error::is_full;
use crate::file::FileLocation;
use crate::format::{BATCH_BYTES, BATCH_CHANGES, BATCH_HEADER, Chain, encode_change};
use crate::recover::{JournalEnd, follows};

/// Size to which the buffer shrinks after a large batch.
const KEPT: usize = 1024 * 1024;

/// The operations of a journal on its file. Tests use an implementation that fails.
pub(super) trait Storage {
    /// Fills `bytes` from the offset `at`.
    fn read(&self, bytes: &mut [u8], at: u64) -> io::Result<()>;
    /// Writes all of `bytes` at the offset `at`.
    fn write(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Waits until all written bytes are on disk.
    fn sync(&self) -> io::Result<()>;
    /// Truncates the file to `at` bytes.
    fn cut(&self, at: u64) -> io::Result<()>;
    /// Whether the file still has its name.
    fn is_in_place(&self) -> io::Result<bool>;
}

/// The open file of a journal, with the location of its name.
#[derive(Debug)]
pub(super) struct JournalFile {
    pub file: File,
    pub location: FileLocation,
}

impl Storage for JournalFile {
    fn read(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(bytes, at)
    }

    fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn cut(&self, at: u64) -> io::Result<()> {
        self.file.set_len(at)
    }

    fn is_in_place(&self) -> io::Result<bool> {
        self.location.is(&self.file)
    }
}

#[derive(Debug)]
pub(super) struct JournalWriter<S> {
    storage: S,
    path: PathBuf,
    end: JournalEnd,
    timeline: [u8; 16],
    failed: bool,
    buffer: Vec<u8>,
}

impl<S: Storage> JournalWriter<S> {
    pub fn new(storage: S, path: &Path, end: JournalEnd, timeline: [u8; 16]) -> Self {
        Self { storage, path: path.to_owned(), end, timeline, failed: false, buffer: Vec::new() }
    }

    pub fn chain(&self) -> Chain {
        self.end.chain
    }

    pub fn last(&self) -> Lsn {
        self.end.last
    }

    /// The offset of the next batch.
    pub fn at(&self) -> u64 {
        self.end.at
    }

    /// The timeline of appended batches.
    pub fn timeline(&self) -> [u8; 16] {
        self.timeline
    }

    /// Sets the timeline of later batches.
    pub fn set_timeline(&mut self, timeline: [u8; 16]) {
        self.timeline = timeline;
    }

    /// The timelines in the file at its opening.
    pub fn initial_timelines(&self) -> &[Timeline] {
        &self.end.timelines
    }

    pub fn storage(&self) -> &S {
        &self.storage
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Rejects all later batches.
    pub fn fail(&mut self) {
        self.failed = true;
    }

    pub fn append(&mut self, batch: &[LogEntry]) -> Result<(), JournalError> {
        if self.failed {
            return Err(JournalError::Failed(self.path.clone()));
        }
        let Some(newest) = batch.last() else { return Ok(()) };
        check_order(self.end.last, batch)?;
        let chain = self.encode(batch)?;
        self.store()?;
        self.end.at += self.buffer.len() as u64;
        self.end.chain = chain;
        self.end.last = newest.version;
        self.buffer.clear();
        self.buffer.shrink_to(KEPT);
        Ok(())
    }

    /// Encodes the whole batch into the buffer, and returns its chain.
    fn encode(&mut self, batch: &[LogEntry]) -> Result<Chain, JournalError> {
        let too_large = || JournalError::TooLarge { changes: batch.len() };
        if batch.len() > BATCH_CHANGES {
            return Err(too_large());
        }
        self.buffer.clear();
        self.buffer.resize(BATCH_HEADER, 0);
        for change in batch {
            if !encode_change(change, &mut self.buffer) {
                return Err(JournalError::Unreadable(change.version));
            }
            if self.buffer.len() - BATCH_HEADER > BATCH_BYTES {
                return Err(too_large());
            }
        }
        let len = u32::try_from(self.buffer.len() - BATCH_HEADER).map_err(|_| too_large())?;
        let count = u32::try_from(batch.len()).map_err(|_| too_large())?;
        let (at, timeline) = (self.end.at, self.timeline);
        Ok(self.end.key.seal(&mut self.buffer, len, count, at, timeline, &self.end.chain))
    }

    /// Writes and syncs the buffer.
    fn store(&mut self) -> Result<(), JournalError> {
        // Until both calls have succeeded the content of the disk is unknown.
        self.failed = true;
        if let Err(cause) = self.storage.write(&self.buffer, self.end.at) {
            // If the disk is full, the written part is truncated: no sync included it.
            self.failed = !is_full(&cause) || self.storage.cut(self.end.at).is_err();
            return Err(self.refused(cause));
        }
        // After a failed sync the kernel may regard the bytes as written. A second sync would
        // succeed
        // without effect.
        self.storage.sync().map_err(|cause| self.refused(cause))?;
        if !self.storage.is_in_place().map_err(|cause| self.refused(cause))? {
            // The file may get its name back: the batch, which is refused, must not be in it then.
            let cut = self.storage.cut(self.end.at).and_then(|()| self.storage.sync());
            cut.map_err(|cause| self.refused(cause))?;
            return Err(JournalError::Gone(self.path.clone()));
        }
        self.failed = false;
        Ok(())
    }

    /// Makes the error; it is `NoSpace` only if a later batch may succeed.
    fn refused(&self, cause: io::Error) -> JournalError {
        if self.failed {
            JournalError::Io { path: self.path.clone(), cause }
        } else {
            JournalError::io(&self.path, cause)
        }
    }
}

fn check_order(mut after: Lsn, batch: &[LogEntry]) -> Result<(), JournalError> {
    for change in batch {
        let found = change.version;
        if !follows(after, found) {
            return Err(JournalError::Order { after, found });
        }
        after = found;
    }
    Ok(())
}
