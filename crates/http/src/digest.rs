//! Digests of content in header fields: SHA-256 alone.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::headers::Headers;
use crate::request_error::RequestError;

/// A SHA-256 digest.
pub type Sha256Digest = [u8; 32];

/// Returns the value of `Repr-Digest` or `Content-Digest` (RFC 9530, sections 2 and 3).
#[must_use]
pub fn structured(digest: &Sha256Digest) -> String {
    format!("sha-256=:{}:", STANDARD.encode(digest))
}

/// Returns the value of `Digest` (RFC 3230, section 4.3.2; RFC 5843).
#[must_use]
pub fn instance(digest: &Sha256Digest) -> String {
    format!("SHA-256={}", STANDARD.encode(digest))
}

/// Returns the SHA-256 of `Content-Digest` or `Repr-Digest`; none if the field has none.
///
/// Digests of other algorithms are ignored (RFC 9530, section 2).
///
/// # Errors
/// Status 400 if the field, or its digest, is malformed.
pub fn parse(headers: &Headers, name: &str) -> Result<Option<Sha256Digest>, RequestError> {
    const BAD: RequestError = RequestError::bad("the field with a digest is malformed");
    let mut result = None;
    for element in headers.list(name) {
        let (key, value) = element.split_once('=').ok_or(BAD)?;
        // Parameters have no meaning here (RFC 8941, section 3.1.2).
        let value = value.split(';').next().unwrap_or_default().trim_end();
        let value = value.strip_prefix(':').and_then(|value| value.strip_suffix(':')).ok_or(BAD)?;
        // Keys are in lower case (RFC 8941, section 3.1.2); the last one counts (section 3.2).
        if key == "sha-256" {
            let bytes = STANDARD.decode(value).map_err(|_| BAD)?;
            result = Some(bytes.try_into().map_err(|_| BAD)?);
        }
    }
    Ok(result)
}

/// Whether `Want-Repr-Digest` or `Want-Content-Digest` asks for SHA-256 (RFC 9530, section 4).
///
/// Preference 0 means that it is not acceptable.
#[must_use]
pub fn is_wanted(headers: &Headers, name: &str) -> bool {
    let preference = |element: &str| {
        let (key, value) = element.split_once('=')?;
        let value = value.split(';').next().unwrap_or_default().trim_end();
        (key == "sha-256").then(|| value.parse().ok())?
    };
    headers.list(name).filter_map(preference).last().is_some_and(|n: u8| (1..=10).contains(&n))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-256 of `{"hello": "world"}` and a line feed: RFC 9530, appendix B.
    const VALUE: &str = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";

    fn headers(value: &str) -> Headers {
        let mut headers = Headers::default();
        headers.append("Content-Digest", value.to_owned());
        headers
    }

    #[test]
    fn digests_are_read_as_they_are_written() {
        let digest = parse(&headers(VALUE), "content-digest").unwrap().unwrap();
        assert_eq!(structured(&digest), VALUE);
        assert_eq!(instance(&digest), "SHA-256=RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=");
        for others in [
            format!("sha-512=:AAAA:, {VALUE}"),
            format!("{VALUE};x=1, md5=:AAAA:"),
            format!("sha-256=:{}:, {VALUE}", STANDARD.encode([0; 32])),
        ] {
            assert_eq!(parse(&headers(&others), "content-digest"), Ok(Some(digest)), "{others}");
        }
        assert_eq!(parse(&headers("sha-512=:AAAA:"), "content-digest"), Ok(None));
        assert_eq!(parse(&Headers::default(), "content-digest"), Ok(None));
    }

    #[test]
    fn malformed_digests_are_rejected() {
        for value in
            ["sha-256", "sha-256=AAAA", "sha-256=:AAAA", "sha-256=:AAAA:", "sha-256=:!:", "x=y"]
        {
            assert!(parse(&headers(value), "content-digest").is_err(), "{value}");
        }
    }

    #[test]
    fn a_digest_is_wanted_with_a_preference() {
        for (value, wanted) in [
            ("sha-256=1", true),
            ("sha-512=3, sha-256=10, unixsum=0", true),
            ("sha-256=0", false),
            ("sha-256=11", false),
            ("sha-512=3", false),
            ("sha-256", false),
            ("sha-256=1, sha-256=0", false),
        ] {
            assert_eq!(is_wanted(&headers(value), "content-digest"), wanted, "{value}");
        }
    }
}
