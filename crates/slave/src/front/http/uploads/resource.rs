//! The URL of an upload: how far it is, its next part, and its end (draft sections 4.3 to 4.5).

use relais_engine::{Host, Upload, UploadProgress};
use relais_http::{BodyLength, Method, Response, Status};

use super::create::inconsistent;
use super::fields::{PART_TYPE, UploadFields, add_completeness, add_progress, upload_limit};
use super::token::{UploadToken, from_text};
use crate::front::http::answer::Answer;
use crate::front::http::dav;
use crate::front::http::error::{HttpError, HttpResult};
use crate::front::http::files::receive::{BodyDigests, FailedUpload, receive};
use crate::front::http::files::store::{UploadEnd, store};
use crate::front::http::request::CheckedRequest;
use crate::front::http::session::HttpSession;

/// The methods of an upload, for `Allow`.
const METHODS: &str = "HEAD, PATCH, DELETE, OPTIONS";

/// Answers a request for an upload.
pub fn resource(http: &mut HttpSession, request: &CheckedRequest, text: &str) -> HttpResult {
    let token = open(http, text)?;
    dav::apply_if(http, &request.head, &token.path)?;
    let answered = match &request.head.method {
        Method::Head => progress(http, request, &token),
        Method::Patch => append(http, request, &token),
        Method::Delete => cancel(http, request, &token),
        Method::Options => {
            let response = Response::new(Status::NO_CONTENT).with("Allow", METHODS);
            http.respond(request, response.with("Accept-Patch", PART_TYPE), &[])
        }
        _ => Err(HttpError::NotAllowed(METHODS)),
    };
    answered.map_err(|error| dav::name_locks(http, &request.head, &token.path, error))
}

/// Opens the token of an upload of this user, which may have begun on another slave.
fn open(http: &HttpSession, text: &str) -> HttpResult<UploadToken> {
    let host = &http.context.service.host;
    let fields = from_text(text).and_then(|sealed| http.context.cookies.unseal_upload(&sealed));
    let token = fields.and_then(|fields| UploadToken::decode(&fields).ok());
    let is_here = |token: &UploadToken| {
        token.user == http.session.principal().user && token.ends_ms > host.now_ms()
    };
    token
        .filter(is_here)
        .ok_or_else(|| HttpError::status(Status::NOT_FOUND, "no such upload; begin it again"))
}

/// Returns how far an upload is here. On another slave than that of its begin it starts anew.
///
/// # Errors
/// 410 if it began here and nothing is left of it: the offset of an upload never becomes smaller
/// (draft section 4.3.2).
fn find(http: &HttpSession, token: &UploadToken) -> HttpResult<UploadProgress> {
    let keepalive = &mut http.keepalive();
    let found = http.session.find_upload(token.id, &token.path, token.size, keepalive)?;
    let began_here = token.folder == http.context.service.host.context.own.folder_id;
    if began_here && matches!(found, UploadProgress::Staged { is_unknown: true, .. }) {
        let text = "the bytes of this upload were discarded; begin it again";
        return Err(HttpError::status(Status::GONE, text));
    }
    Ok(found)
}

/// HEAD: draft section 4.3.2.
fn progress(http: &mut HttpSession, request: &CheckedRequest, token: &UploadToken) -> HttpResult {
    let mut response = Response::new(Status::NO_CONTENT).with("Upload-Limit", upload_limit());
    match find(http, token)? {
        UploadProgress::Committed(_) => add_progress(&mut response, token.size, true),
        UploadProgress::Staged { offset, .. } => add_progress(&mut response, offset, false),
    }
    response.headers.insert("Upload-Length", token.size.to_string());
    http.respond(request, response, &[])
}

/// PATCH: draft section 4.4.2.
fn append(http: &mut HttpSession, request: &CheckedRequest, token: &UploadToken) -> HttpResult {
    let head = &request.head;
    let media_type = head.headers.get("content-type").and_then(|field| field.split(';').next());
    if !media_type.is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case(PART_TYPE)) {
        let text = "a part has the type application/partial-upload";
        return Err(HttpError::status(Status::UNSUPPORTED_MEDIA_TYPE, text));
    }
    let fields = UploadFields::of(&head.headers)?;
    let (Some(begin), Some(is_last)) = (fields.offset, fields.complete) else {
        let text = "a part needs Upload-Offset and Upload-Complete";
        return Err(HttpError::status(Status::BAD_REQUEST, text));
    };
    let here = match find(http, token)? {
        UploadProgress::Committed(_) => return Err(is_complete(request)),
        UploadProgress::Staged { offset, .. } => offset,
    };
    if here != begin {
        return Err(other_offset(request, here));
    }
    let length = match head.body()? {
        BodyLength::Empty => Some(0),
        BodyLength::Sized(length) => Some(length),
        BodyLength::Chunked => None,
    };
    let end = length.map(|length| begin.saturating_add(length));
    let fits = end.is_none_or(|end| end == token.size || (!is_last && end < token.size));
    if !fits || fields.length.is_some_and(|length| length != token.size) {
        return Err(inconsistent());
    }
    let digests = BodyDigests { representation: None, ..BodyDigests::of(&head.headers)? };
    let upload = if is_last {
        http.session.begin_upload(token.put_request(begin), &mut http.keepalive())?
    } else {
        begin_part(http, token, begin)?
    };
    let upload = match receive(http, upload, &digests) {
        Ok(upload) => upload,
        Err(failed) => return Err(keep_until(http, token, begin, *failed)),
    };
    if is_last && upload.offset() != token.size {
        let failed = FailedUpload { error: inconsistent(), upload };
        return Err(keep_until(http, token, begin, failed));
    }
    if is_last { complete(http, request, token, upload) } else { pause(http, request, upload) }
}

fn begin_part(http: &HttpSession, token: &UploadToken, offset: u64) -> HttpResult<Upload> {
    Ok(http.session.begin_part(token.put_request(offset), &mut http.keepalive())?)
}

/// Keeps the upload after a part that has failed: what has come of a cut one, nothing of a bad one.
fn keep_until(
    http: &HttpSession,
    token: &UploadToken,
    begin: u64,
    FailedUpload { error, upload }: FailedUpload,
) -> HttpError {
    upload.pause();
    if error.is_cut() {
        return error;
    }
    match begin_part(http, token, begin) {
        Ok(upload) => upload.pause(),
        Err(error) => return error,
    }
    error
}

/// Answers a part after which others follow.
fn pause(http: &mut HttpSession, request: &CheckedRequest, upload: Upload) -> HttpResult {
    let mut response = Response::new(Status::NO_CONTENT).with("Upload-Limit", upload_limit());
    add_progress(&mut response, upload.offset(), false);
    upload.pause();
    http.respond(request, response, &[])
}

/// Stores the file after its last part.
fn complete(
    http: &mut HttpSession,
    request: &CheckedRequest,
    token: &UploadToken,
    upload: Upload,
) -> HttpResult {
    let is_new = http.entry(&token.path).is_err();
    let end = UploadEnd { is_new, is_part: true, sha256: token.sha256 };
    store(http, request, upload, token.mtime, end)
}

/// DELETE: draft section 4.5.2.
fn cancel(http: &mut HttpSession, request: &CheckedRequest, token: &UploadToken) -> HttpResult {
    if let UploadProgress::Staged { .. } = find(http, token)? {
        begin_part(http, token, 0)?.discard();
    }
    http.respond(request, Response::new(Status::NO_CONTENT), &[])
}

/// Returns the answer to a part with another offset than that of the upload (draft section 7.1).
fn other_offset(request: &CheckedRequest, here: u64) -> HttpError {
    let text = "the upload is at another offset";
    let mut answer = Answer::error(&request.head, Status::CONFLICT, text);
    add_progress(&mut answer.response, here, false);
    answer.into()
}

/// Returns the answer to a part after the last one (draft section 7.2).
fn is_complete(request: &CheckedRequest) -> HttpError {
    let text = "the upload is complete";
    let mut answer = Answer::error(&request.head, Status::BAD_REQUEST, text);
    add_completeness(&mut answer.response, true);
    answer.into()
}
