//! Why a WebDAV request fails, and the answer that says so.

use relais_dav::{DavError, error_body};
use relais_http::RequestHead;
use relais_proto::Refusal;

use crate::front::http::answer::Answer;
use crate::front::http::error::HttpError;

/// Media type of the bodies of WebDAV.
pub const XML: &str = "application/xml; charset=utf-8";

/// Why a request fails.
#[derive(Debug)]
pub enum DavFailure {
    /// The engine refuses it.
    Refused(Refusal),
    /// It breaks a rule of WebDAV. The URLs are those that a condition is about.
    Dav(DavError, Vec<String>),
}

impl From<Refusal> for DavFailure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<DavError> for DavFailure {
    fn from(error: DavError) -> Self {
        Self::Dav(error, Vec::new())
    }
}

impl DavFailure {
    /// Returns the answer to a request with this head.
    pub fn into_error(self, head: &RequestHead) -> HttpError {
        let (error, urls) = match self {
            Self::Refused(refusal) => return refusal.into(),
            Self::Dav(error, urls) => (error, urls),
        };
        let Some(condition) = error.condition else {
            return Answer::error(head, error.status, &error.text).into();
        };
        let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
        Answer::with_body(error.status, XML, error_body(condition, &urls).into_bytes()).into()
    }
}
