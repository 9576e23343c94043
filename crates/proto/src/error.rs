//! The error codes that peers send to each other, and refusals with them.

use thiserror::Error;

use crate::{Capped, Decoder, Encoder, TreePath, Wire, WireError, limits};

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal, $retry:ident;)*) => {
        /// Error codes of the protocol and of `ftpclient --json`.
        ///
        /// The list is closed. The number goes over the wire; the text is for people and scripts.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum ErrorCode { $($(#[$doc])* $name = $number,)* }

        impl ErrorCode {
            /// All codes, ordered by number.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Returns the name of the code, as in `--json` output.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Returns the number of the code on the wire.
            #[must_use]
            pub fn number(self) -> u16 {
                match self { $(Self::$name => $number,)* }
            }

            /// Returns the code with this number on the wire.
            #[must_use]
            pub fn from_number(number: u16) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }

            /// Returns the reaction of the receiver to this error.
            #[must_use]
            pub const fn retry(self) -> RetryClass {
                match self { $(Self::$name => RetryClass::$retry,)* }
            }
        }
    };
}

error_codes! {
    /// No file or folder has this name.
    NotFound = 1, "not-found", Never;
    /// The path is a folder, not a file.
    IsFolder = 2, "is-folder", Never;
    /// The path is not a folder.
    NotFolder = 3, "not-folder", Never;
    /// The name breaks the rules for names.
    BadName = 4, "bad-name", Never;
    /// The entry is not served: a link, a device or a mount point.
    NotServed = 5, "not-served", Never;
    /// The requested content has been replaced.
    Changed = 6, "changed", Restart;
    /// The offset lies beyond the end of the content.
    BadOffset = 7, "bad-offset", Restart;
    /// The user has no permission, or the server has none to write there.
    Denied = 8, "denied", Never;
    /// A login is needed first.
    LoginNeeded = 9, "login-needed", Login;
    /// The user name or the password is wrong.
    LoginRefused = 10, "login-refused", Never;
    /// The ticket is altered, expired or from another cluster.
    BadTicket = 11, "bad-ticket", Login;
    /// The pool and the queue are full.
    Busy = 12, "busy", Later;
    /// No slave is in service.
    NoSlave = 13, "no-slave", Later;
    /// The server stops or is being drained; use another server.
    Draining = 14, "draining", Elsewhere;
    /// The peer broke the protocol.
    BadRequest = 15, "bad-request", Never;
    /// No protocol version in common.
    BadVersion = 16, "bad-version", Never;
    /// The server does not know this request.
    Unsupported = 17, "unsupported", Never;
    /// A deadline passed.
    TimedOut = 18, "timed-out", Elsewhere;
    /// The server could not read or write its folder.
    Storage = 19, "storage", Elsewhere;
    /// Proof of the cluster key failed.
    BadProof = 20, "bad-proof", Never;
    /// Another slave already uses this address.
    Conflict = 21, "conflict", Restart;
    /// The content does not match its digest.
    Damaged = 22, "damaged", Restart;
    /// No server could be reached (client side).
    Unreachable = 23, "unreachable", Later;
    /// The transfer was cut and can be resumed (client side).
    Cut = 24, "cut", Later;
    /// The user interrupted (client side).
    Interrupted = 25, "interrupted", Never;
    /// A local file or folder could not be used (client side).
    Local = 26, "local", Never;
    /// The command line is wrong (client side).
    Usage = 27, "usage", Never;
    /// The server broke the protocol (client side).
    BadServer = 28, "bad-server", Elsewhere;
    /// The name is already taken.
    Exists = 29, "exists", Never;
    /// The folder is not empty.
    NotEmpty = 30, "not-empty", Never;
    /// The server's disk is full.
    NoSpace = 31, "no-space", Elsewhere;
    /// Changes are not possible now.
    NoChanges = 32, "no-changes", Later;
    /// The change is committed, but fewer disks hold its content than requested.
    TooFewCopies = 33, "too-few-copies", Done;
    /// The slave has not applied yet what the client has seen; another slave may have.
    Behind = 34, "behind", Elsewhere;
    /// No reachable server holds the content.
    NoContent = 35, "no-content", Later;
    /// The server accepts only encrypted connections from this address.
    TlsNeeded = 36, "tls-needed", Never;
    /// The server's identity is not verified (client side).
    NotTrusted = 37, "not-trusted", Never;
    /// A lock of another user or program covers the path.
    Locked = 38, "locked", Never;
    /// A limit is reached, such as the number of locks or the size of properties.
    Limit = 39, "limit", Never;
}

/// Reaction of the receiver to an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RetryClass {
    /// Do not retry: the request fails again until the situation changes.
    Never,
    /// Retry at once from the current state.
    ///
    /// The retry uses another offset, precondition or id, or starts from the beginning.
    Restart,
    /// Retry at the same server later.
    Later,
    /// Retry at another server at once.
    Elsewhere,
    /// Log in first, or get a new ticket.
    Login,
    /// Do not retry: the change is already made.
    Done,
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text())
    }
}

impl Wire for ErrorCode {
    fn encode(&self, to: &mut Encoder<'_>) {
        to.u16(self.number());
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        let number = from.u16()?;
        let value = number.into();
        Self::from_number(number).ok_or(WireError::BadValue { what: "error code", value })
    }
}

/// An error that one side sends to the other.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}{message}", .path.as_ref().map_or_else(String::new, |path| format!("{path}: ")))]
pub struct Refusal {
    /// Kind of the error; decides the reaction of the other side.
    pub code: ErrorCode,
    /// Text for people; at most [`crate::limits::TEXT`] bytes.
    ///
    /// Contains no path of the server's host, and no path of the tree.
    pub message: String,
    /// Seconds until a retry, for [`ErrorCode::Busy`] and [`ErrorCode::NoSlave`]; else 0.
    pub retry_after: u16,
    /// Path that the error is about, from the root of the tree.
    ///
    /// It is separate from the message, because each user sees it relative to the user's own root.
    /// A session puts it into the message with [`Self::below`]; it is not sent to clients.
    pub path: Option<TreePath>,
}

impl Refusal {
    /// Makes a refusal without a retry time.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after: 0, path: None }
    }

    /// Makes a refusal about a path.
    ///
    /// The message continues after the path: "/a/b: no such file".
    #[must_use]
    pub fn at(path: &TreePath, code: ErrorCode, message: impl Into<String>) -> Self {
        Self { path: Some(path.clone()), ..Self::new(code, message) }
    }

    /// Rewrites the refusal for a user whose root is `root`.
    ///
    /// A path outside of that root is not shown.
    #[must_use]
    pub fn below(mut self, root: &TreePath) -> Self {
        if let Some(path) = self.path.take().and_then(|path| path.relative_to(root)) {
            self.message = format!("{path}: {}", self.message);
        }
        self
    }
}

impl From<&WireError> for Refusal {
    /// The refusal for a peer that violated the protocol.
    fn from(error: &WireError) -> Self {
        let code = match error {
            WireError::NoCommonVersion { .. } => ErrorCode::BadVersion,
            _ => ErrorCode::BadRequest,
        };
        Self::new(code, error.to_string())
    }
}

impl From<WireError> for Refusal {
    fn from(error: WireError) -> Self {
        Self::from(&error)
    }
}

/// The path is not part of the encoding.
impl Wire for Refusal {
    fn encode(&self, to: &mut Encoder<'_>) {
        self.code.encode(to);
        self.message.encode_capped(to, limits::TEXT);
        to.u16(self.retry_after);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        Ok(Self {
            code: ErrorCode::decode(from)?,
            message: Capped::decode_capped(from, "message", limits::TEXT)?,
            retry_after: from.u16()?,
            path: None,
        })
    }
}
