//! The target of a request: a path and a query.

use percent_encoding::percent_decode_str;

use crate::authority::is_authority;
use crate::escape::has_valid_escapes;
use crate::form::Form;
use crate::limits;
use crate::method::Method;
use crate::request_error::RequestError;
use crate::status::Status;

/// The target of a request (RFC 9112, section 3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The path as it was sent, still encoded. It begins with `/`, or is `*`.
    pub path: String,
    /// What follows the first `?`, still encoded.
    pub query: Option<String>,
    /// The host of a target in absolute form, with its port.
    pub authority: Option<String>,
}

const BAD_TARGET: RequestError = RequestError::bad("the request target is malformed");
const BAD_PATH: RequestError = RequestError::bad("the path has a malformed percent encoding");
const BAD_UTF8: RequestError = RequestError::bad("the path is not UTF-8");
const BAD_PART: RequestError =
    RequestError::bad("a part of the path is . or .., or has a slash or NUL");

impl Target {
    /// Parses the target of a request with `method`: origin form, absolute form or `*`.
    ///
    /// # Errors
    /// Status 400 or 414; 501 for `CONNECT`, whose targets have another form.
    pub fn parse(method: &Method, text: &str) -> Result<Self, RequestError> {
        if text.len() > limits::TARGET {
            return Err(RequestError::new(Status::URI_TOO_LONG, "the request target is too long"));
        }
        if method.name() == "CONNECT" {
            return Err(RequestError::new(Status::NOT_IMPLEMENTED, "this server is no proxy"));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            return Err(BAD_TARGET);
        }
        if text == "*" && *method == Method::Options {
            return Ok(Self { path: text.to_owned(), query: None, authority: None });
        }
        let (authority, rest) = split_authority(text)?;
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (rest, None),
        };
        let path = if path.is_empty() && authority.is_some() { "/" } else { path };
        if !path.starts_with('/') {
            return Err(BAD_TARGET);
        }
        Ok(Self { path: path.to_owned(), query, authority: authority.map(str::to_owned) })
    }

    /// Returns the parts of the path, decoded; empty parts are left out.
    ///
    /// # Errors
    /// Status 400 if a part is `.` or `..`, has an encoded `/` or NUL, is not UTF-8 (overlong forms
    /// are not), or has a malformed encoding (RFC 3986, section 2.1). Clients remove `.` and `..`
    /// before they send a path, so nothing but an attack is rejected.
    pub fn decoded_parts(&self) -> Result<Vec<String>, RequestError> {
        let parts = self.path.split('/').filter(|part| !part.is_empty());
        parts.map(decode_part).collect()
    }

    /// Whether the path ends with `/`, as those of folders do.
    #[must_use]
    pub fn ends_with_slash(&self) -> bool {
        self.path.ends_with('/')
    }

    /// Returns the pairs of the query.
    ///
    /// # Errors
    /// As [`Form::parse`].
    pub fn parameters(&self) -> Result<Form, RequestError> {
        Form::parse(self.query.as_deref().unwrap_or_default())
    }
}

/// Splits the authority off a target in absolute form (RFC 9112, section 3.2.2).
fn split_authority(text: &str) -> Result<(Option<&str>, &str), RequestError> {
    if text.starts_with('/') {
        return Ok((None, text));
    }
    let (scheme, rest) = text.split_once("://").ok_or(BAD_TARGET)?;
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return Err(BAD_TARGET);
    }
    let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if is_authority(authority) { Ok((Some(authority), rest)) } else { Err(BAD_TARGET) }
}

fn decode_part(part: &str) -> Result<String, RequestError> {
    if !has_valid_escapes(part) {
        return Err(BAD_PATH);
    }
    let decoded = percent_decode_str(part).decode_utf8().map_err(|_| BAD_UTF8)?;
    if matches!(&*decoded, "." | "..") || decoded.contains(['/', '\0']) {
        return Err(BAD_PART);
    }
    Ok(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(path: &str) -> Option<Vec<String>> {
        Target::parse(&Method::Get, path).ok()?.decoded_parts().ok()
    }

    #[test]
    fn parts_are_decoded_one_by_one() {
        for (path, expected) in [
            ("/", &[][..]),
            ("/a/b", &["a", "b"]),
            ("//a///b/", &["a", "b"]),
            ("/a%20b/%C3%a9", &["a b", "é"]),
            ("/a+b", &["a+b"]),
            ("/%2525", &["%25"]),
            ("/...", &["..."]),
            ("/%2e%2e%2e", &["..."]),
            ("/-/files/x", &["-", "files", "x"]),
            ("/a?/../b", &["a"]),
        ] {
            assert_eq!(parts(path).unwrap(), expected, "{path}");
        }
    }

    #[test]
    fn traversal_is_rejected_in_every_encoding() {
        for path in [
            "/..",
            "/../x",
            "/a/..",
            "/a/../b",
            "/.",
            "/a/./b",
            "/%2e%2e/x",
            "/.%2e/x",
            "/%2E./x",
            "/%2e",
            "/a%2fb",
            "/a%2Fb",
            "/..%2fx",
            "/%2f",
            "/a%00",
            "/%00",
            "/%",
            "/%2",
            "/%zz",
            "/%2 ",
            "/%c0%ae%c0%ae/x",
            "/%c0%af",
            "/%e0%80%ae",
            "/%f0%80%80%af",
            "/%ff",
            "/%ed%a0%80",
            "/%u002e%u002e/x",
            "/%C3",
        ] {
            assert_eq!(parts(path), None, "{path}");
        }
        // Decoded once, these are names, though odd ones.
        assert_eq!(parts("/%252e%252e").unwrap(), ["%2e%2e"]);
        assert_eq!(parts("/..%5c..").unwrap(), ["..\\.."]);
    }

    #[test]
    fn absolute_targets_name_the_host() {
        for (text, authority, path, query) in [
            ("http://a/b?c?d", Some("a"), "/b", Some("c?d")),
            ("HTTPS://[::1]:80", Some("[::1]:80"), "/", None),
            ("http://a?x", Some("a"), "/", Some("x")),
            ("/http://a/", None, "/http://a/", None),
        ] {
            let target = Target::parse(&Method::Get, text).unwrap();
            assert_eq!(target.authority.as_deref(), authority, "{text}");
            assert_eq!((target.path.as_str(), target.query.as_deref()), (path, query), "{text}");
        }
    }

    #[test]
    fn other_targets_are_rejected() {
        for text in
            ["", "a", "*", "http://", "http:///x", "http://u@a/", "ftp://a/", "/a#b", "a:80"]
        {
            assert!(Target::parse(&Method::Get, text).is_err(), "{text}");
        }
        assert_eq!(Target::parse(&Method::Options, "*").unwrap().path, "*");
        let connect = Target::parse(&Method::new("CONNECT"), "a:80").unwrap_err();
        assert_eq!(connect.status, Status::NOT_IMPLEMENTED);
    }
}
