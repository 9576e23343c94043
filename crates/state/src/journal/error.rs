//! What can go wrong with a journal.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use relais_proto::{ClusterId, Lsn};
use rustix::io::Errno;
use thiserror::Error;

use super::{BATCH_BYTES, BATCH_CHANGES};
use crate::display_path;

/// Why a journal does not open, or does not take a batch.
#[derive(Debug, Error)]
pub enum JournalError {
    /// Another process has it open.
    #[error("the journal {} is in use by another process", display_path(.0).display())]
    InUse(PathBuf),
    /// It is a link, a folder, a pipe or the like.
    #[error("the journal {} is not a regular file", display_path(.0).display())]
    NotRegular(PathBuf),
    /// It belongs to another cluster or folder.
    #[error("the journal {} belongs to {found}, not to {wanted}", display_path(path).display())]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// The id that it is bound to.
        found: ClusterId,
        /// The id that was asked for.
        wanted: ClusterId,
    },
    /// It was written by a program that knows another format.
    #[error("the journal {} has format {found}; this program knows format {}", display_path(path).display(), super::format::FORMAT)]
    Format {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// What is in it is not what was written. It is never repaired by leaving something out.
    #[error("the journal {} is damaged at byte {offset}: {why}", display_path(path).display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where the first thing that is wrong begins: a batch, or 0 for the file's header.
        offset: u64,
        /// What is wrong.
        why: String,
    },
    /// A batch has a number that does not follow the one before it. Nothing was written.
    #[error("change {found} does not follow change {after}")]
    Order {
        /// The number before.
        after: Lsn,
        /// The number that does not follow it.
        found: Lsn,
    },
    /// A batch is over a cap. Nothing was written.
    #[error(
        "a batch of {changes} changes is over the cap of {BATCH_CHANGES} changes or {BATCH_BYTES} bytes"
    )]
    TooLarge {
        /// Changes in it.
        changes: usize,
    },
    /// A change has a value out of its range, such as a size above that of any file. Nothing was written.
    #[error("change {0} could not be read back from the journal")]
    Unreadable(Lsn),
    /// The disk or the quota is full. Nothing was stored; a later batch may be.
    #[error("no space for the journal {}: {}", display_path(path).display(), relais_proto::system_error_text(cause))]
    NoSpace {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The system refused.
    #[error("cannot use the journal {}: {}", display_path(path).display(), relais_proto::system_error_text(cause))]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The file is not at its place any more, or another is. Nothing that is written to it would be found again.
    #[error("the journal {} was removed or replaced while it was in use: put it back, or see to what took its place, and start again", .0.display())]
    Gone(PathBuf),
    /// An earlier write or sync failed, so what is on disk is not known.
    #[error("the journal {} takes no change since a write failed, until it is opened anew", display_path(.0).display())]
    Failed(PathBuf),
    /// Who was given the changes did not take one.
    #[error("the journal was read in part only: {0}")]
    Stopped(Box<dyn Error + Send + Sync>),
}

impl JournalError {
    /// What the system said about the file at `path`.
    pub(super) fn io(path: &Path, cause: impl Into<io::Error>) -> Self {
        let (path, cause) = (path.to_owned(), cause.into());
        if is_full(&cause) { Self::NoSpace { path, cause } } else { Self::Io { path, cause } }
    }

    pub(super) fn damaged(path: &Path, offset: u64, why: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), offset, why: why.into() }
    }
}

/// Whether an error means that there is no room, and nothing worse.
pub(super) fn is_full(cause: &io::Error) -> bool {
    matches!(Errno::from_io_error(cause), Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG))
}
