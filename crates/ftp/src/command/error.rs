//! Why a line is not executed.

use std::borrow::Cow;

use thiserror::Error;

use crate::command::model::Command;
use crate::reply::Reply;

/// What the parser of an argument returns.
pub(super) type Parsed = Result<Command, ParseError>;

/// The reason why a line is not executed, with its reply.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{code} {text}")]
pub struct ParseError {
    code: u16,
    text: Cow<'static, str>,
}

impl ParseError {
    pub(super) fn new(code: u16, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, text: text.into() }
    }

    /// 501: the argument is missing or has another form.
    pub(super) fn syntax() -> Self {
        Self::new(501, "The argument is missing or has another form.")
    }

    /// 504: the argument has the right form, and is not offered.
    pub(super) fn parameter(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(504, text)
    }

    /// Returns the code: 500 unknown, 501 syntax, 502 not offered, 504 parameter (RFC 959, 4.2.1);
    /// 522 network protocol (RFC 2428), 536 protection level (RFC 2228).
    #[must_use]
    pub fn code(&self) -> u16 {
        self.code
    }

    /// Returns the reply.
    #[must_use]
    pub fn reply(&self) -> Reply {
        Reply::new(self.code, self.text.clone())
    }
}
