//! PUT of files (RFC 9110 section 9.3.4).
//!
//! Content gets its name only when all of it has come and its digests are right. An upload whose
//! connection ends before is discarded: its client cannot continue it.

use relais_engine::{ChecksumAlgorithm, ChecksumHasher, Committed, Upload};
use relais_http::digest;
use relais_http::{BodyLength, Headers, Preconditions, Response, Status};
use relais_proto::{Digest, Entry, ErrorCode, FileTime, Kind, PutRequest, Refusal};

use super::delete::expected;
use super::representation::entity_tag;
use crate::front::http::error::{HttpError, HttpResult};
use crate::front::http::keep_alive::ChangeKeepAlive;
use crate::front::http::request::TreeRequest;
use crate::front::http::session::HttpSession;

/// Bytes of one read of a body; they stay in the processor's cache until they are written.
const BUFFER: usize = 128 * 1024;
/// The field with the time of last modification, of the clients of ownCloud and rclone.
const MTIME: &str = "x-oc-mtime";

/// Stores a file.
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
    let mtime = modification_time(headers)?;
    let put = PutRequest {
        size,
        expect: expected(http, &request.path, &conditions, found.as_ref())?,
        mtime,
        ..PutRequest::new(HttpSession::change_id()?, request.path.clone())
    };
    let upload = http.session.begin_upload(put, &mut http.keepalive()).map_err(no_parent)?;
    let upload = receive(http, upload, headers, size)?;
    let change = upload.finish(None, &mut ChangeKeepAlive)?;
    let committed = http.commit(change).map_err(no_parent)?;
    let mut response = stored(&committed, found.is_none());
    if mtime.is_some() {
        response.headers.insert("X-OC-MTime", "accepted");
    }
    http.respond(request.request, response, &[])
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

/// A missing or wrong folder above the file conflicts with the request (RFC 4918 section 9.7.1).
pub fn no_parent(refusal: Refusal) -> HttpError {
    match refusal.code {
        ErrorCode::NotFound => Refusal { code: ErrorCode::NotFolder, ..refusal }.into(),
        _ => refusal.into(),
    }
}

/// Receives the body of a request as the content of an upload, and checks its digests.
fn receive(
    http: &mut HttpSession,
    mut upload: Upload,
    headers: &Headers,
    size: Option<u64>,
) -> HttpResult<Upload> {
    match receive_all(http, &mut upload, headers, size) {
        Ok(()) => Ok(upload),
        Err(error) => {
            upload.discard();
            Err(error)
        }
    }
}

fn receive_all(
    http: &mut HttpSession,
    upload: &mut Upload,
    headers: &Headers,
    size: Option<u64>,
) -> HttpResult {
    let wanted =
        [digest::parse(headers, "content-digest")?, digest::parse(headers, "repr-digest")?];
    let mut hasher =
        wanted.iter().any(Option::is_some).then(|| ChecksumHasher::new(ChecksumAlgorithm::Sha256));
    let length = size.and_then(|size| usize::try_from(size).ok()).unwrap_or(BUFFER);
    let mut buffer = vec![0; length.clamp(1, BUFFER)];
    loop {
        let got = http.connection.body().read(&mut buffer)?;
        if got == 0 {
            break;
        }
        if let Some(hasher) = &mut hasher {
            hasher.update(&buffer[..got]);
        }
        upload.write(&buffer[..got])?;
    }
    let found = hasher.map(ChecksumHasher::finish);
    let is_right = |wanted: &[u8; 32]| found.as_deref() == Some(wanted.as_slice());
    if !wanted.iter().flatten().all(is_right) {
        // RFC 9530 section 2: the content is not what the client has sent.
        let text = "the body does not match its digest; nothing was stored";
        return Err(HttpError::status(Status::BAD_REQUEST, text));
    }
    Ok(())
}

/// Returns the answer for a file that was stored.
#[must_use]
pub fn stored(committed: &Committed, is_new: bool) -> Response {
    let status = if is_new { Status::CREATED } else { Status::NO_CONTENT };
    let mut response = Response::new(status);
    if let Some(digest) = &committed.digest {
        response.headers.insert("ETag", entity_tag(digest).to_string());
    }
    response
}
