//! MKCOL: makes a folder.

use relais_dav::DavError;
use relais_http::Status;
use relais_proto::ErrorCode;

use super::failure::DavFailure;
use super::request::{DavAnswer, DavRequest, DavResult};
use crate::front::http::session::HttpSession;

/// MKCOL (RFC 4918, section 9.3).
pub fn make_folder(request: &mut DavRequest<'_>) -> DavResult {
    if !request.body.is_empty() {
        let text = "a new folder has no body";
        return Err(DavError::new(Status::UNSUPPORTED_MEDIA_TYPE, text).into());
    }
    let path = request.path.clone();
    if request.find(&path)?.is_some() {
        return Err(exists());
    }
    request.check_parent(&path)?;
    let (id, keepalive) = (HttpSession::change_id()?, &mut request.http.keepalive());
    let change = request.http.session.make_folder(id, &path, keepalive)?;
    match request.http.commit(change) {
        Err(refusal) if refusal.code == ErrorCode::Exists => Err(exists()),
        made => {
            made?;
            Ok(DavAnswer::empty(Status::CREATED))
        }
    }
}

fn exists() -> DavFailure {
    DavError::new(Status::METHOD_NOT_ALLOWED, "there is a file or folder already").into()
}
