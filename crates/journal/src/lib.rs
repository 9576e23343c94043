//! The log of numbered changes behind a trait, with a file implementation.
//!
//! The crate owns the journal file with its format and lock, the snapshot file, and recordings of
//! running programs. It never interprets a change, opens a socket or starts a thread.

mod batch;
mod error;
mod file_journal;
mod format;
mod journal;
mod location;
mod recording;
mod recover;
mod snapshot_file;
#[cfg(test)]
mod tests;
mod writer;

pub use error::JournalError;
pub use file_journal::FileJournal;
pub use journal::{Entries, Journal, Snapshot};
pub use recording::Recording;
