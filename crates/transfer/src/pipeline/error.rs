//! How a conversation fails, and how one connection of it ends.
//!
//! [`PipelineError`] is for callers. [`PipelineInterrupt`] is for the loop in `retry_loop.rs`, which decides from its
//! kind whether to ask again elsewhere or to give up.

use std::error::Error as StdError;

use relais_proto::{Endpoint, ErrorCode, Refusal, WireError};
use thiserror::Error;

use crate::download::DownloadError;

/// Why a conversation gave up. What was not answered by then may have been done or not; a change
/// can be asked for again with its id.
#[derive(Debug, Error)]
pub enum PipelineError {
    /// The user interrupted.
    #[error("interrupted")]
    Interrupted,
    /// No server could be reached, or each one was lost again without an answer.
    #[error("{0}")]
    Unreachable(String),
    /// A login was refused, or each server lacks what was seen before.
    #[error("{0}")]
    Refused(Refusal),
    /// Servers broke the protocol, again and again.
    #[error("the server broke the protocol: {0}")]
    BadServer(String),
    /// The caller ended it.
    #[error("{0}")]
    Stopped(Box<dyn StdError + Send + Sync>),
}

impl PipelineError {
    /// The caller's own reason to end.
    pub fn stopped(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Stopped(error.into())
    }

    /// The code of the closed list of errors; none for [`Self::Stopped`], whose error the caller knows.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Interrupted => Some(ErrorCode::Interrupted),
            Self::Unreachable(_) => Some(ErrorCode::Unreachable),
            Self::Refused(refusal) => Some(refusal.code),
            Self::BadServer(_) => Some(ErrorCode::BadServer),
            Self::Stopped(_) => None,
        }
    }
}

impl From<DownloadError> for PipelineError {
    fn from(error: DownloadError) -> Self {
        match error {
            DownloadError::Interrupted => Self::Interrupted,
            DownloadError::Refused(refusal) => Self::Refused(refusal),
            DownloadError::BadServer(error) => Self::BadServer(error.to_string()),
            other => Self::Unreachable(other.to_string()),
        }
    }
}

/// Why a connection is not used any further.
#[derive(Debug)]
pub(super) enum PipelineInterrupt {
    /// It is gone, silent or too slow, or the server says that it goes.
    Lost(String),
    /// The server broke the protocol.
    Violation(String),
    /// Nothing is wrong with it, but another server may give a better answer.
    Elsewhere(String),
    /// It can make no changes now: another one is asked, and nothing is held against it.
    Aside(String),
    /// It has no room for what is to be put: another one is asked.
    Full(String),
    /// It lacks what was seen before, and says so.
    Behind(Refusal),
    /// It does not have some of the content yet, and these have it.
    Lacking(Vec<Endpoint>),
    /// Nothing to do with the server: everything ends.
    Fatal(PipelineError),
}

impl PipelineInterrupt {
    /// An answer that the protocol does not allow here.
    pub(super) fn bad_value(what: &'static str, value: u64) -> Self {
        WireError::BadValue { what, value }.into()
    }
}

impl From<WireError> for PipelineInterrupt {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Truncated => Self::closed(),
            WireError::Io(e) => Self::Lost(e.to_string()),
            other => Self::Violation(other.to_string()),
        }
    }
}

impl PipelineInterrupt {
    /// The server closed the connection.
    pub(super) fn closed() -> Self {
        Self::Lost("the connection was closed".to_owned())
    }
}

impl From<PipelineError> for PipelineInterrupt {
    fn from(error: PipelineError) -> Self {
        Self::Fatal(error)
    }
}
