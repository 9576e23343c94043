//! What is added to the head of an answer: its date, its length and the end of the connection.

use std::time::SystemTime;

use relais_http::{InvalidHeader, Method, RequestHead, Response, Version, date};

/// How a request wants to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerRules {
    /// Whether it is a HEAD request, whose answer has no content (RFC 9110, section 9.3.2).
    pub is_head: bool,
    /// The version of the request.
    pub version: Version,
    /// Whether the connection may be kept.
    pub keep: bool,
}

/// How the end of the content is found (RFC 9112, section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Sized(u64),
    Chunked,
    /// By the end of the connection.
    UntilClose,
}

impl AnswerRules {
    /// Returns the rules for the answer to a request.
    #[must_use]
    pub fn of(head: &RequestHead) -> Self {
        let is_head = head.method == Method::Head;
        Self { is_head, version: head.version, keep: head.keeps_alive() }
    }

    /// Returns the rules for an answer to a request that could not be parsed.
    #[must_use]
    pub fn closing() -> Self {
        Self { is_head: false, version: Version::Http11, keep: false }
    }

    /// Returns how content of a length is framed; none means that it is not known.
    pub(crate) fn framing(self, length: Option<u64>) -> Framing {
        match (length, self.version) {
            (Some(length), _) => Framing::Sized(length),
            (None, Version::Http11) => Framing::Chunked,
            (None, Version::Http10) => Framing::UntilClose,
        }
    }
}

/// Returns the bytes of a whole answer with `body`, for example for the pool before the login.
///
/// # Errors
/// A header field is malformed.
pub fn encode_answer(
    response: &Response,
    body: &[u8],
    rules: AnswerRules,
) -> Result<Vec<u8>, InvalidHeader> {
    let mut bytes = encode_head(response, Framing::Sized(body.len() as u64), rules)?;
    if !rules.is_head && !response.status.is_without_content() {
        bytes.extend_from_slice(body);
    }
    Ok(bytes)
}

/// Returns the head of an answer whose content ends with the connection.
///
/// # Errors
/// A header field is malformed.
pub fn encode_stream(response: &Response) -> Result<Vec<u8>, InvalidHeader> {
    encode_head(response, Framing::UntilClose, AnswerRules::closing())
}

/// Returns the head of an answer with the fields that belong to the connection.
pub(crate) fn encode_head(
    response: &Response,
    framing: Framing,
    rules: AnswerRules,
) -> Result<Vec<u8>, InvalidHeader> {
    let mut bytes = response.encode()?;
    // The last line is empty.
    bytes.truncate(bytes.len() - 2);
    let mut add = |name: &str, value: &str| {
        for part in [name, ": ", value, "\r\n"] {
            bytes.extend_from_slice(part.as_bytes());
        }
    };
    if !response.headers.has("date") {
        add("Date", &date::format(SystemTime::now()));
    }
    if !response.status.is_without_content() {
        match framing {
            Framing::Sized(length) => add("Content-Length", &length.to_string()),
            Framing::Chunked => add("Transfer-Encoding", "chunked"),
            Framing::UntilClose => {}
        }
    }
    if !response.headers.has("connection") {
        match (rules.keep, rules.version) {
            (false, _) => add("Connection", "close"),
            (true, Version::Http10) => add("Connection", "keep-alive"),
            (true, Version::Http11) => {}
        }
    }
    bytes.extend_from_slice(b"\r\n");
    Ok(bytes)
}
