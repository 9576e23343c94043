//! How a fetch fails, and how one answer of a server fails.
//!
//! [`DownloadError`] is for callers. [`DownloadInterrupt`] is for the loop in `retry_loop.rs`, which decides from its
//! kind whether to ask again, to move on, to start again or to give up.

use std::io;

use relais_proto::{Endpoint, ErrorCode, Refusal, WireError, system_error_text};
use thiserror::Error;

/// Why a fetch gave up. The kind decides what the caller does with the part file.
#[derive(Debug, Error)]
pub enum DownloadError {
    /// A server refused, and another one would refuse as well: there is no such file, or it may not be read.
    #[error("{0}")]
    Refused(Refusal),
    /// The connection was lost and no server could go on. The part file can be resumed.
    #[error("the transfer was cut: {why}")]
    Cut {
        /// Bytes of the content that are in the part file.
        good: u64,
        /// Bytes of the whole content; 0 where no server told.
        size: u64,
        /// What happened last.
        why: String,
    },
    /// No server has content that matches its digest. The part file can be resumed.
    #[error("no server sends content that has its digest: {0}")]
    Damaged(String),
    /// The content was replaced again and again while it was fetched.
    #[error("the content was replaced {0} times while it was fetched")]
    Changing(u32),
    /// A local file or folder could not be used.
    #[error("{what}: {}", system_error_text(error))]
    Local {
        /// What the system said.
        error: io::Error,
        /// What was being done.
        what: &'static str,
    },
    /// The user interrupted. The part file can be resumed.
    #[error("interrupted")]
    Interrupted,
    /// No server could be reached.
    #[error("{0}")]
    Unreachable(String),
    /// Servers broke the protocol, again and again.
    #[error("the server broke the protocol: {0}")]
    BadServer(WireError),
}

impl DownloadError {
    /// The code of the closed list of errors.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Refused(refusal) => refusal.code,
            Self::Cut { .. } => ErrorCode::Cut,
            Self::Damaged(_) => ErrorCode::Damaged,
            Self::Changing(_) => ErrorCode::Changed,
            Self::Local { .. } => ErrorCode::Local,
            Self::Interrupted => ErrorCode::Interrupted,
            Self::Unreachable(_) => ErrorCode::Unreachable,
            Self::BadServer(_) => ErrorCode::BadServer,
        }
    }

    /// Whether a later fetch may go on with what is in the part file: always, but where the server
    /// has no such file any more.
    #[must_use]
    pub fn can_resume(&self) -> bool {
        use ErrorCode::{BadName, IsFolder, NotFolder, NotFound, NotServed};
        !matches!(self, Self::Refused(refusal) if matches!(refusal.code, NotFound | IsFolder | NotFolder | NotServed | BadName))
    }

    /// A local failure while doing `what`.
    pub(super) fn local(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Local { error, what }
    }
}

/// Why one request to one server did not end well.
#[derive(Debug)]
pub(super) enum DownloadInterrupt {
    /// The connection is gone, silent or too slow.
    Lost(String),
    /// The server answered with an error; the connection is still good.
    Refused(Refusal),
    /// It does not have the content yet, and these have it; the connection is still good.
    Elsewhere(Vec<Endpoint>),
    /// The server broke the protocol.
    Violation(WireError),
    /// What the server has does not make up its digest.
    Rotten(String),
    /// The content is another one than before, for this reason; blocks may be under way.
    Replaced(String),
    /// Nothing to do with the server: the fetch ends.
    Fatal(DownloadError),
}

impl DownloadInterrupt {
    /// An answer that the protocol does not allow here.
    pub(super) fn bad_value(what: &'static str, value: u64) -> Self {
        Self::Violation(WireError::BadValue { what, value })
    }
}

impl From<WireError> for DownloadInterrupt {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Truncated => Self::Lost("the connection was closed".to_owned()),
            WireError::Io(e) => Self::Lost(e.to_string()),
            other => Self::Violation(other),
        }
    }
}

impl From<DownloadError> for DownloadInterrupt {
    fn from(error: DownloadError) -> Self {
        Self::Fatal(error)
    }
}
