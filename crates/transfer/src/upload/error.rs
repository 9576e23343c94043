//! Errors of an upload, and of one try with one server.
//!
//! [`UploadError`] is for callers. [`UploadInterrupt`] is for the retry loops, whose decision
//! depends on the kind.

use std::io;

use relais_proto::{Digest, ErrorCode, Refusal, WireError, system_error_text};
use thiserror::Error;

use crate::download::DownloadError;

/// Reason why an upload failed. Nothing is visible at its path, unless only the answer was lost.
#[derive(Debug, Error)]
pub enum UploadError {
    /// The user has interrupted. An upload of a file can be resumed.
    #[error("interrupted")]
    Interrupted,
    /// No server could be reached, and none has any byte of the upload.
    #[error("{0}")]
    Unreachable(String),
    /// A server refused, and any other would refuse too.
    #[error("{0}")]
    Refused(Refusal),
    /// The connection was lost and no server could continue.
    #[error("the transfer was cut: {why}")]
    Cut {
        /// Offset up to which the content was sent last. A server may have less.
        sent: u64,
        /// Size of the whole content in bytes. An upload of unknown size cannot be resumed.
        size: Option<u64>,
        /// Last failure.
        why: String,
    },
    /// The local file changed while it was read. The sent bytes are worthless.
    #[error("the local file was changed while it was sent")]
    SourceChanged,
    /// The local file or standard input could not be read.
    #[error("{}", system_error_text(.0))]
    Source(io::Error),
    /// Servers broke the protocol repeatedly.
    #[error("the server broke the protocol: {0}")]
    BadServer(String),
    /// An earlier call stored other content under this id, or its content is gone.
    ///
    /// A new id is necessary.
    #[error("an earlier put under this id is not at its path any more")]
    Superseded,
    /// The server acknowledges other content than was sent.
    #[error(
        "the server has stored other content than was sent: digest {stored} in place of {sent}"
    )]
    OtherContent {
        /// Digest that the server reports.
        stored: Digest,
        /// Digest of the sent content.
        sent: Digest,
    },
}

impl UploadError {
    /// Returns the error code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Interrupted => ErrorCode::Interrupted,
            Self::Unreachable(_) => ErrorCode::Unreachable,
            Self::Refused(refusal) => refusal.code,
            Self::Cut { .. } => ErrorCode::Cut,
            Self::SourceChanged | Self::Source(_) => ErrorCode::Local,
            Self::BadServer(_) => ErrorCode::BadServer,
            Self::Superseded => ErrorCode::Conflict,
            Self::OtherContent { .. } => ErrorCode::Damaged,
        }
    }

    /// Returns whether a later upload of the same file and id can resume.
    ///
    /// Content of unknown length can never be resumed, whatever the result for an interruption.
    #[must_use]
    pub fn can_resume(&self) -> bool {
        use ErrorCode::{Behind, LoginNeeded, LoginRefused, NoChanges};
        match self {
            Self::Interrupted | Self::Unreachable(_) | Self::BadServer(_) => true,
            Self::Cut { size, .. } => size.is_some(),
            Self::Refused(refusal) => {
                is_passing(refusal.code)
                    || matches!(refusal.code, NoChanges | Behind | LoginNeeded | LoginRefused)
            }
            Self::SourceChanged
            | Self::Source(_)
            | Self::Superseded
            | Self::OtherContent { .. } => false,
        }
    }
}

/// Converts the errors of sessions without a connection.
impl From<DownloadError> for UploadError {
    fn from(error: DownloadError) -> Self {
        match error {
            DownloadError::Interrupted => Self::Interrupted,
            DownloadError::Refused(refusal) => Self::Refused(refusal),
            DownloadError::BadServer(error) => Self::BadServer(error.to_string()),
            other => Self::Unreachable(other.to_string()),
        }
    }
}

/// Returns whether a refusal is about the server's state or the login.
///
/// Then another server, or a new login, may accept the upload.
pub(super) fn is_passing(code: ErrorCode) -> bool {
    use ErrorCode::{BadTicket, Busy, Draining, NoSlave, Storage, TimedOut};
    matches!(code, BadTicket | Draining | TimedOut | Storage | Busy | NoSlave)
}

/// Returns whether a correct server never sends this code.
fn is_clients_own(code: ErrorCode) -> bool {
    use ErrorCode::{BadServer, Cut, Interrupted, Local, Unreachable, Usage};
    matches!(code, BadServer | Cut | Interrupted | Local | Unreachable | Usage)
}

/// Reason why one try with one server failed.
#[derive(Debug)]
pub(super) enum UploadInterrupt {
    /// The connection is lost, silent or too slow.
    Lost(String),
    /// The server answered with an error. The connection is usable again only if `clean` is set.
    Refused { refusal: Refusal, clean: bool },
    /// The server broke the protocol.
    Violation(String),
    /// The failure is not about the server: the upload ends.
    Fatal(UploadError),
}

impl UploadInterrupt {
    pub(super) fn refused(refusal: Refusal, clean: bool) -> Self {
        if is_clients_own(refusal.code) {
            return Self::Violation(format!("a server does not answer {}", refusal.code));
        }
        Self::Refused { refusal, clean }
    }

    /// Reports an answer that is not allowed here.
    pub(super) fn unexpected(reply: &relais_proto::Reply) -> Self {
        Self::Violation(WireError::Unexpected(reply.frame_type().number()).to_string())
    }

    /// Wraps an error of reading the content.
    pub(super) fn source(error: io::Error) -> Self {
        let error = if error.kind() == io::ErrorKind::UnexpectedEof {
            UploadError::SourceChanged
        } else {
            UploadError::Source(error)
        };
        Self::Fatal(error)
    }
}

impl From<WireError> for UploadInterrupt {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Truncated => Self::Lost("the connection was closed".to_owned()),
            WireError::Io(e) => Self::Lost(e.to_string()),
            other => Self::Violation(other.to_string()),
        }
    }
}

impl From<DownloadError> for UploadInterrupt {
    fn from(error: DownloadError) -> Self {
        Self::Fatal(error.into())
    }
}

impl From<UploadError> for UploadInterrupt {
    fn from(error: UploadError) -> Self {
        Self::Fatal(error)
    }
}
