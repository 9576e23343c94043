//! The reason why a request is rejected before it is looked at further.

use thiserror::Error;

use crate::status::Status;

/// A request that breaks a rule, with the status of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{text}")]
pub struct RequestError {
    /// The status of the answer.
    pub status: Status,
    /// What is wrong, for people.
    pub text: &'static str,
}

impl RequestError {
    /// Makes an error with a status and a text.
    #[must_use]
    pub const fn new(status: Status, text: &'static str) -> Self {
        Self { status, text }
    }

    /// Makes an error with status 400 (RFC 9110, section 15.5.1).
    #[must_use]
    pub const fn bad(text: &'static str) -> Self {
        Self::new(Status::BAD_REQUEST, text)
    }
}
