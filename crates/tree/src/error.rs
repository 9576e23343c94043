//! Why something in a folder could not be used. No text here holds a path of the host.

use std::fmt;
use std::io;

use relais_proto::ErrorCode;
use rustix::io::Errno;
use thiserror::Error;

/// What is there instead of a file or folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnservedKind {
    /// A symbolic link.
    Link,
    /// A device, FIFO or socket.
    Special,
    /// Something on another file system, or mounted over the name.
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

/// Why something in a folder could not be used.
#[derive(Debug, Error)]
pub enum TreeError {
    /// Nothing has that name.
    #[error("no such file or folder")]
    NotFound,
    /// A file was wanted and a folder is there.
    #[error("a folder has that name")]
    IsFolder,
    /// A folder was wanted and something else is there, or a file lies in the middle of the path.
    #[error("not a folder")]
    NotFolder,
    /// Something is there that is not used: a link, a device, a mount point.
    #[error("not served: {0}")]
    NotServed(UnservedKind),
    /// A new name was wanted, and it is taken.
    #[error("the name is taken")]
    Taken,
    /// What was about to be replaced, moved or removed is not what it was: somebody has just put something else there.
    #[error("it is just being changed on the server; try again in a second")]
    Changing,
    /// The file system takes no name of that length.
    #[error("the name is too long for this disk")]
    TooLong,
    /// A folder that shall go is not empty.
    #[error("the folder is not empty")]
    NotEmpty,
    /// Another process holds the file's lock.
    #[error("another process is working on it")]
    InUse,
    /// The operating system refused; the operation and its error.
    #[error("cannot {0}: {1}")]
    Io(&'static str, #[source] io::Error),
}

/// Whether the disk, or what a user may have of it, has no more room.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl TreeError {
    /// The kind of error that a peer is told.
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
            // What the server itself may not read is left out like a link.
            Self::Io(_, e) if e.kind() == io::ErrorKind::PermissionDenied => ErrorCode::NotServed,
            Self::Io(_, e) if is_full(e) => ErrorCode::NoSpace,
            Self::Io(..) => ErrorCode::Storage,
        }
    }

    /// Whether the disk, or what the user may have of it, has no more room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io(_, e) if is_full(e))
    }

    /// What a peer may be told: no operation of this host and no error text of its system.
    #[must_use]
    pub fn public_text(&self) -> String {
        match self {
            Self::Io(_, e) if e.kind() == io::ErrorKind::PermissionDenied => {
                "the server may not read it".to_owned()
            }
            Self::Io(_, e) if is_full(e) => "the server's disk is full".to_owned(),
            Self::Io(..) => "the server cannot use it".to_owned(),
            other => other.to_string(),
        }
    }

    /// The reason for operators of this host: no path, no number of the system.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Io(op, e) => {
                let text = e.to_string();
                let plain = text.split(" (os error").next().unwrap_or_default().to_lowercase();
                format!("cannot {op}: {plain}")
            }
            Self::NotServed(UnservedKind::Mount) => "a mount point is in the way".to_owned(),
            other => other.to_string(),
        }
    }

    /// Whether the process was short of something for a moment: the same call may succeed at once.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        let Self::Io(_, e) = self else { return matches!(self, Self::InUse | Self::Changing) };
        // Without a number of the system it is no matter of the path.
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

    /// The error for a failed call that makes a name.
    pub(crate) fn from_naming(op: &'static str, e: Errno) -> Self {
        if e == Errno::NAMETOOLONG { Self::TooLong } else { Self::from_errno(op, e) }
    }

    /// The error for a failed call, where nothing more is known than its number.
    pub(crate) fn from_errno(op: &'static str, e: Errno) -> Self {
        match e {
            // A name longer than the file system takes is the name of nothing.
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
