//! Several ranges of a representation in one answer.

use std::ops::Range;

use crate::range::content_range;

/// The heads of the parts of a `multipart/byteranges` body (RFC 9110, section 14.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Multipart {
    boundary: String,
    parts: Vec<(Vec<u8>, Range<u64>)>,
    end: Vec<u8>,
}

impl Multipart {
    /// Makes the heads for `ranges` of a representation with a type and a size.
    ///
    /// `boundary` must not be in the content: the caller passes random letters and digits.
    #[must_use]
    pub fn new(boundary: &str, content_type: &str, size: u64, ranges: &[Range<u64>]) -> Self {
        let head = |range: &Range<u64>| {
            let content_range = content_range(range, size);
            format!(
                "\r\n--{boundary}\r\nContent-Type: {content_type}\r\n\
                 Content-Range: {content_range}\r\n\r\n"
            )
        };
        let parts = ranges.iter().map(|range| (head(range).into_bytes(), range.clone())).collect();
        let end = format!("\r\n--{boundary}--\r\n").into_bytes();
        Self { boundary: boundary.to_owned(), parts, end }
    }

    /// Returns the value of `Content-Type`.
    #[must_use]
    pub fn content_type(&self) -> String {
        format!("multipart/byteranges; boundary={}", self.boundary)
    }

    /// Returns the length of the whole body.
    #[must_use]
    pub fn content_length(&self) -> u64 {
        let part = |(head, range): &(Vec<u8>, Range<u64>)| {
            (head.len() as u64).saturating_add(range.end.saturating_sub(range.start))
        };
        let parts = self.parts.iter().map(part);
        parts.fold(self.end.len() as u64, u64::saturating_add)
    }

    /// Returns each part: what to send before the range, and the range.
    #[must_use]
    pub fn parts(&self) -> &[(Vec<u8>, Range<u64>)] {
        &self.parts
    }

    /// Returns what follows the last part.
    #[must_use]
    pub fn end(&self) -> &[u8] {
        &self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_is_that_of_the_body() {
        let multipart = Multipart::new("XyZ", "text/plain", 10, &[0..2, 5..6]);
        let mut body = Vec::new();
        for (head, range) in multipart.parts() {
            body.extend(head);
            body.extend(range.clone().map(|at| b'0' + u8::try_from(at).unwrap()));
        }
        body.extend(multipart.end());
        let expected = "\r\n--XyZ\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\
                        \r\n01\r\n--XyZ\r\nContent-Type: text/plain\r\n\
                        Content-Range: bytes 5-5/10\r\n\r\n5\r\n--XyZ--\r\n";
        assert_eq!(String::from_utf8(body).unwrap(), expected);
        assert_eq!(multipart.content_length(), expected.len() as u64);
        assert_eq!(multipart.content_type(), "multipart/byteranges; boundary=XyZ");
    }
}
