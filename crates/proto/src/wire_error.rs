//! Defects in bytes from a peer.

use std::io;

use thiserror::Error;

use crate::NameError;

/// Reason why bytes from a peer were rejected.
#[allow(missing_docs, reason = "the names of the fields say what they hold")]
#[derive(Debug, Error)]
pub enum WireError {
    /// The connection ended inside a frame.
    #[error("the connection was closed inside a frame")]
    Truncated,
    /// A frame announced more bytes than its type may carry.
    #[error("a frame of type {kind:#04x} announced {len} bytes; at most {cap} are allowed")]
    FrameTooLong {
        /// The frame's type byte.
        kind: u8,
        /// Announced payload length in bytes.
        len: u32,
        /// The cap for this type in bytes.
        cap: u32,
    },
    /// No frame has this type.
    #[error("unknown frame type {0:#04x}")]
    UnknownType(u8),
    /// A frame of a known type is not allowed here.
    #[error("a frame of type {0:#04x} is not allowed here")]
    Unexpected(u8),
    /// A payload ended before its last field.
    #[error("a frame is too short for its fields")]
    Short,
    /// A payload has bytes after its last field.
    #[error("a frame has {0} bytes after its last field")]
    Trailing(usize),
    /// A count or length inside a payload is over its cap.
    #[error("{what} of {len} is over the cap of {cap}")]
    OverCap {
        what: &'static str,
        /// Announced length or count.
        len: u64,
        /// Highest allowed value.
        cap: u64,
    },
    /// A field has an undefined value.
    #[error("{what} has the undefined value {value}")]
    BadValue { what: &'static str, value: u64 },
    /// A text field is not UTF-8.
    #[error("{0} is not UTF-8")]
    NotUtf8(&'static str),
    /// A path breaks the rules for names.
    #[error("bad name: {0}")]
    Name(#[from] NameError),
    /// The first bytes are not a greeting of this protocol.
    #[error("the peer does not speak this protocol")]
    NotRelais,
    /// No version in common.
    #[error(
        "no common protocol version: we speak {} to {}, the peer {} to {}",
        ours.0, ours.1, theirs.0, theirs.1
    )]
    NoCommonVersion {
        /// Our lowest and highest version.
        ours: (u16, u16),
        /// The peer's lowest and highest version.
        theirs: (u16, u16),
    },
    /// The stream under the frames failed.
    #[error("{}", crate::system_error_text(.0))]
    Io(io::Error),
}

impl From<io::Error> for WireError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
