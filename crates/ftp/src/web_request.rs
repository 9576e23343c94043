//! Recognizes requests of web browsers, which a web page can send to any port.
//!
//! A page cannot read the replies, but the body of its request may consist of FTP commands.

/// Returns whether a line that is no command is the first one of a request, or its header `Host`.
///
/// The header is there if the first line is over-long. FTP's HOST has no colon.
#[must_use]
pub fn is_web_request(line: &[u8]) -> bool {
    let has = |part: &[u8], wanted: &[u8]| part.eq_ignore_ascii_case(wanted);
    line.get(..5).is_some_and(|begin| has(begin, b"host:"))
        || line.windows(6).any(|part| has(part, b" http/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_commands_differ() {
        for line in ["GET / HTTP/1.1", "POST /a%0d http/1.0", "PRI * HTTP/2.0", "hOST: x"] {
            assert!(is_web_request(line.as_bytes()), "{line}");
        }
        for line in ["", "HOST x", "HOST files.example:21", "XYZZY", "GET a/HTTP/1.1"] {
            assert!(!is_web_request(line.as_bytes()), "{line}");
        }
    }
}
