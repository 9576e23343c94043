//! DELETE of files and folders (RFC 9110 section 9.3.5, RFC 4918 section 9.6).

use relais_http::conditions::{CurrentState, Decision};
use relais_http::{Preconditions, Response, Status};
use relais_proto::{Digest, Entry, Expect, Kind, TreePath};

use super::representation::{entity_tag, system_time};
use crate::front::http::error::{HttpError, HttpResult};
use crate::front::http::request::TreeRequest;
use crate::front::http::session::HttpSession;

/// Removes a file, or a folder with everything in it.
pub fn delete(http: &mut HttpSession, request: &TreeRequest<'_>) -> HttpResult {
    let headers = &request.request.head.headers;
    let conditions = Preconditions::parse(headers)?;
    let found = http.entry(&request.path)?;
    let entry = &found.0;
    if request.has_slash && entry.kind == Kind::File {
        return Err(HttpError::status(Status::NOT_FOUND, "no such folder"));
    }
    let is_folder = entry.kind == Kind::Folder;
    let depth = headers.get("depth").unwrap_or("infinity");
    if is_folder && !depth.eq_ignore_ascii_case("infinity") {
        let text = "a folder is removed with everything in it: Depth is infinity";
        return Err(HttpError::status(Status::BAD_REQUEST, text));
    }
    let expect = expected(http, &request.path, &conditions, Some(&found))?;
    let (id, keepalive) = (HttpSession::change_id()?, &mut http.keepalive());
    let change = http.session.remove(id, &request.path, is_folder, expect, keepalive)?;
    http.commit(change)?;
    http.respond(request.request, Response::new(Status::NO_CONTENT), &[])
}

/// Evaluates the conditions of a change against the present entry; the change then expects it.
///
/// # Errors
/// Status 412 if a condition is false.
pub fn expected(
    http: &HttpSession,
    path: &TreePath,
    conditions: &Preconditions,
    found: Option<&(Entry, Option<Digest>)>,
) -> HttpResult<Expect> {
    if conditions.is_empty() {
        return Ok(Expect::Any);
    }
    let tag = match found {
        Some((entry, None)) if entry.kind == Kind::File => http.computed_digest(path)?,
        found => found.and_then(|(_, digest)| *digest),
    };
    let tag = tag.as_ref().map(entity_tag);
    let modified = found.map(|(entry, _)| system_time(entry.mtime));
    let state = CurrentState { exists: found.is_some(), tag: tag.as_ref(), modified };
    if conditions.evaluate(false, state) != Decision::Proceed {
        let text = "the file is not the one that the request names";
        return Err(HttpError::status(Status::PRECONDITION_FAILED, text));
    }
    // The entry must still be there when the change is made.
    Ok(Expect::exactly(found.map(|(entry, _)| entry.version)))
}
