//! The failure of a command, and the exit status that follows from it.
//!
//! Every error becomes a code of the protocol's closed list and a message for the user. Nothing
//! here prints.

use std::io;
use std::path::Path;

use crate::as_text;
use crate::sanitize::sanitize;
use relais_proto::{ErrorCode, NameError, Refusal};
use relais_transfer::{Fault, TransferError};
use serde::Serialize;
use thiserror::Error;

/// A failed command: the code decides what follows, the message explains it.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize)]
#[error("{message}")]
pub struct Failure {
    /// Error code, also the one in JSON.
    #[serde(serialize_with = "as_text::serialize")]
    pub code: ErrorCode,
    /// Message for the user. It may hold text from the server, so it is sanitized before it is
    /// shown.
    pub message: String,
}

/// A result whose error is a failure, unless another one is named.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// Builds a failure from the name of its code and the arguments of `format!`.
macro_rules! failure {
    ($code:ident, $($message:tt)+) => {
        $crate::Failure::new(relais_proto::ErrorCode::$code, format!($($message)+))
    };
}

/// Returns with a failure; the arguments are those of `failure!`.
macro_rules! fail {
    ($($arguments:tt)+) => {
        return Err(failure!($($arguments)+))
    };
}

impl Failure {
    /// Creates a failure from its code and message.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The failure for an interruption by the user.
    pub fn interrupted() -> Self {
        Self::new(ErrorCode::Interrupted, "interrupted")
    }

    /// The failure for a local file or folder that cannot be used.
    pub fn local(path: &Path, error: &io::Error) -> Self {
        Self::new(ErrorCode::Local, format!("{}: {}", path.display(), plain(error)))
    }

    /// Prefixes the message with `context` and a colon.
    pub fn of(mut self, context: &str) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// Adds what the user can do, or another consequence.
    pub(crate) fn and(mut self, more: &str) -> Self {
        self.message = format!("{}; {more}", self.message);
        self
    }

    /// Returns the exit status of the program if this is the first failure.
    pub fn status(&self) -> u8 {
        match self.code {
            ErrorCode::Usage => 2,
            ErrorCode::Unreachable | ErrorCode::NoSlave | ErrorCode::Busy => 3,
            ErrorCode::LoginNeeded
            | ErrorCode::LoginRefused
            | ErrorCode::BadTicket
            | ErrorCode::TlsNeeded
            | ErrorCode::NotTrusted => 4,
            ErrorCode::Cut | ErrorCode::Damaged | ErrorCode::NoContent => 5,
            ErrorCode::Interrupted => 130,
            _ => 1,
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        // The message of a server becomes one line.
        Self::new(refusal.code, sanitize(&refusal.message).into_owned())
    }
}

impl From<TransferError> for Failure {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Interrupted => Self::interrupted(),
            TransferError::Refused(refusal) => refusal.into(),
            TransferError::Stopped(error) => match error.downcast::<Self>() {
                Ok(failure) => *failure,
                Err(other) => Self::new(ErrorCode::Local, other.to_string()),
            },
            other => Self::new(other.code(), other.to_string()),
        }
    }
}

impl From<Failure> for TransferError {
    fn from(failure: Failure) -> Self {
        Self::stopped(failure)
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        TransferError::from(failure).into()
    }
}

impl From<NameError> for Failure {
    fn from(error: NameError) -> Self {
        Self::new(ErrorCode::BadName, error.to_string())
    }
}

/// Returns the system's text for an error, without the number that Rust appends.
pub fn plain(error: &io::Error) -> String {
    relais_proto::system_error_text(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_decide_the_status() {
        for (code, status) in [
            (ErrorCode::NotFound, 1),
            (ErrorCode::Local, 1),
            (ErrorCode::BadServer, 1),
            (ErrorCode::Exists, 1),
            (ErrorCode::NotEmpty, 1),
            (ErrorCode::NoSpace, 1),
            (ErrorCode::NoChanges, 1),
            (ErrorCode::TooFewCopies, 1),
            (ErrorCode::Behind, 1),
            (ErrorCode::NoContent, 5),
            (ErrorCode::Usage, 2),
            (ErrorCode::Unreachable, 3),
            (ErrorCode::NoSlave, 3),
            (ErrorCode::LoginRefused, 4),
            (ErrorCode::LoginNeeded, 4),
            (ErrorCode::Cut, 5),
            (ErrorCode::Interrupted, 130),
        ] {
            assert_eq!(Failure::new(code, "").status(), status, "{code}");
        }
    }
}
