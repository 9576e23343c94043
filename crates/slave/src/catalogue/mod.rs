//! The catalogue: what is in the folder, in `.relais/catalogue.db`.
//!
//! One process writes it, the keeper, which scans the folder at its start and then follows it by
//! inotify. Workers read. It can always be rebuilt from the folder.

mod database;
mod debounce;
mod hasher;
mod identity;
mod path_listing;
mod reader;
mod replica_store;
mod scan;
mod store;
#[cfg(test)]
mod tests;
mod unapplied;
mod watcher;
mod writer;

pub(crate) use database::CatalogRow;
pub use identity::{MetadataFolder, SlaveIdentity, StartParameters, WriterLock, discard_ids};
pub use reader::{CatalogReader, EntryFacts, ListOutcome};
pub(crate) use replica_store::RetainedContent;
pub(crate) use scan::Scanner;
pub(crate) use store::{AppliedEntry, CatalogStore, FileIdentity, SkipReason, UnhashedFile};
pub(crate) use unapplied::UnappliedPath;
pub use writer::{CatalogWriter, CatalogWriterConfig, ReplicationConfig, WatchMode};

use std::io;

use relais_tree::TreeError;
use thiserror::Error;

/// The slave's own folder.
pub const FOLDER: &str = ".relais";

/// Why the catalogue cannot be used.
#[derive(Debug, Error)]
pub enum CatalogError {
    /// The database reports an error.
    #[error("{file}: {source}")]
    Database {
        /// Its file.
        file: String,
        /// What it reports.
        source: rusqlite::Error,
    },
    /// The database is damaged; it can be removed and is then built anew.
    #[error(
        "{file} is damaged ({what}); remove it together with its -wal and -shm, and it is built anew"
    )]
    Damaged {
        /// Its file.
        file: String,
        /// What was found, with the place.
        what: String,
    },
    /// Changes that have their numbers could not be noted. The journal is followed anew by the next keeper.
    #[error("changes that were made could not be noted: {0}")]
    Behind(String),
    /// A file of the slave's own has no sense.
    #[error("{0} is damaged")]
    BadId(String),
    /// The snapshot that stands for the journal's former changes.
    #[error(transparent)]
    Snapshot(Box<relais_state::SnapshotError>),
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(Box<relais_state::JournalError>),
    /// The folder cannot be used.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A system call failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}
