//! Begins resumable uploads (draft section 4.2).

use relais_engine::Host;
use relais_http::{BodyLength, Response, Status};
use relais_proto::{PutRequest, Refusal, limits};

use super::fields::{UploadFields, add_progress, resumption_supported, upload_limit};
use super::token::{UploadToken, to_text};
use crate::front::http::error::{HttpError, HttpResult};
use crate::front::http::files::receive::{BodyDigests, FailedUpload, receive};
use crate::front::http::files::store::{UploadEnd, no_parent, store};
use crate::front::http::request::TreeRequest;
use crate::front::http::session::HttpSession;

/// Receives the whole content in one request, which can be resumed if it is cut.
pub fn create_whole(
    http: &mut HttpSession,
    request: &TreeRequest<'_>,
    put: PutRequest,
    is_new: bool,
) -> HttpResult {
    let headers = &request.request.head.headers;
    let digests = BodyDigests::of(headers)?;
    let token = token_of(http, &put, &digests);
    let location = http.context.upload_url(&token)?;
    let upload = http.session.begin_upload(put, &mut http.keepalive()).map_err(no_parent)?;
    http.connection.inform(&resumption_supported(&location))?;
    let end = UploadEnd { is_new, is_part: true, sha256: None };
    match receive(http, upload, &digests) {
        // The client has the URL, and continues there.
        Err(failed) => {
            let FailedUpload { error, upload } = *failed;
            if error.is_cut() {
                upload.pause()
            } else {
                upload.discard()
            }
            Err(error)
        }
        Ok(upload) => store(http, request.request, upload, token.mtime, end),
    }
}

/// Makes an upload resource, and receives the first part of the content.
pub fn create_part(
    http: &mut HttpSession,
    request: &TreeRequest<'_>,
    put: PutRequest,
    fields: UploadFields,
) -> HttpResult {
    let size = fields.length.ok_or_else(|| {
        let text = "an upload in parts needs Upload-Length";
        HttpError::status(Status::LENGTH_REQUIRED, text)
    })?;
    let head = &request.request.head;
    if matches!(head.body()?, BodyLength::Sized(part) if part > size) {
        return Err(inconsistent());
    }
    let digests = BodyDigests::of(&head.headers)?;
    let put = PutRequest { size: Some(size), ..put };
    let token = token_of(http, &put, &digests);
    let location = http.context.upload_url(&token)?;
    let upload = http.session.begin_part(put, &mut http.keepalive()).map_err(no_parent)?;
    if fields.is_known_version {
        http.connection.inform(&resumption_supported(&location))?;
    }
    // The whole content is not here, so its digest is checked later.
    let digests = BodyDigests { representation: None, ..digests };
    let upload = receive(http, upload, &digests).map_err(|failed| {
        let FailedUpload { error, upload } = *failed;
        if error.is_cut() {
            upload.pause()
        } else {
            upload.discard()
        }
        error
    })?;
    let mut response = Response::new(Status::CREATED)
        .with("Location", location)
        .with("Upload-Limit", upload_limit());
    add_progress(&mut response, upload.offset(), false);
    upload.pause();
    http.respond(request.request, response, &[])
}

fn token_of(http: &HttpSession, put: &PutRequest, digests: &BodyDigests) -> UploadToken {
    let host = &http.context.service.host;
    let time = u64::try_from(limits::STAGED_TIME.as_millis()).unwrap_or(u64::MAX);
    UploadToken {
        user: http.session.principal().user.clone(),
        folder: host.context.own.folder_id,
        id: put.id,
        path: put.path.clone(),
        size: put.size.unwrap_or_default(),
        expect: put.expect,
        mtime: put.mtime,
        sha256: digests.representation,
        ends_ms: host.now_ms().saturating_add(time),
    }
}

/// Returns the error for lengths that contradict each other (draft section 7.3).
#[must_use]
pub fn inconsistent() -> HttpError {
    let text = "the length of the upload is not the one that was announced";
    HttpError::status(Status::BAD_REQUEST, text)
}

impl crate::front::http::HttpContext {
    /// Returns the URL of an upload.
    fn upload_url(&self, token: &UploadToken) -> Result<String, Refusal> {
        let sealed = self.cookies.seal_upload(&token.encode())?;
        Ok(format!("/-/uploads/{}", to_text(&sealed)))
    }
}
