//! The header fields of resumable uploads.

use relais_http::{Headers, RequestError, Response, Status};
use relais_proto::limits;

/// The version of the draft that clients name.
pub const INTEROP_VERSION: &str = "8";
/// The media type of a part (draft section 6).
pub const PART_TYPE: &str = "application/partial-upload";

/// The fields of a request (draft section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadFields {
    /// `Upload-Complete`: whether the body ends the content.
    pub complete: Option<bool>,
    /// `Upload-Length`: the size of the whole content.
    pub length: Option<u64>,
    /// `Upload-Offset`: where the body begins in the content.
    pub offset: Option<u64>,
    /// Whether the client knows this version of the draft, so that it understands status 104.
    pub is_known_version: bool,
}

impl UploadFields {
    /// Takes the fields from a request. Malformed ones are ignored, as the draft says.
    ///
    /// # Errors
    /// Status 400 for a length beyond that of any file.
    pub fn of(headers: &Headers) -> Result<Self, RequestError> {
        let complete = match headers.get("upload-complete") {
            Some("?1") => Some(true),
            Some("?0") => Some(false),
            _ => None,
        };
        let number = |name| headers.get(name).and_then(integer);
        let length = number("upload-length");
        if length.is_some_and(|length| length > limits::FILE_SIZE) {
            return Err(RequestError::bad("Upload-Length is larger than any file"));
        }
        Ok(Self {
            complete,
            length,
            offset: number("upload-offset"),
            is_known_version: headers.get("upload-draft-interop-version") == Some(INTEROP_VERSION),
        })
    }
}

/// Parses a Structured Fields integer that is not negative (RFC 9651 section 4.2.4).
fn integer(text: &str) -> Option<u64> {
    let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_digits && text.len() <= 15 { text.parse().ok() } else { None }
}

/// Returns the interim answer that tells the URL of the upload (draft section 5).
#[must_use]
pub fn resumption_supported(location: &str) -> Response {
    Response::new(Status::UPLOAD_RESUMPTION_SUPPORTED)
        .with("Location", location.to_owned())
        .with("Upload-Limit", upload_limit())
        .with("Upload-Draft-Interop-Version", INTEROP_VERSION)
}

/// Returns the value of `Upload-Limit` (draft section 4.1.4).
#[must_use]
pub fn upload_limit() -> String {
    format!("max-age={}", limits::STAGED_TIME.as_secs())
}

/// Adds how far an upload is.
pub fn add_progress(response: &mut Response, offset: u64, is_complete: bool) {
    response.headers.insert("Upload-Offset", offset.to_string());
    add_completeness(response, is_complete);
}

/// Adds whether an upload is complete.
pub fn add_completeness(response: &mut Response, is_complete: bool) {
    response.headers.insert("Upload-Complete", if is_complete { "?1" } else { "?0" });
    response.headers.insert("Cache-Control", "no-store");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &[(&'static str, &'static str)]) -> UploadFields {
        let mut headers = Headers::default();
        fields.iter().for_each(|(name, value)| headers.append(*name, *value));
        UploadFields::of(&headers).unwrap()
    }

    #[test]
    fn malformed_fields_are_ignored() {
        let none =
            UploadFields { complete: None, length: None, offset: None, is_known_version: false };
        assert_eq!(of(&[]), none);
        for value in ["", "-1", "1.5", "\"1\"", "1 2", "1234567890123456"] {
            assert_eq!(of(&[("Upload-Length", value), ("Upload-Offset", value)]), none, "{value}");
        }
        assert_eq!(of(&[("Upload-Complete", "1"), ("Upload-Draft-Interop-Version", "7")]), none);
        let all = of(&[
            ("Upload-Complete", "?0"),
            ("Upload-Length", "12"),
            ("Upload-Offset", "0"),
            ("Upload-Draft-Interop-Version", "8"),
        ]);
        assert_eq!((all.complete, all.length), (Some(false), Some(12)));
        assert_eq!((all.offset, all.is_known_version), (Some(0), true));
    }
}
