//! Errors of a pipeline, and of one connection within it.
//!
//! [`PipelineError`] is for callers. [`PipelineInterrupt`] is for the loop in `retry_loop.rs`,
//! whose decision depends on the kind.

use std::error::Error as StdError;

use relais_proto::{Endpoint, ErrorCode, Refusal, WireError};
use thiserror::Error;

use crate::download::DownloadError;

/// Reason why a pipeline failed.
///
/// An unanswered request may have been executed or not. A change can be requested again with its
/// id.
#[derive(Debug, Error)]
pub enum PipelineError {
    /// The user has interrupted.
    #[error("interrupted")]
    Interrupted,
    /// No server could be reached, or each was lost again without an answer.
    #[error("{0}")]
    Unreachable(String),
    /// A login was refused, or each server is behind what the client has seen.
    #[error("{0}")]
    Refused(Refusal),
    /// Servers broke the protocol repeatedly.
    #[error("the server broke the protocol: {0}")]
    BadServer(String),
    /// The caller stopped the pipeline.
    #[error("{0}")]
    Stopped(Box<dyn StdError + Send + Sync>),
}

impl PipelineError {
    /// Wraps the caller's own reason to stop.
    pub fn stopped(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Stopped(error.into())
    }

    /// Returns the error code; `None` for [`Self::Stopped`], whose error the caller knows.
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

/// Reason why a connection is not used any further.
#[derive(Debug)]
pub(super) enum PipelineInterrupt {
    /// The connection is lost, silent or too slow, or the server announces its end.
    Lost(String),
    /// The server broke the protocol.
    Violation(String),
    /// The server works, but another one may give a better answer.
    Elsewhere(String),
    /// The server accepts no changes now. Another one is asked; this one is not at fault.
    NoChanges(String),
    /// The server has no space for the upload. Another one is asked.
    Full(String),
    /// The server is behind what the client has seen.
    Behind(Refusal),
    /// The server does not have some contents yet, but these do.
    Lacking(Vec<Endpoint>),
    /// The failure is not about the server: the pipeline ends.
    Fatal(PipelineError),
}

impl PipelineInterrupt {
    /// Reports an answer that the protocol does not allow here.
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
    /// Reports that the server closed the connection.
    pub(super) fn closed() -> Self {
        Self::Lost("the connection was closed".to_owned())
    }
}

impl From<PipelineError> for PipelineInterrupt {
    fn from(error: PipelineError) -> Self {
        Self::Fatal(error)
    }
}
