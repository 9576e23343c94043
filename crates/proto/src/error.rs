//! What can be wrong with bytes from a peer, and the errors that peers tell each other.

use std::io;

use thiserror::Error;

use crate::{NameError, TreePath};

/// Why bytes from a peer were not taken.
#[derive(Debug, Error)]
pub enum WireError {
    /// The connection ended inside a frame.
    #[error("the connection was closed inside a frame")]
    Truncated,
    /// A frame announced more than its type may carry.
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
    /// A frame of a known type that has no place here.
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
        /// Which field.
        what: &'static str,
        /// What was announced.
        len: u64,
        /// The most that is allowed.
        cap: u64,
    },
    /// A field has a value without a meaning.
    #[error("{what} has the undefined value {value}")]
    BadValue {
        /// Which field.
        what: &'static str,
        /// The value found.
        value: u64,
    },
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
    #[error("no protocol version in common: we speak {} to {}, the peer {} to {}", ours.0, ours.1, theirs.0, theirs.1)]
    NoCommonVersion {
        /// Our lowest and highest version.
        ours: (u16, u16),
        /// The peer's lowest and highest version.
        theirs: (u16, u16),
    },
    /// The stream under the frames failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// The closed list of errors that a server answers with, and that
        /// `ftpclient --json` prints. The number goes over the wire, the text
        /// is for people and scripts.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum ErrorCode { $($(#[$doc])* $name = $number,)* }

        impl ErrorCode {
            /// All codes, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code's name, as in `--json` output.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The code's number on the wire.
            #[must_use]
            pub fn number(self) -> u16 {
                match self { $(Self::$name => $number,)* }
            }

            /// The code with this number on the wire.
            #[must_use]
            pub fn from_number(number: u16) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }
        }
    };
}

error_codes! {
    /// Nothing has that name.
    NotFound = 1, "not-found";
    /// A file was wanted and a folder is there.
    IsFolder = 2, "is-folder";
    /// A folder was wanted and something else is there.
    NotFolder = 3, "not-folder";
    /// The name breaks the rules for names.
    BadName = 4, "bad-name";
    /// Something is there that is not served: a link, a device, a mount point.
    NotServed = 5, "not-served";
    /// The content that was asked for has been replaced.
    Changed = 6, "changed";
    /// The offset lies behind the end of the content.
    BadOffset = 7, "bad-offset";
    /// The user may not do that.
    Denied = 8, "denied";
    /// A login is needed first.
    LoginNeeded = 9, "login-needed";
    /// User or password are wrong.
    LoginRefused = 10, "login-refused";
    /// The ticket is altered, ended or another cluster's.
    BadTicket = 11, "bad-ticket";
    /// All places and the queue are full; try again later.
    Busy = 12, "busy";
    /// No slave is in service.
    NoSlave = 13, "no-slave";
    /// The server is stopping or being drained; another one goes on.
    Draining = 14, "draining";
    /// The peer sent something that the protocol does not allow.
    BadRequest = 15, "bad-request";
    /// No protocol version in common.
    BadVersion = 16, "bad-version";
    /// The server does not know this request.
    Unsupported = 17, "unsupported";
    /// A deadline passed.
    TimedOut = 18, "timed-out";
    /// The server could not read or write its folder.
    Storage = 19, "storage";
    /// Proof of the cluster key failed.
    BadProof = 20, "bad-proof";
    /// Another slave has this address.
    Conflict = 21, "conflict";
    /// The content does not have its digest.
    Damaged = 22, "damaged";
    /// No server could be reached (client side).
    Unreachable = 23, "unreachable";
    /// The transfer was cut and can be resumed (client side).
    Cut = 24, "cut";
    /// The user interrupted (client side).
    Interrupted = 25, "interrupted";
    /// A local file or folder could not be used (client side).
    Local = 26, "local";
    /// The command line is wrong (client side).
    Usage = 27, "usage";
    /// The server broke the protocol (client side).
    BadServer = 28, "bad-server";
    /// The name is taken.
    Exists = 29, "exists";
    /// The folder is not empty.
    NotEmpty = 30, "not-empty";
    /// The server's disk is full.
    NoSpace = 31, "no-space";
    /// Changes are not possible now.
    NoChanges = 32, "no-changes";
    /// The change is made, and fewer disks hold its content than were wanted.
    TooFewCopies = 33, "too-few-copies";
    /// The slave does not have yet what the client has seen; another one may.
    Behind = 34, "behind";
    /// No server that can be reached has the content.
    NoContent = 35, "no-content";
    /// The server takes connections from there only where they are encrypted.
    TlsNeeded = 36, "tls-needed";
    /// The server does not prove that it is the one that is meant (client side).
    NotTrusted = 37, "not-trusted";
}

/// What whoever got an error can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RetryClass {
    /// The same request fails again until something else is changed.
    Never,
    /// Ask again at once, from the state that is there now: with another offset, expectation or id, or from the beginning.
    Restart,
    /// Ask the same server again after a while.
    Later,
    /// Ask another server at once.
    Elsewhere,
    /// Log in first, or get a new ticket.
    Login,
    /// The change is made: do not ask again.
    Done,
}

impl RetryClass {
    /// All classes.
    pub const ALL: &'static [Self] =
        &[Self::Never, Self::Restart, Self::Later, Self::Elsewhere, Self::Login, Self::Done];

    /// The class's name, as in `PROTOCOL.md`.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Restart => "restart",
            Self::Later => "later",
            Self::Elsewhere => "elsewhere",
            Self::Login => "login",
            Self::Done => "done",
        }
    }
}

impl ErrorCode {
    /// What whoever got this error can do about it.
    #[must_use]
    pub const fn retry(self) -> RetryClass {
        match self {
            Self::NotFound
            | Self::IsFolder
            | Self::NotFolder
            | Self::BadName
            | Self::NotServed
            | Self::Denied
            | Self::LoginRefused
            | Self::BadRequest
            | Self::BadVersion
            | Self::Unsupported
            | Self::BadProof
            | Self::Interrupted
            | Self::Local
            | Self::Usage
            | Self::Exists
            | Self::NotEmpty
            | Self::TlsNeeded
            | Self::NotTrusted => RetryClass::Never,
            Self::Changed | Self::BadOffset | Self::Damaged | Self::Conflict => RetryClass::Restart,
            Self::Busy
            | Self::NoSlave
            | Self::Unreachable
            | Self::Cut
            | Self::NoChanges
            | Self::NoContent => RetryClass::Later,
            Self::Draining
            | Self::TimedOut
            | Self::Storage
            | Self::BadServer
            | Self::NoSpace
            | Self::Behind => RetryClass::Elsewhere,
            Self::LoginNeeded | Self::BadTicket => RetryClass::Login,
            Self::TooFewCopies => RetryClass::Done,
        }
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text())
    }
}

/// An error that one side tells the other.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}{message}", .path.as_ref().map_or_else(String::new, |path| format!("{path}: ")))]
pub struct Refusal {
    /// What kind of error it is; decides what the other side does.
    pub code: ErrorCode,
    /// For people; at most [`crate::limits::TEXT`] bytes. Holds no path of the server's host, and none of the tree.
    pub message: String,
    /// For [`ErrorCode::Busy`] and [`ErrorCode::NoSlave`]: try again after this many seconds; else 0.
    pub retry_after: u16,
    /// What it is about, from the top of the tree. It is data, so that each user is shown it below the user's own top: a session puts it
    /// into the message ([`Self::below`]), and clients are not sent it.
    pub path: Option<TreePath>,
}

impl Refusal {
    /// A refusal that has no time to try again.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after: 0, path: None }
    }

    /// A refusal that is about a path; the message reads on behind it: "/a/b: no such file".
    #[must_use]
    pub fn at(path: &TreePath, code: ErrorCode, message: impl Into<String>) -> Self {
        Self { path: Some(path.clone()), ..Self::new(code, message) }
    }

    /// The refusal as a user reads it whose top is `root`. Of a path outside of that nothing is shown.
    #[must_use]
    pub fn below(mut self, root: &TreePath) -> Self {
        if let Some(path) = self.path.take().and_then(|path| path.relative_to(root)) {
            self.message = format!("{path}: {}", self.message);
        }
        self
    }
}
