//! Errors of a download, and of one answer within it.
//!
//! [`DownloadError`] is for callers. [`DownloadInterrupt`] is for the loop in `retry_loop.rs`,
//! whose decision depends on the kind.

use std::io;

use relais_proto::{Endpoint, ErrorCode, Refusal, WireError, system_error_text};
use thiserror::Error;

/// Reason why a download failed. The kind decides whether the part file is kept.
#[derive(Debug, Error)]
pub enum DownloadError {
    /// A server refused, and any other would refuse too: the file is absent or not readable.
    #[error("{0}")]
    Refused(Refusal),
    /// The connection was lost and no server could continue. The part file can be resumed.
    #[error("the transfer was cut: {why}")]
    Cut {
        /// Good bytes in the part file.
        good: u64,
        /// Size of the whole content in bytes; 0 if unknown.
        size: u64,
        /// Last failure.
        why: String,
    },
    /// No server sends content that matches its digest. The part file can be resumed.
    #[error("no server sends content that has its digest: {0}")]
    Damaged(String),
    /// The content was replaced repeatedly during the download.
    #[error("the content was replaced {0} times while it was fetched")]
    Changing(u32),
    /// A local file or folder could not be used.
    #[error("{what}: {}", system_error_text(error))]
    Local {
        /// Error of the system.
        error: io::Error,
        /// Failed operation.
        what: &'static str,
    },
    /// The user has interrupted. The part file can be resumed.
    #[error("interrupted")]
    Interrupted,
    /// No server could be reached.
    #[error("{0}")]
    Unreachable(String),
    /// Servers broke the protocol repeatedly.
    #[error("the server broke the protocol: {0}")]
    BadServer(WireError),
}

impl DownloadError {
    /// Returns the error code.
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

    /// Returns whether a later download can resume the part file.
    ///
    /// It can, unless the server no longer has such a file.
    #[must_use]
    pub fn can_resume(&self) -> bool {
        use ErrorCode::{BadName, IsFolder, NotFolder, NotFound, NotServed};
        let Self::Refused(refusal) = self else { return true };
        !matches!(refusal.code, NotFound | IsFolder | NotFolder | NotServed | BadName)
    }

    /// Wraps a local error of the operation `what`.
    pub(super) fn local(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Local { error, what }
    }
}

/// Reason why one request to one server failed.
#[derive(Debug)]
pub(super) enum DownloadInterrupt {
    /// The connection is lost, silent or too slow.
    Lost(String),
    /// The server answered with an error; the connection is still usable.
    Refused(Refusal),
    /// The server does not have the content yet, but these do; the connection is still usable.
    Elsewhere(Vec<Endpoint>),
    /// The server broke the protocol.
    Violation(WireError),
    /// The server's content does not match its digest.
    Damaged(String),
    /// The content was replaced; blocks may be in flight.
    Replaced(String),
    /// The failure is not about the server: the download ends.
    Fatal(DownloadError),
}

impl DownloadInterrupt {
    /// Reports an answer that the protocol does not allow here.
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
