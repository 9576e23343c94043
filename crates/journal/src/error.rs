//! Errors of a journal and its snapshot.

use std::io;
use std::path::{Path, PathBuf};

use relais_os::display_path;
use relais_proto::{ClusterId, Lsn};
use rustix::io::Errno;
use thiserror::Error;

use crate::format::{BATCH_BYTES, BATCH_CHANGES, FORMAT};

/// The reason why a journal does not open or rejects a batch.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the names of the fields say everything")]
pub enum JournalError {
    /// Another process has the journal open.
    #[error("the journal {} is in use by another process", display_path(.0).display())]
    InUse(PathBuf),
    /// The path is a link, a folder, a pipe or the like.
    #[error("the journal file {} is not a regular file", display_path(.0).display())]
    NotRegular(PathBuf),
    /// The journal belongs to another cluster or folder.
    #[error(
        "the journal file {} belongs to {found}, not to {wanted}",
        display_path(path).display()
    )]
    Foreign { path: PathBuf, found: ClusterId, wanted: ClusterId },
    /// The file has another format.
    #[error(
        "the journal file {} has format {found}; this program knows format {FORMAT}",
        display_path(path).display()
    )]
    Format { path: PathBuf, found: u32 },
    /// The content is not what was written. A journal is never repaired by omission.
    ///
    /// `offset` is the start of the damaged part: a batch, the header or a payload.
    #[error("the journal file {} is damaged at byte {offset}: {why}", display_path(path).display())]
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
    #[error(
        "no space for the journal {}: {}",
        display_path(path).display(), relais_proto::system_error_text(cause)
    )]
    NoSpace { path: PathBuf, cause: io::Error },
    /// A system call failed.
    #[error(
        "cannot use the journal {}: {}",
        display_path(path).display(), relais_proto::system_error_text(cause)
    )]
    Io { path: PathBuf, cause: io::Error },
    /// The file has lost its name, so its content would not be found at the next start.
    #[error(
        "the journal {} was removed or replaced while it was in use: restore it or check its \
         replacement, then start again",
        .0.display()
    )]
    Gone(PathBuf),
    /// An earlier write or sync failed, so the content of the disk is unknown.
    #[error(
        "the journal {} takes no changes after a failed write, until it is reopened",
        display_path(.0).display()
    )]
    Failed(PathBuf),
}

impl JournalError {
    /// Makes the error of a system call on the file at `path`.
    pub(super) fn io(path: &Path, cause: impl Into<io::Error>) -> Self {
        let (path, cause) = (path.to_owned(), cause.into());
        if is_full(&cause) { Self::NoSpace { path, cause } } else { Self::Io { path, cause } }
    }

    pub(super) fn damaged(path: &Path, offset: u64, why: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), offset, why: why.into() }
    }
}

/// Whether an error only means that there is no space.
pub(super) fn is_full(cause: &io::Error) -> bool {
    matches!(Errno::from_io_error(cause), Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG))
}
