//! The head of a request: request line and header fields.

use crate::authority::is_authority;
use crate::headers::Headers;
use crate::limits;
use crate::method::Method;
use crate::request_error::RequestError;
use crate::status::Status;
use crate::target::Target;

/// The version of HTTP that a request has (RFC 9112, section 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// The head of a request (RFC 9112, section 2.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHead {
    /// What the client wants to do.
    pub method: Method,
    /// On what.
    pub target: Target,
    /// The version of the request.
    pub version: Version,
    /// The header fields.
    pub headers: Headers,
}

const LONG_HEAD: RequestError =
    RequestError::new(Status::HEADER_FIELDS_TOO_LARGE, "the head of the request is too long");
const BAD_SYNTAX: RequestError = RequestError::bad("the head of the request is malformed");
const BARE_LINE_END: RequestError = RequestError::bad("a line of the head does not end with CR LF");

impl RequestHead {
    /// Parses the head at the beginning of `input`; returns it with its length.
    ///
    /// It returns none as long as the head is incomplete and may become valid. One empty line
    /// before the head is skipped (RFC 9112, section 2.2). Each line must end with CR LF. Folded
    /// lines and spaces before a colon are rejected (RFC 9112, section 5), because intermediaries
    /// interpret them in different ways.
    ///
    /// # Errors
    /// The reason why it is no request; the connection must be closed after the answer.
    pub fn parse(input: &[u8]) -> Result<Option<(Self, usize)>, RequestError> {
        let skipped = if input.starts_with(b"\r\n") { 2 } else { 0 };
        let input = &input[skipped..];
        let Some(end) = find(input, b"\r\n\r\n") else {
            if input == b"\r" && skipped == 0 {
                // The empty line may come in pieces.
                return Ok(None);
            }
            return check_incomplete(input).map(|()| None);
        };
        let end = end + 4;
        check_incomplete(&input[..end.min(limits::HEAD + 1)])?;
        Self::parse_complete(&input[..end]).map(|head| Some((head, skipped + end)))
    }

    fn parse_complete(input: &[u8]) -> Result<Self, RequestError> {
        check_line_ends(input)?;
        let mut fields = [httparse::EMPTY_HEADER; limits::HEADERS];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(input) {
            Ok(httparse::Status::Complete(len)) if len == input.len() => {}
            Ok(_) => return Err(BAD_SYNTAX),
            Err(error) => return Err(explain(error, input)),
        }
        let (Some(method), Some(target), Some(version)) =
            (request.method, request.path, request.version)
        else {
            return Err(BAD_SYNTAX);
        };
        let version = if version == 0 { Version::Http10 } else { Version::Http11 };
        let mut headers = Headers::default();
        for field in request.headers.iter() {
            headers.append(field.name.to_owned(), decode_value(field.value));
        }
        let method = Method::new(method);
        let head = Self { target: Target::parse(&method, target)?, method, version, headers };
        head.check_host()?;
        Ok(head)
    }

    /// Checks that a request of HTTP/1.1 has one host, and none has two (RFC 9112, section 3.2).
    fn check_host(&self) -> Result<(), RequestError> {
        let mut hosts = self.headers.all("host");
        let host = hosts.next();
        if hosts.next().is_some() {
            return Err(RequestError::bad("the request has two Host fields"));
        }
        match host {
            None if self.version == Version::Http11 => {
                Err(RequestError::bad("the request has no Host field"))
            }
            Some(host) if !is_authority(host) => {
                Err(RequestError::bad("the Host field is malformed"))
            }
            _ => Ok(()),
        }
    }

    /// Returns the host, and the port if there is one, that the client has addressed.
    ///
    /// That of the target comes first (RFC 9112, section 3.2.2).
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.target.authority.as_deref().or_else(|| self.headers.get("host"))
    }

    /// Whether the client waits for `100 Continue` before it sends the body (RFC 9110, 10.1.1).
    ///
    /// # Errors
    /// Status 417 for another expectation.
    pub fn expects_continue(&self) -> Result<bool, RequestError> {
        let mut expects = false;
        for element in self.headers.list("expect") {
            if !element.eq_ignore_ascii_case("100-continue") {
                const UNKNOWN: &str = "the only known expectation is 100-continue";
                return Err(RequestError::new(Status::EXPECTATION_FAILED, UNKNOWN));
            }
            // A client of HTTP/1.0 does not know the interim answer.
            expects = self.version == Version::Http11;
        }
        Ok(expects)
    }

    /// Whether the client wants the connection to stay open (RFC 9112, section 9.3).
    #[must_use]
    pub fn keeps_alive(&self) -> bool {
        let has = |option: &str| {
            self.headers.list("connection").any(|element| element.eq_ignore_ascii_case(option))
        };
        !has("close") && (self.version == Version::Http11 || has("keep-alive"))
    }
}

/// Rejects an incomplete head that cannot become a valid one.
fn check_incomplete(input: &[u8]) -> Result<(), RequestError> {
    let line = input.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let begin = line.iter().take(64).position(|byte| *byte == b' ').map_or(0, |space| space + 1);
    // So that a peer of another protocol is answered at once, not after the login time.
    if input.first().is_some_and(|first| !first.is_ascii_alphabetic()) {
        return Err(BAD_SYNTAX);
    }
    let target = line[begin..].iter().position(|byte| *byte == b' ').unwrap_or(line.len() - begin);
    if target > limits::TARGET {
        return Err(RequestError::new(Status::URI_TOO_LONG, "the request target is too long"));
    }
    if input.len() > limits::HEAD {
        return Err(LONG_HEAD);
    }
    Ok(())
}

/// Checks that CR and LF come only together (RFC 9112, section 2.2).
fn check_line_ends(input: &[u8]) -> Result<(), RequestError> {
    let mut last = 0;
    for byte in input {
        if (last == b'\r') != (*byte == b'\n') {
            return Err(BARE_LINE_END);
        }
        last = *byte;
    }
    Ok(())
}

fn explain(error: httparse::Error, input: &[u8]) -> RequestError {
    match error {
        httparse::Error::TooManyHeaders => {
            const MANY: &str = "the request has too many header fields";
            RequestError::new(Status::HEADER_FIELDS_TOO_LARGE, MANY)
        }
        httparse::Error::Version if has_version(input) => RequestError::new(
            Status::VERSION_NOT_SUPPORTED,
            "this server speaks HTTP/1.1 and HTTP/1.0",
        ),
        httparse::Error::HeaderName => RequestError::bad("the name of a header field is malformed"),
        httparse::Error::HeaderValue => {
            RequestError::bad("the value of a header field has control characters")
        }
        _ => BAD_SYNTAX,
    }
}

/// Whether the request line has three words and a version (RFC 9112, section 2.3).
fn has_version(input: &[u8]) -> bool {
    let line = &input[..find(input, b"\r\n").unwrap_or(0)];
    let words: Vec<_> = line.split(|byte| *byte == b' ').take(4).collect();
    matches!(words[..], [_, _, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]]
        if major.is_ascii_digit() && minor.is_ascii_digit())
}

/// Takes a value as UTF-8, else as ISO-8859-1, its historical encoding (RFC 9110, section 5.5).
fn decode_value(value: &[u8]) -> String {
    let text = std::str::from_utf8(value).map(str::to_owned);
    let text = text.unwrap_or_else(|_| value.iter().map(|byte| char::from(*byte)).collect());
    text.trim_matches([' ', '\t']).to_owned()
}

fn find(input: &[u8], wanted: &[u8]) -> Option<usize> {
    input.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests;
