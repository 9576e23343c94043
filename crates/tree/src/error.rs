//! Errors of operations in a folder. No text contains a path of the host.

use std::fmt;
use std::io;

use relais_proto::{ErrorCode, system_error_text};
use rustix::io::Errno;
use thiserror::Error;

/// Kind of an entry that is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnservedKind {
    /// A symbolic link.
    Link,
    /// A device, FIFO or socket.
    Special,
    /// A mount point, or an entry on another file system.
    Mount,
}

impl fmt::Display for UnservedKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Link => "a symbolic link",
            Self::Special => "a device, FIFO or socket",
            Self::Mount => "a mount point",
        })
    }
}

/// Error of an operation in a folder.
#[derive(Debug, Error)]
pub enum TreeError {
    /// No entry has this name.
    #[error("no such file or folder")]
    NotFound,
    /// The entry is a folder, not a file.
    #[error("a folder has that name")]
    IsFolder,
    /// The entry is not a folder, or a file lies in the middle of the path.
    #[error("not a folder")]
    NotFolder,
    /// The entry is not served: a link, a device or a mount point.
    #[error("not served: {0}")]
    NotServed(UnservedKind),
    /// The new name is already taken.
    #[error("the name is taken")]
    Taken,
    /// The entry to replace, move or remove has just been replaced by another one.
    #[error("the server is changing it right now; try again in a second")]
    Changing,
    /// The name is longer than the file system allows.
    #[error("the name is too long for this disk")]
    TooLong,
    /// The folder to remove is not empty.
    #[error("the folder is not empty")]
    NotEmpty,
    /// Another process holds the lock of the file.
    #[error("another process is working on it")]
    InUse,
    /// The operating system refused the operation.
    #[error("cannot {0}: {words}", words = system_error_text(.1))]
    Io(&'static str, io::Error),
}

/// Returns whether the disk or the user's quota is full.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether the server has no permission to do it, or its disk is read-only.
fn is_denied(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// Whether an operation, as [`TreeError::Io`] names it, changes something.
fn is_write(operation: &str) -> bool {
    let verb = operation.split(' ').next().unwrap_or_default();
    matches!(verb, "change" | "create" | "make" | "remove" | "rename" | "set" | "write")
}

impl TreeError {
    /// Returns the error code for a peer.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NotFound => ErrorCode::NotFound,
            Self::IsFolder => ErrorCode::IsFolder,
            Self::NotFolder => ErrorCode::NotFolder,
            Self::NotServed(_) => ErrorCode::NotServed,
            Self::Taken => ErrorCode::Exists,
            Self::Changing => ErrorCode::NoChanges,
            Self::NotEmpty => ErrorCode::NotEmpty,
            Self::TooLong => ErrorCode::BadName,
            Self::InUse => ErrorCode::Local,
            Self::Io(op, e) if is_denied(e) && is_write(op) => ErrorCode::Denied,
            // A file that the server may not read is treated like a link.
            Self::Io(_, e) if is_denied(e) => ErrorCode::NotServed,
            Self::Io(_, e) if is_full(e) => ErrorCode::NoSpace,
            Self::Io(..) => ErrorCode::Storage,
        }
    }

    /// Returns whether the disk or the user's quota is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io(_, e) if is_full(e))
    }

    /// Returns the text for a peer, without operations and error texts of this host.
    #[must_use]
    pub fn public_text(&self) -> String {
        match self {
            Self::Io(op, e) if is_denied(e) && is_write(op) => {
                "the server has no permission to write there".to_owned()
            }
            Self::Io(_, e) if is_denied(e) => "the server may not read it".to_owned(),
            Self::Io(_, e) if is_full(e) => "the server's disk is full".to_owned(),
            Self::Io(..) => "the server cannot use it".to_owned(),
            other => other.to_string(),
        }
    }

    /// Returns the text for operators of this host, without paths and system error numbers.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::NotServed(UnservedKind::Mount) => "a mount point blocks it".to_owned(),
            other => other.to_string(),
        }
    }

    /// Returns whether a resource was short for a moment, so the same call may succeed at once.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        let Self::Io(_, e) = self else { return matches!(self, Self::InUse | Self::Changing) };
        // An error without a system number is not about the path.
        e.raw_os_error().map(Errno::from_raw_os_error).is_none_or(|number| {
            matches!(
                number,
                Errno::MFILE
                    | Errno::NFILE
                    | Errno::NOMEM
                    | Errno::INTR
                    | Errno::AGAIN
                    | Errno::STALE
            )
        })
    }

    /// Converts the error of a call that makes a name.
    pub(crate) fn from_naming(op: &'static str, e: Errno) -> Self {
        if e == Errno::NAMETOOLONG { Self::TooLong } else { Self::from_errno(op, e) }
    }

    /// Converts the error of a call from its number alone.
    pub(crate) fn from_errno(op: &'static str, e: Errno) -> Self {
        match e {
            // A name that is longer than the file system allows cannot exist.
            Errno::NOENT | Errno::NAMETOOLONG => Self::NotFound,
            Errno::NOTDIR => Self::NotFolder,
            Errno::ISDIR => Self::IsFolder,
            Errno::EXIST => Self::Taken,
            Errno::NOTEMPTY => Self::NotEmpty,
            Errno::LOOP => Self::NotServed(UnservedKind::Link),
            Errno::XDEV => Self::NotServed(UnservedKind::Mount),
            Errno::NXIO | Errno::NODEV => Self::NotServed(UnservedKind::Special),
            _ => Self::Io(op, e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_texts_have_no_system_numbers() {
        let error = TreeError::Io("open", io::Error::from_raw_os_error(13));
        assert_eq!(error.to_string(), "cannot open: permission denied");
    }

    #[test]
    fn denied_writes_are_not_reported_as_unreadable() {
        for (op, code, word) in [
            ("open", ErrorCode::NotServed, "read"),
            ("list", ErrorCode::NotServed, "read"),
            ("make the folder", ErrorCode::Denied, "write"),
            ("rename", ErrorCode::Denied, "write"),
            ("remove", ErrorCode::Denied, "write"),
        ] {
            let error = TreeError::Io(op, io::Error::from_raw_os_error(13));
            assert_eq!(error.code(), code, "{op}");
            assert!(error.public_text().contains(word), "{op}");
        }
    }
}
