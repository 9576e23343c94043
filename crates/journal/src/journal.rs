//! The trait of a journal. No input or output.

use std::fmt;

use relais_proto::{LogEntry, Lsn, Timeline};

use crate::error::JournalError;

/// Entries of a journal, oldest first. After an error there are no more.
pub type Entries = Box<dyn Iterator<Item = Result<LogEntry, JournalError>> + Send>;

/// A log of numbered changes, and a snapshot of the state before its first entry.
///
/// One thread owns it. Only [`Entries`] go to other threads.
pub trait Journal: fmt::Debug + Send {
    /// Appends a batch atomically; durable when this returns. An empty batch has no effect.
    ///
    /// # Errors
    /// Later batches may succeed after a rejected batch (numbers, size) and after
    /// [`JournalError::NoSpace`]. After any other error the journal takes no batch until it is
    /// reopened, and the reopened journal may have the batch.
    fn append(&mut self, batch: &[LogEntry]) -> Result<(), JournalError>;

    /// Reads the entries stored now that come after `after`. They stay valid during later calls.
    ///
    /// # Errors
    /// Errors of the system calls.
    fn read(&self, after: Lsn) -> Result<Entries, JournalError>;

    /// Loads the snapshot; none if there is none.
    ///
    /// # Errors
    /// The snapshot is damaged or belongs to another journal, or a system call failed.
    fn snapshot(&self) -> Result<Option<Snapshot>, JournalError>;

    /// Replaces the snapshot; durable when this returns.
    ///
    /// # Errors
    /// Errors of the system calls. The old snapshot is still there.
    fn save_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), JournalError>;

    /// Removes all entries. The snapshot covers them. Any number may follow.
    ///
    /// # Errors
    /// Errors of the system calls. All entries are still there. The journal may take no more
    /// batches.
    fn truncate(&mut self) -> Result<(), JournalError>;

    /// The number of the last entry; the default if the journal is empty.
    fn last(&self) -> Lsn;

    /// The size of the entries in bytes.
    fn size(&self) -> u64;

    /// The timeline of the batches to come; random for each opening.
    fn timeline(&self) -> [u8; 16];

    /// Starts another timeline: later batches do not continue the earlier ones of this process.
    ///
    /// # Errors
    /// The system provides no random bytes.
    fn begin_timeline(&mut self) -> Result<[u8; 16], JournalError>;

    /// The timelines of the entries at the opening, each with the last change before its first one.
    fn initial_timelines(&self) -> &[Timeline];
}

/// The state that entries removed from a journal have made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Time of creation, in milliseconds since 1970.
    pub made_ms: u64,
    /// The state, in the caller's encoding.
    pub payload: Vec<u8>,
}
