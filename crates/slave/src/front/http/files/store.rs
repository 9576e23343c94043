//! Stores a file whose content has come, and answers.

use relais_engine::{ChecksumAlgorithm, Upload};
use relais_http::digest::Sha256Digest;
use relais_http::{Response, Status};
use relais_proto::{ErrorCode, FileTime, Refusal};

use super::receive::check_digest;
use super::representation::entity_tag;
use crate::front::http::error::{HttpError, HttpResult};
use crate::front::http::keep_alive::ChangeKeepAlive;
use crate::front::http::request::CheckedRequest;
use crate::front::http::session::HttpSession;

/// What is known of an upload at its end.
#[derive(Debug, Clone, Copy)]
pub struct UploadEnd {
    /// Whether no file had this path.
    pub is_new: bool,
    /// Whether the answer says that a resumable upload is complete.
    pub is_part: bool,
    /// The SHA-256 that the staged content must have, if it is not checked yet.
    pub sha256: Option<Sha256Digest>,
}

/// Makes the change, and sends the answer.
///
/// # Errors
/// The reason why the file was not stored.
pub fn store(
    http: &mut HttpSession,
    request: &CheckedRequest,
    upload: Upload,
    mtime: Option<FileTime>,
    end: UploadEnd,
) -> HttpResult {
    if let Some(wanted) = end.sha256 {
        let found = upload.checksum(ChecksumAlgorithm::Sha256, &mut http.keepalive())?;
        if let Err(error) = check_digest(Some(&found), std::iter::once(&wanted)) {
            upload.discard();
            return Err(error);
        }
    }
    let change = upload.finish(None, &mut ChangeKeepAlive)?;
    let committed = http.commit(change).map_err(no_parent)?;
    let status = if end.is_new { Status::CREATED } else { Status::NO_CONTENT };
    let mut response = Response::new(status);
    if let Some(digest) = &committed.digest {
        response.headers.insert("ETag", entity_tag(digest).to_string());
    }
    if mtime.is_some() {
        response.headers.insert("X-OC-MTime", "accepted");
    }
    if end.is_part {
        response.headers.insert("Upload-Complete", "?1");
    }
    http.respond(request, response, &[])
}

/// A missing or wrong folder above the file conflicts with the request (RFC 4918 section 9.7.1).
pub fn no_parent(refusal: Refusal) -> HttpError {
    match refusal.code {
        ErrorCode::NotFound => Refusal { code: ErrorCode::NotFolder, ..refusal }.into(),
        _ => refusal.into(),
    }
}
