//! The log of numbered changes, on disk.
//!
//! The crate owns the journal file with its format and lock, snapshot files, and recordings of
//! running programs. It never interprets a change, opens a socket or starts a thread.

mod error;
mod file;
mod format;
mod journal;
mod recording;
mod recover;
mod snapshot;
#[cfg(test)]
mod tests;
mod writer;

pub use error::JournalError;
pub use format::{BATCH_BYTES, BATCH_CHANGES};
pub use journal::{ChangeLog, Journal, JournalReader};
pub use recording::Recording;
pub use snapshot::{Snapshot, SnapshotError};
