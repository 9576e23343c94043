//! The journal in one append-only file, with a snapshot file beside it.
//!
//! The module owns the lock, the durable append and the recovery after a crash. It never skips a
//! batch, never repeats a failed sync, and never interprets a change: it only checks that numbers
//! rise.
//!
//! A batch that was being written when the machine stopped is torn. It is cut off, because it was
//! never acknowledged. A disk that lost the end of a complete batch leaves the same bytes. Then the
//! replicas have the changes, and the caller compares. Any other defect is damage, and
//! the journal does not open. `format.rs` has the bytes of the file; `recover.rs` distinguishes the
//! two cases.

use std::fs::File;
use std::path::{Path, PathBuf};

use relais_proto::{LogEntry, Lsn, Timeline};

use crate::error::JournalError;
use crate::journal::{Entries, Journal, Snapshot};
use crate::location::{self, JournalPath, LocatedFile};
use crate::recover::{self, BatchReader};
use crate::snapshot_file;
use crate::writer::JournalWriter;

/// A journal file that this process has locked.
///
/// The lock ends when all copies of its descriptor are closed, in forked processes too.
#[derive(Debug)]
pub struct FileJournal {
    pub(crate) writer: JournalWriter<LocatedFile>,
    id: [u8; 16],
}

impl FileJournal {
    /// Opens the journal at `path`, or creates it. Its snapshot is `snapshot` in the same folder.
    ///
    /// The journal is bound to `id`, a cluster or a folder. Memory is used for one batch at a time.
    /// All entries are on disk when this returns, even if an earlier process did not sync them or
    /// its sync failed.
    ///
    /// # Errors
    /// The journal is in use, bound to another id, damaged or no regular file; a system call
    /// failed.
    pub fn open(path: &Path, id: [u8; 16]) -> Result<Self, JournalError> {
        let timeline = random(path)?;
        Ok(Self { writer: recovered(location::open(path, id)?, path, id, timeline)?, id })
    }

    fn snapshot_path(&self) -> PathBuf {
        self.writer.path.with_file_name("snapshot")
    }
}

impl Journal for FileJournal {
    fn append(&mut self, batch: &[LogEntry]) -> Result<(), JournalError> {
        self.writer.append(batch)
    }

    fn read(&self, after: Lsn) -> Result<Entries, JournalError> {
        let path = &self.writer.path;
        // A separate descriptor has its own file position.
        let file = File::open(path).map_err(|error| JournalError::io(path, error))?;
        let mut reader = BatchReader::new(file, path, self.id, self.writer.end.at)?;
        let mut failed = false;
        let batches = std::iter::from_fn(move || {
            if failed {
                return None;
            }
            let batch = reader.next_stored_batch();
            failed = batch.is_err();
            batch.transpose()
        });
        let entries = batches.flat_map(|batch| match batch {
            Ok(entries) => entries.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        });
        // An error is passed on.
        Ok(Box::new(
            entries
                .skip_while(move |entry| entry.as_ref().is_ok_and(|entry| entry.version <= after)),
        ))
    }

    fn snapshot(&self) -> Result<Option<Snapshot>, JournalError> {
        snapshot_file::load(&self.snapshot_path(), self.id)
    }

    fn save_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), JournalError> {
        snapshot_file::save(&self.snapshot_path(), self.id, snapshot)
    }

    /// Replaces the file by an empty one. A crash leaves the old file or the new one.
    ///
    /// If the new file could not be created, this journal continues. If the rename failed it takes
    /// no more batches, because the name may belong to either file.
    fn truncate(&mut self) -> Result<(), JournalError> {
        let path = self.writer.path.clone();
        let location = JournalPath::new(&path)?;
        let file = location.fresh(self.id)?;
        let writer = recovered(file, &path, self.id, self.writer.timeline)?;
        location.publish().inspect_err(|_| self.writer.failed = true)?;
        self.writer = writer;
        Ok(())
    }

    fn last(&self) -> Lsn {
        self.writer.end.last
    }

    fn size(&self) -> u64 {
        self.writer.end.at
    }

    fn timeline(&self) -> [u8; 16] {
        self.writer.timeline
    }

    fn begin_timeline(&mut self) -> Result<[u8; 16], JournalError> {
        self.writer.timeline = random(&self.writer.path)?;
        Ok(self.writer.timeline)
    }

    fn initial_timelines(&self) -> &[Timeline] {
        &self.writer.end.timelines
    }
}

fn random(path: &Path) -> Result<[u8; 16], JournalError> {
    relais_os::random().map_err(|error| JournalError::io(path, error))
}

/// Reads the locked file to its end, makes it durable, and returns its writer.
fn recovered(
    file: File,
    path: &Path,
    id: [u8; 16],
    timeline: [u8; 16],
) -> Result<JournalWriter<LocatedFile>, JournalError> {
    let io_error = |error| JournalError::io(path, error);
    let size = file.metadata().map_err(io_error)?.len();
    let mut reader = BatchReader::new(file.try_clone().map_err(io_error)?, path, id, size)?;
    while reader.next_batch()?.is_some() {}
    let file = LocatedFile { file, path: path.to_owned() };
    recover::make_durable(&file, path, reader.newest, reader.end.at, reader.size)?;
    Ok(JournalWriter::new(file, path, reader.end, timeline))
}
