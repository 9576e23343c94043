//! How the end of a request's body is found: the rules against request smuggling.

use crate::head::{RequestHead, Version};
use crate::request_error::RequestError;
use crate::status::Status;

/// How the body of a request is delimited (RFC 9112, section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// There is none.
    Empty,
    /// It has this many bytes, and at least one.
    Sized(u64),
    /// It is sent in chunks, and its end is marked.
    Chunked,
}

impl RequestHead {
    /// Returns how the body is delimited.
    ///
    /// Requests are rejected if another server could see another end: with both `Content-Length`
    /// and `Transfer-Encoding`, with two of one of them even if they are equal, with
    /// `Transfer-Encoding` in HTTP/1.0, or with a length that is not only digits.
    ///
    /// # Errors
    /// Status 400, or 501 for a transfer coding other than chunked. The connection must be closed
    /// after the answer.
    pub fn body(&self) -> Result<BodyLength, RequestError> {
        let coding = single(self, "transfer-encoding", "Transfer-Encoding comes twice")?;
        let length = single(self, "content-length", "Content-Length comes twice")?;
        match (coding, length) {
            (None, None) => Ok(BodyLength::Empty),
            (None, Some(length)) => parse_length(length),
            (Some(_), Some(_)) => {
                Err(RequestError::bad("Content-Length and Transfer-Encoding come together"))
            }
            (Some(_), None) if self.version == Version::Http10 => {
                Err(RequestError::bad("HTTP/1.0 has no Transfer-Encoding"))
            }
            (Some(coding), None) if coding.eq_ignore_ascii_case("chunked") => {
                Ok(BodyLength::Chunked)
            }
            (Some(_), None) => Err(RequestError::new(
                Status::NOT_IMPLEMENTED,
                "the only known transfer coding is chunked",
            )),
        }
    }
}

fn single<'a>(
    head: &'a RequestHead,
    name: &'a str,
    twice: &'static str,
) -> Result<Option<&'a str>, RequestError> {
    let mut values = head.headers.all(name);
    let value = values.next();
    if values.next().is_some() { Err(RequestError::bad(twice)) } else { Ok(value) }
}

/// Parses digits; `u64::from_str` would take a sign as well.
fn parse_length(text: &str) -> Result<BodyLength, RequestError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(0) if digits => Ok(BodyLength::Empty),
        Ok(length) if digits => Ok(BodyLength::Sized(length)),
        _ => Err(RequestError::bad("Content-Length is no number of bytes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ambiguous_lengths_are_rejected() {
        for (version, fields, expected) in [
            ("1.1", "", Ok(BodyLength::Empty)),
            ("1.1", "Content-Length: 0\r\n", Ok(BodyLength::Empty)),
            ("1.1", "Content-Length: 5\r\n", Ok(BodyLength::Sized(5))),
            ("1.0", "Content-Length: 005\r\n", Ok(BodyLength::Sized(5))),
            ("1.1", "Content-Length: 18446744073709551615\r\n", Ok(BodyLength::Sized(u64::MAX))),
            ("1.1", "Content-Length: 18446744073709551616\r\n", Err(400)),
            ("1.1", "Content-Length:\r\n", Err(400)),
            ("1.1", "Content-Length: +5\r\n", Err(400)),
            ("1.1", "Content-Length: -5\r\n", Err(400)),
            ("1.1", "Content-Length: 0x5\r\n", Err(400)),
            ("1.1", "Content-Length: 5 5\r\n", Err(400)),
            ("1.1", "Content-Length: 5, 5\r\n", Err(400)),
            ("1.1", "Content-Length: 5\r\nContent-Length: 5\r\n", Err(400)),
            ("1.1", "Content-Length: 5\r\ncontent-length: 6\r\n", Err(400)),
            ("1.1", "Transfer-Encoding: chunked\r\n", Ok(BodyLength::Chunked)),
            ("1.1", "transfer-encoding: CHUNKED\r\n", Ok(BodyLength::Chunked)),
            ("1.0", "Transfer-Encoding: chunked\r\n", Err(400)),
            ("1.1", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Err(400)),
            ("1.1", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Err(400)),
            ("1.1", "Transfer-Encoding: identity\r\nContent-Length: 5\r\n", Err(400)),
            ("1.1", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(400)),
            ("1.1", "Transfer-Encoding: gzip, chunked\r\n", Err(501)),
            ("1.1", "Transfer-Encoding: chunked, identity\r\n", Err(501)),
            ("1.1", "Transfer-Encoding: xchunked\r\n", Err(501)),
            ("1.1", "Transfer-Encoding: \"chunked\"\r\n", Err(501)),
            ("1.1", "Transfer-Encoding: chunked;q=1\r\n", Err(501)),
            ("1.1", "Transfer-Encoding: identity\r\n", Err(501)),
            ("1.1", "Transfer-Encoding:\r\n", Err(501)),
        ] {
            let text = format!("PUT /a HTTP/{version}\r\nHost: a\r\n{fields}\r\n");
            let (head, _) = RequestHead::parse(text.as_bytes()).unwrap().unwrap();
            let body = head.body().map_err(|error| error.status.code());
            assert_eq!(body, expected, "{text}");
        }
    }

    #[test]
    fn lookalikes_of_the_fields_are_rejected_with_the_head() {
        for field in [
            "Transfer-Encoding : chunked",
            "Transfer-Encoding\t: chunked",
            "Transfer-Encoding:\u{b}chunked",
            " Transfer-Encoding: chunked",
            "Transfer-Encoding: x\r\n chunked",
            "Content-Length: 5\r\n\t6",
            "Content-Length\0: 5",
            "Content-Length: 5\n",
        ] {
            let text = format!("PUT /a HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n");
            assert!(RequestHead::parse(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
