//! Errors of a journal and its snapshot.

use std::io;
use std::path::{Path, PathBuf};

use relais_os::display_path;
use relais_proto::{ClusterId, Lsn, system_error_text};
use rustix::io::Errno;
use thiserror::Error;

use crate::format::{BATCH_BYTES, BATCH_CHANGES, FORMAT};

/// The reason why a journal does not open or rejects a batch.
///
/// Paths are those of [`display_path`].
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the names of the fields say everything")]
pub enum JournalError {
    /// Another process has the journal open.
    #[error("the journal {0} is in use by another process")]
    InUse(PathBuf),
    /// The path is a link, a folder, a pipe or the like.
    #[error("the journal file {0} is not a regular file")]
    NotRegular(PathBuf),
    /// The journal belongs to another cluster or folder.
    #[error("the journal file {path} belongs to {found}, not to {wanted}")]
    Foreign { path: PathBuf, found: ClusterId, wanted: ClusterId },
    /// The file has another format.
    #[error("the journal file {path} has format {found}; this program knows format {FORMAT}")]
    Format { path: PathBuf, found: u32 },
    /// The content is not what was written. A journal is never repaired by omission.
    ///
    /// `offset` is the start of the damaged part: a batch, the header or a payload.
    #[error("the journal file {path} is damaged at byte {offset}: {why}")]
    Damaged { path: PathBuf, offset: u64, why: String },
    /// The number of a change does not follow the one before it. Nothing was written.
    #[error("change {found} does not follow change {after}")]
    Order { after: Lsn, found: Lsn },
    /// A batch is over a cap. Nothing was written.
    #[error(
        "a batch of {changes} changes is over the cap of {BATCH_CHANGES} changes \
         or {BATCH_BYTES} bytes"
    )]
    TooLarge { changes: usize },
    /// A value of a change is out of range, such as the size of a file. Nothing was written.
    #[error("change {0} could not be read back from the journal")]
    Unreadable(Lsn),
    /// The disk or the quota is full. Nothing was stored; a later batch may be.
    #[error("no space for the journal {path}: {}", system_error_text(cause))]
    NoSpace { path: PathBuf, cause: io::Error },
    /// A system call failed.
    #[error("cannot use the journal {path}: {}", system_error_text(cause))]
    Io { path: PathBuf, cause: io::Error },
    /// The file has lost its name, so its content would not be found at the next start.
    #[error(
        "the journal {0} was removed or replaced while it was in use: restore it or check its \
         replacement, then start again"
    )]
    Gone(PathBuf),
    /// An earlier write or sync failed, so the content of the disk is unknown.
    #[error("the journal {0} takes no changes after a failed write, until it is reopened")]
    Failed(PathBuf),
}

impl JournalError {
    /// Makes the error of a system call on the file at `path`.
    pub(super) fn io(path: &Path, cause: impl Into<io::Error>) -> Self {
        let (path, cause) = (display_path(path), cause.into());
        if is_full(&cause) { Self::NoSpace { path, cause } } else { Self::Io { path, cause } }
    }

    pub(super) fn damaged(path: &Path, offset: u64, why: impl Into<String>) -> Self {
        Self::Damaged { path: display_path(path), offset, why: why.into() }
    }
}

/// Whether an error only means that there is no space.
pub(super) fn is_full(cause: &io::Error) -> bool {
    matches!(Errno::from_io_error(cause), Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG))
}
