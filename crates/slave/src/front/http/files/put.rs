//! PUT of files (RFC 9110 section 9.3.4).
//!
//! Content gets its name only when all of it has come and its digests are right. An upload whose
//! connection ends before is discarded: its client cannot continue it.

use relais_http::{BodyLength, Headers, Preconditions, Status};
use relais_proto::{Digest, Entry, ErrorCode, FileTime, Kind, PutRequest, Refusal};

use super::delete::expected;
use super::receive::{BodyDigests, receive};
use super::store::{UploadEnd, no_parent, store};
use crate::front::http::error::{HttpError, HttpResult};
use crate::front::http::request::TreeRequest;
use crate::front::http::session::HttpSession;
use crate::front::http::uploads::{UploadFields, create_part, create_whole};

/// The field with the time of last modification, of the clients of ownCloud and rclone.
const MTIME: &str = "x-oc-mtime";

/// Stores a file, or begins a resumable upload.
pub fn put(http: &mut HttpSession, request: &TreeRequest<'_>) -> HttpResult {
    let found = present_entry(http, request)?;
    let headers = &request.request.head.headers;
    check_headers(headers)?;
    let conditions = Preconditions::parse(headers)?;
    let size = match request.request.head.body()? {
        BodyLength::Empty => Some(0),
        BodyLength::Sized(size) => Some(size),
        BodyLength::Chunked => None,
    };
    let put = PutRequest {
        size,
        expect: expected(http, &request.path, &conditions, found.as_ref())?,
        mtime: modification_time(headers)?,
        ..PutRequest::new(HttpSession::change_id()?, request.path.clone())
    };
    let fields = UploadFields::of(headers)?;
    match fields.complete {
        Some(false) => create_part(http, request, put, fields),
        Some(true) if size.is_some() && fields.is_known_version => {
            create_whole(http, request, put, found.is_none())
        }
        _ => put_whole(http, request, put, found.is_none()),
    }
}

fn put_whole(
    http: &mut HttpSession,
    request: &TreeRequest<'_>,
    put: PutRequest,
    is_new: bool,
) -> HttpResult {
    let digests = BodyDigests::of(&request.request.head.headers)?;
    let mtime = put.mtime;
    let upload = http.session.begin_upload(put, &mut http.keepalive()).map_err(no_parent)?;
    let upload = receive(http, upload, &digests).map_err(|failed| {
        // The client cannot continue it.
        failed.upload.discard();
        failed.error
    })?;
    let end = UploadEnd { is_new, is_part: false, sha256: None };
    store(http, request.request, upload, mtime, end)
}

/// Returns the file at the path, if there is one.
///
/// # Errors
/// Status 405 for a folder.
fn present_entry(
    http: &HttpSession,
    request: &TreeRequest<'_>,
) -> HttpResult<Option<(Entry, Option<Digest>)>> {
    let is_folder = || Refusal::new(ErrorCode::IsFolder, "a folder cannot be put; use MKCOL");
    if request.has_slash {
        return Err(is_folder().into());
    }
    match http.entry(&request.path) {
        Ok((entry, _)) if entry.kind == Kind::Folder => Err(is_folder().into()),
        Ok(found) => Ok(Some(found)),
        Err(refusal) if refusal.code == ErrorCode::NotFound => Ok(None),
        Err(refusal) => Err(no_parent(refusal)),
    }
}

/// Rejects what would store something else than the client means.
fn check_headers(headers: &Headers) -> HttpResult {
    if headers.has("content-range") {
        // RFC 9110 section 14.5.
        let text = "PUT stores whole files; a part of one cannot be replaced";
        return Err(HttpError::status(Status::BAD_REQUEST, text));
    }
    let is_coded = headers.list("content-encoding").any(|c| !c.eq_ignore_ascii_case("identity"));
    if is_coded {
        let text = "content is stored as it is sent; send it without Content-Encoding";
        return Err(HttpError::status(Status::UNSUPPORTED_MEDIA_TYPE, text));
    }
    Ok(())
}

/// Returns the time that the client gives the file: seconds since 1970.
fn modification_time(headers: &Headers) -> HttpResult<Option<FileTime>> {
    let Some(text) = headers.get(MTIME) else { return Ok(None) };
    let seconds = text.split('.').next().unwrap_or_default().parse();
    match seconds {
        Ok(seconds) => Ok(Some(FileTime { seconds, nanos: 0 })),
        Err(_) => {
            let text = "X-OC-Mtime is the number of seconds since 1970";
            Err(HttpError::status(Status::BAD_REQUEST, text))
        }
    }
}
