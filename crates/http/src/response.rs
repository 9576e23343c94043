//! The head of an answer.

use std::borrow::Cow;

use thiserror::Error;

use crate::headers::Headers;
use crate::status::Status;

/// The head of an answer (RFC 9112, section 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: Status,
    /// The header fields.
    pub headers: Headers,
}

/// A header field of an answer that would break its syntax.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the header field {0:?} of an answer is malformed")]
pub struct InvalidHeader(pub String);

impl Response {
    /// Makes a head without header fields.
    #[must_use]
    pub fn new(status: Status) -> Self {
        Self { status, headers: Headers::default() }
    }

    /// Sets a header field, in place of all with this name.
    #[must_use]
    pub fn with(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Returns the bytes of the head, in the version HTTP/1.1 (RFC 9110, section 6.2).
    ///
    /// # Errors
    /// A name is no token, or a value has control characters such as a line end, which would let
    /// its source add fields of its own (RFC 9110, section 5.5).
    pub fn encode(&self) -> Result<Vec<u8>, InvalidHeader> {
        let mut bytes = format!("HTTP/1.1 {}\r\n", self.status).into_bytes();
        for (name, value) in self.headers.iter() {
            if !is_token(name) || value.chars().any(|c| c.is_ascii_control() && c != '\t') {
                return Err(InvalidHeader(name.to_owned()));
            }
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        Ok(bytes)
    }
}

/// Whether a text is a token (RFC 9110, section 5.6.2).
fn is_token(text: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_encoded() {
        let head = Response::new(Status::OK).with("A", "b").with("Content-Length", 5.to_string());
        let bytes = head.with("a", "c").encode().unwrap();
        assert_eq!(bytes, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\na: c\r\n\r\n");
    }

    #[test]
    fn fields_cannot_be_injected() {
        for (name, value) in [
            ("X", "a\r\nSet-Cookie: b"),
            ("X", "a\nb"),
            ("X", "a\rb"),
            ("X", "a\0"),
            ("X\r\nY", "a"),
            ("X Y", "a"),
            ("X:", "a"),
            ("", "a"),
        ] {
            let error = Response::new(Status::OK).with(name, value).encode().unwrap_err();
            assert_eq!(error, InvalidHeader(name.to_owned()), "{value:?}");
        }
    }
}
