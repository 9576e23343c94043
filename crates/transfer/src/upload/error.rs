//! How an upload fails, and how one try with one server fails.
//!
//! [`UploadError`] is for callers. [`UploadInterrupt`] is for the loops, which decide from its kind whether to
//! ask again, to move on, to begin again or to give up.

use std::io;

use relais_proto::{Digest, ErrorCode, Refusal, WireError, system_error_text};
use thiserror::Error;

use crate::download::DownloadError;

/// Why an upload gave up. Nothing of it is visible at its path, unless the answer alone was lost.
#[derive(Debug, Error)]
pub enum UploadError {
    /// The user interrupted. A file can be resumed.
    #[error("interrupted")]
    Interrupted,
    /// No server could be reached, and none has anything of it.
    #[error("{0}")]
    Unreachable(String),
    /// A server refused, and another one would refuse as well.
    #[error("{0}")]
    Refused(Refusal),
    /// The connection was lost and no server could go on.
    #[error("the transfer was cut: {why}")]
    Cut {
        /// Bytes up to which the content went out last. A server may have less.
        sent: u64,
        /// Bytes of the whole content; none where that was not known. Such an upload cannot be resumed.
        size: Option<u64>,
        /// What happened last.
        why: String,
    },
    /// The local file was changed while it was read. What was sent of it is worth nothing.
    #[error("the local file was changed while it was sent")]
    SourceChanged,
    /// The local file, or standard input, could not be read.
    #[error("{}", system_error_text(.0))]
    UploadSource(io::Error),
    /// Servers broke the protocol, again and again.
    #[error("the server broke the protocol: {0}")]
    BadServer(String),
    /// An earlier call has put something under this id, and that is not, or not any more, what is to be put. A new id is needed.
    #[error("an earlier put under this id is not at its path any more")]
    Superseded,
    /// The server acknowledges other content than was sent.
    #[error(
        "the server has stored other content than was sent: digest {stored} in place of {sent}"
    )]
    OtherContent {
        /// Digest of what the server says that it has stored.
        stored: Digest,
        /// Digest of what was sent.
        sent: Digest,
    },
}

impl UploadError {
    /// The code of the closed list of errors.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Interrupted => ErrorCode::Interrupted,
            Self::Unreachable(_) => ErrorCode::Unreachable,
            Self::Refused(refusal) => refusal.code,
            Self::Cut { .. } => ErrorCode::Cut,
            Self::SourceChanged | Self::UploadSource(_) => ErrorCode::Local,
            Self::BadServer(_) => ErrorCode::BadServer,
            Self::Superseded => ErrorCode::Conflict,
            Self::OtherContent { .. } => ErrorCode::Damaged,
        }
    }

    /// Whether a later upload of the same file with the same id may go on where this one ended. It is
    /// never so for content of unknown length, whatever this says of an interruption.
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
            | Self::UploadSource(_)
            | Self::Superseded
            | Self::OtherContent { .. } => false,
        }
    }
}

/// What sessions answer where they have no connection.
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

/// Whether a refusal says something about the server's state now or the login, so that another one, or a new login, may take the upload.
pub(super) fn is_passing(code: ErrorCode) -> bool {
    use ErrorCode::{BadTicket, Busy, Draining, NoSlave, Storage, TimedOut};
    matches!(code, BadTicket | Draining | TimedOut | Storage | Busy | NoSlave)
}

/// Whether a server that keeps to the protocol never says this.
fn is_clients_own(code: ErrorCode) -> bool {
    use ErrorCode::{BadServer, Cut, Interrupted, Local, Unreachable, Usage};
    matches!(code, BadServer | Cut | Interrupted | Local | Unreachable | Usage)
}

/// Why one try with one server did not end well.
#[derive(Debug)]
pub(super) enum UploadInterrupt {
    /// The connection is gone, silent or too slow.
    Lost(String),
    /// The server answered with an error. Only where it is clean can the connection carry another request.
    Refused { refusal: Refusal, clean: bool },
    /// The server broke the protocol.
    Violation(String),
    /// Nothing to do with the server: the upload ends.
    Fatal(UploadError),
}

impl UploadInterrupt {
    pub(super) fn refused(refusal: Refusal, clean: bool) -> Self {
        if is_clients_own(refusal.code) {
            return Self::Violation(format!("a server does not answer {}", refusal.code));
        }
        Self::Refused { refusal, clean }
    }

    /// An answer that has no place here.
    pub(super) fn unexpected(reply: &relais_proto::Reply) -> Self {
        Self::Violation(WireError::Unexpected(reply.frame_type().number()).to_string())
    }

    /// Content could not be read.
    pub(super) fn source(error: io::Error) -> Self {
        let error = if error.kind() == io::ErrorKind::UnexpectedEof {
            UploadError::SourceChanged
        } else {
            UploadError::UploadSource(error)
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
