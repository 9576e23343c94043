//! Errors of transfers: of a whole transfer, and of one try at one server.
//!
//! [`TransferError`] is for callers. [`Fault`] is for the loops, which give it to the failover
//! policy.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use relais_proto::{Digest, Endpoint, ErrorCode, Refusal, Reply, WireError, system_error_text};
use thiserror::Error;

use crate::action::{Action, Purpose, action};

/// Reason why a transfer failed.
#[derive(Debug, Error)]
pub enum TransferError {
    /// The user has interrupted.
    #[error("interrupted")]
    Interrupted,
    /// No server could be reached, or each that was tried has failed.
    #[error("{0}")]
    Unreachable(String),
    /// A server refused, and any other would refuse too.
    #[error("{0}")]
    Refused(Refusal),
    /// Servers broke the protocol repeatedly.
    #[error("the server broke the protocol: {0}")]
    BadServer(String),
    /// A local file could not be used.
    #[error("{what}: {}", system_error_text(error))]
    Local {
        /// Failed operation.
        what: &'static str,
        /// Error of the system.
        error: io::Error,
    },
    /// The local file changed while it was read. The sent bytes are worthless.
    #[error("the local file was changed while it was sent")]
    SourceChanged,
    /// An earlier upload stored other content under this id, or its content is gone.
    ///
    /// A new id is necessary.
    #[error("an earlier put under this id is not at its path any more")]
    Superseded,
    /// The caller stopped the transfer.
    #[error("{0}")]
    Stopped(Box<dyn StdError + Send + Sync>),
}

impl TransferError {
    /// Wraps the caller's own reason to stop.
    pub fn stopped(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Stopped(error.into())
    }

    /// Returns the error code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Interrupted => ErrorCode::Interrupted,
            Self::Unreachable(_) => ErrorCode::Unreachable,
            Self::Refused(refusal) => refusal.code,
            Self::BadServer(_) => ErrorCode::BadServer,
            Self::Local { .. } | Self::SourceChanged | Self::Stopped(_) => ErrorCode::Local,
            Self::Superseded => ErrorCode::Conflict,
        }
    }

    /// Returns whether a later download can resume the part file.
    ///
    /// It can, unless the server no longer has such a file.
    #[must_use]
    pub fn can_resume_download(&self) -> bool {
        use ErrorCode::{BadName, IsFolder, NotFolder, NotFound, NotServed};
        !matches!(self.code(), NotFound | IsFolder | NotFolder | NotServed | BadName)
    }

    /// Returns whether a later upload of the same file and id can resume.
    #[must_use]
    pub fn can_resume_upload(&self) -> bool {
        match self {
            Self::Interrupted | Self::Unreachable(_) | Self::BadServer(_) => true,
            Self::Refused(refusal) => {
                refusal.code == ErrorCode::LoginRefused
                    || !matches!(
                        action(refusal.code, Purpose::Change),
                        Action::Stop | Action::Restart | Action::FindSpace
                    )
            }
            Self::Local { .. } | Self::SourceChanged | Self::Superseded | Self::Stopped(_) => false,
        }
    }

    /// Wraps a local error of the operation `what`.
    pub(crate) fn local(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Local { what, error }
    }

    /// Wraps an error of reading the content of an upload.
    pub(crate) fn reading(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            Self::SourceChanged
        } else {
            Self::Local { what: "reading", error }
        }
    }

    pub(crate) fn refused(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::Refused(Refusal::new(code, message))
    }
}

/// Reports that a server has acknowledged other content than was sent.
pub(crate) fn other_content(stored: Digest, sent: Digest) -> Refusal {
    let why = format!(
        "the server has stored other content than was sent: digest {stored} in place of {sent}"
    );
    Refusal::new(ErrorCode::Damaged, why)
}

impl From<Fault> for TransferError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Lost(why) => Self::Unreachable(why),
            Fault::Violation(why) => Self::BadServer(why),
            Fault::Refused(refusal) => Self::Refused(refusal),
            Fault::Elsewhere(_) => Self::refused(
                ErrorCode::NoContent,
                "no server that can be reached has the content now",
            ),
            Fault::Fatal(error) => error,
        }
    }
}

/// Reason why one try at one server failed.
#[derive(Debug)]
pub enum Fault {
    /// The server cannot be reached, or the connection is closed, silent or too slow.
    Lost(String),
    /// The server broke the protocol.
    Violation(String),
    /// The server answered with an error.
    Refused(Refusal),
    /// The server does not have the content yet; these have it.
    Elsewhere(Vec<Endpoint>),
    /// The failure is not about the server.
    Fatal(TransferError),
}

impl Fault {
    /// Reports an answer that is not allowed here.
    #[must_use]
    pub fn unexpected(reply: &Reply) -> Self {
        WireError::Unexpected(reply.frame_type().number()).into()
    }

    /// Reports that the server closed the connection.
    #[must_use]
    pub fn closed() -> Self {
        WireError::Truncated.into()
    }

    /// Reports a field whose value does not fit the request.
    pub(crate) fn bad_value(what: &'static str, value: u64) -> Self {
        WireError::BadValue { what, value }.into()
    }

    /// Returns whether the fault is an answer, after which the connection is usable.
    pub(crate) fn is_answer(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Elsewhere(_))
    }

    /// Makes the fault of a refusal. Codes that a correct server never sends are violations.
    #[must_use]
    pub fn refused(refusal: Refusal) -> Self {
        use ErrorCode::{
            BadRequest, BadServer, Cut, Interrupted, Local, NotTrusted, Unreachable, Usage,
        };
        match refusal.code {
            // This program sends well-formed requests only.
            BadRequest => {
                Self::Violation(format!("it rejects a valid request: {}", refusal.message))
            }
            BadServer | Cut | Interrupted | Local | NotTrusted | Unreachable | Usage => {
                Self::Violation(format!("a server does not answer {}", refusal.code))
            }
            _ => Self::Refused(refusal),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(why) | Self::Violation(why) => f.write_str(why),
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Elsewhere(holders) => {
                write!(f, "it does not have the content; {} others have it", holders.len())
            }
            Self::Fatal(error) => error.fmt(f),
        }
    }
}

impl From<WireError> for Fault {
    fn from(error: WireError) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        match error {
            WireError::Truncated => Self::Lost("connection closed".to_owned()),
            WireError::Io(e) => Self::Lost(match e.kind() {
                BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof => {
                    "connection closed".to_owned()
                }
                _ => system_error_text(&e),
            }),
            other => Self::Violation(other.to_string()),
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        WireError::Io(error).into()
    }
}

impl From<TransferError> for Fault {
    fn from(error: TransferError) -> Self {
        Self::Fatal(error)
    }
}
