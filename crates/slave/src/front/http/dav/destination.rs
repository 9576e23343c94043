//! The header Destination, and other URIs of resources of this server.

use relais_dav::DavError;
use relais_http::{Method, RequestHead, Status, Target};
use relais_proto::TreePath;

use crate::front::http::path::UrlPath;

/// Returns the path that the header Destination names (RFC 4918, section 10.3).
///
/// # Errors
/// 400 if it is missing or malformed, 502 if it names another server.
pub fn destination(head: &RequestHead) -> Result<TreePath, DavError> {
    let uri = head
        .headers
        .get("Destination")
        .ok_or_else(|| DavError::new(Status::BAD_REQUEST, "the header Destination is missing"))?;
    parse(head, uri.trim())
}

/// Returns the path of an absolute URI or of an absolute path.
///
/// # Errors
/// As [`destination`].
pub fn parse(head: &RequestHead, uri: &str) -> Result<TreePath, DavError> {
    let malformed = |text: String| DavError::new(Status::BAD_REQUEST, text);
    if uri.starts_with("//") {
        // What follows would be a host (RFC 3986, section 4.2).
        return Err(malformed("the URI has no scheme".to_owned()));
    }
    let target = Target::parse(&Method::Move, uri).map_err(|error| malformed(error.to_string()))?;
    if let Some(authority) = &target.authority
        && !is_same_host(authority, head)
    {
        return Err(DavError::new(Status::BAD_GATEWAY, "the URI names another server"));
    }
    match UrlPath::of(&target).map_err(|error| malformed(error.to_string()))? {
        UrlPath::Tree { path, .. } => Ok(path),
        UrlPath::Own(_) => Err(DavError::new(Status::FORBIDDEN, "the URI names no file or folder")),
    }
}

/// Whether an authority is that of the request. A proxy may have ended TLS, so schemes may differ.
fn is_same_host(authority: &str, head: &RequestHead) -> bool {
    let own = head.target.authority.as_deref().or_else(|| head.headers.get("Host"));
    own.is_some_and(|own| without_port(own).eq_ignore_ascii_case(without_port(authority)))
}

/// Returns an authority without the port of a scheme.
fn without_port(authority: &str) -> &str {
    let default = authority.strip_suffix(":80").or_else(|| authority.strip_suffix(":443"));
    default.unwrap_or(authority)
}
