//! OPTIONS (RFC 9110 section 9.3.7, RFC 4918 section 10.1).
//!
//! `MS-Author-Via` has Windows choose WebDAV.

use relais_http::{Response, Status};

use crate::front::http::error::HttpResult;
use crate::front::http::request::{CheckedRequest, METHODS, TreeRequest};
use crate::front::http::session::HttpSession;
use crate::front::http::uploads::{PART_TYPE, upload_limit};

/// Answers OPTIONS of a file or folder.
pub fn options(http: &mut HttpSession, request: &TreeRequest<'_>) -> HttpResult {
    all(http, request.request)
}

/// Answers OPTIONS of the server.
pub fn all(http: &mut HttpSession, request: &CheckedRequest) -> HttpResult {
    let response = Response::new(Status::OK)
        .with("Allow", METHODS)
        .with("DAV", "1, 2")
        .with("MS-Author-Via", "DAV")
        .with("Accept-Ranges", "bytes")
        .with("Accept-Patch", PART_TYPE)
        .with("Upload-Limit", upload_limit());
    http.respond(request, response, &[])
}
