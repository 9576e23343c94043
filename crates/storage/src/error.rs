//! Errors of this crate.

use std::io;

use relais_proto::TreePath;
use relais_tree::TreeError;
use thiserror::Error;

/// Result of work on the catalogue.
pub type Result<T, E = CatalogError> = std::result::Result<T, E>;

/// Error of the catalogue.
#[derive(Debug, Error)]
pub enum CatalogError {
    /// The database reports an error.
    #[error("{file}: {source}")]
    Database {
        /// Database file.
        file: String,
        /// Error of SQLite.
        source: rusqlite::Error,
    },
    /// The database is damaged. After its removal it is rebuilt from the folder.
    #[error("{file} is damaged ({what}); remove it with its -wal and -shm; it is then rebuilt")]
    Damaged {
        /// Database file.
        file: String,
        /// Finding and its place in the file.
        what: String,
    },
    /// Committed changes could not be recorded. The next writer replays the journal.
    #[error("committed changes could not be recorded: {0}")]
    NotRecorded(String),
    /// A file in the metadata folder is malformed.
    #[error("{0} is damaged")]
    Malformed(String),
    /// The folder cannot be used.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A file or folder cannot be used.
    #[error("{0}: {1}")]
    Path(TreePath, TreeError),
    /// A system call failed.
    #[error("{}", relais_proto::system_error_text(.0))]
    Io(io::Error),
}

impl From<io::Error> for CatalogError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
