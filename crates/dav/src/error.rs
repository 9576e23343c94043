//! Why a request is refused, with the precondition that it violates.

use std::borrow::Cow;

use relais_http::Status;
use thiserror::Error;

/// A precondition or postcondition that an error body names (RFC 4918, section 16).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// The lock token belongs to no lock on the resource.
    LockTokenMatchesRequestUri,
    /// A token of a lock has to be submitted.
    LockTokenSubmitted,
    /// Another lock excludes the requested one.
    NoConflictingLock,
    /// PROPFIND with infinite depth is not answered.
    PropfindFiniteDepth,
    /// The server computes the property.
    CannotModifyProtectedProperty,
    /// The body refers to an external entity.
    NoExternalEntities,
    /// The disk has too little space (RFC 4331, section 6).
    SufficientDiskSpace,
}

impl Condition {
    /// Returns the name of the element.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LockTokenMatchesRequestUri => "lock-token-matches-request-uri",
            Self::LockTokenSubmitted => "lock-token-submitted",
            Self::NoConflictingLock => "no-conflicting-lock",
            Self::PropfindFiniteDepth => "propfind-finite-depth",
            Self::CannotModifyProtectedProperty => "cannot-modify-protected-property",
            Self::NoExternalEntities => "no-external-entities",
            Self::SufficientDiskSpace => "sufficient-disk-space",
        }
    }
}

/// The reason why a request is not carried out, with its HTTP status.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text}")]
pub struct DavError {
    /// The status.
    pub status: Status,
    /// The violated condition, if RFC 4918 has a name for it.
    pub condition: Option<Condition>,
    /// One sentence about the reason.
    pub text: Cow<'static, str>,
}

impl DavError {
    /// Makes an error without a condition.
    pub fn new(status: Status, text: impl Into<Cow<'static, str>>) -> Self {
        Self { status, condition: None, text: text.into() }
    }

    /// Makes an error that names a condition.
    pub fn with_condition(
        status: Status,
        condition: Condition,
        text: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { status, condition: Some(condition), text: text.into() }
    }

    /// 400: the header or body does not follow its grammar.
    pub(crate) fn syntax(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Status::BAD_REQUEST, text)
    }

    /// 413: the body or a part of it exceeds a cap.
    pub(crate) fn too_large(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Status::CONTENT_TOO_LARGE, text)
    }
}
