//! Appends batches to a journal, and decides the state after each failure.
//!
//! Each batch is one write and one sync.

use std::io;
use std::path::{Path, PathBuf};

use relais_os::display_path;
use relais_proto::LogEntry;

use crate::batch;
use crate::error::{JournalError, is_full};
use crate::format::{BATCH_HEADER, Chain};
use crate::location::Storage;
use crate::recover::JournalEnd;

/// Size to which the buffer shrinks after a large batch.
const KEPT: usize = 1024 * 1024;

#[derive(Debug)]
pub(super) struct JournalWriter<S> {
    storage: S,
    pub path: PathBuf,
    pub end: JournalEnd,
    /// The timeline of appended batches.
    pub timeline: [u8; 16],
    /// Whether all later batches are rejected.
    pub failed: bool,
    buffer: Vec<u8>,
}

impl<S: Storage> JournalWriter<S> {
    pub fn new(storage: S, path: &Path, end: JournalEnd, timeline: [u8; 16]) -> Self {
        Self { storage, path: path.to_owned(), end, timeline, failed: false, buffer: Vec::new() }
    }

    pub fn append(&mut self, batch: &[LogEntry]) -> Result<(), JournalError> {
        if self.failed {
            return Err(JournalError::Failed(display_path(&self.path)));
        }
        let Some(newest) = batch.last() else { return Ok(()) };
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
        let too_large = |_| JournalError::TooLarge { changes: batch.len() };
        self.buffer.clear();
        self.buffer.resize(BATCH_HEADER, 0);
        batch::encode(self.end.last, batch, &mut self.buffer)?;
        let len = u32::try_from(self.buffer.len() - BATCH_HEADER).map_err(too_large)?;
        let count = u32::try_from(batch.len()).map_err(too_large)?;
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
        // succeed without effect.
        self.storage.sync().map_err(|cause| self.refused(cause))?;
        if !self.storage.is_in_place().map_err(|cause| self.refused(cause))? {
            // The file may get its name back: the batch, which is refused, must not be in it then.
            let cut = self.storage.cut(self.end.at).and_then(|()| self.storage.sync());
            cut.map_err(|cause| self.refused(cause))?;
            return Err(JournalError::Gone(display_path(&self.path)));
        }
        self.failed = false;
        Ok(())
    }

    /// Makes the error; it is `NoSpace` only if a later batch may succeed.
    fn refused(&self, cause: io::Error) -> JournalError {
        if self.failed {
            JournalError::Io { path: display_path(&self.path), cause }
        } else {
            JournalError::io(&self.path, cause)
        }
    }
}
