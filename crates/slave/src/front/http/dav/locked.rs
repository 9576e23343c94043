//! The answer to a request of any method that a lock forbids: it names the lock.

use relais_dav::{Condition, error_body};
use relais_http::{Method, RequestHead, Status, accept};
use relais_proto::{ErrorCode, Kind, Refusal, TreePath};

use super::destination::destination;
use super::failure::XML;
use crate::front::http::answer::Answer;
use crate::front::http::error::HttpError;
use crate::front::http::path::url_of;
use crate::front::http::session::HttpSession;

/// Gives an error that a lock has caused the body with the locks (RFC 4918, sections 9.10.6 and
/// 16). Clients that prefer JSON or HTML get that.
///
/// `path` is what the request is about.
pub fn name_locks(
    http: &HttpSession,
    head: &RequestHead,
    path: &TreePath,
    error: HttpError,
) -> HttpError {
    const FORMS: [&str; 3] = ["application/xml", "application/json", "text/html"];
    let accept = head.headers.get("Accept");
    match error {
        HttpError::Refused(refusal) if refusal.code == ErrorCode::Locked => {
            if accept::prefers(accept, &FORMS).unwrap_or_default() > 0 {
                return refusal.into();
            }
            match locked_urls(http, head, path) {
                Ok(urls) => {
                    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
                    let body = error_body(Condition::LockTokenSubmitted, &urls);
                    Answer::with_body(Status::LOCKED, XML, body.into_bytes()).into()
                }
                Err(refusal) => refusal.into(),
            }
        }
        error => error,
    }
}

/// Returns the URLs of the locks whose tokens are missing; at least one.
fn locked_urls(
    http: &HttpSession,
    head: &RequestHead,
    path: &TreePath,
) -> Result<Vec<String>, Refusal> {
    let keepalive = &mut http.keepalive();
    let mut found = match head.method {
        Method::Copy => Vec::new(),
        Method::Delete | Method::Move => http.session.unheld_locks(path, true, keepalive)?,
        _ => http.session.unheld_locks(path, false, keepalive)?,
    };
    if let (Method::Copy | Method::Move, Ok(target)) = (&head.method, destination(head)) {
        found.extend(http.session.unheld_locks(&target, true, keepalive)?);
    }
    if found.is_empty() {
        // The lock has ended since then.
        found.push(path.clone());
    }
    Ok(found.iter().map(|path| url_of_entry(http, path)).collect())
}

/// Returns the URL of a path as it is now: that of a folder ends with a slash.
pub fn url_of_entry(http: &HttpSession, path: &TreePath) -> String {
    let is_folder = |path| http.entry(path).is_ok_and(|(entry, _)| entry.kind == Kind::Folder);
    url_of(path, path.is_root() || is_folder(path))
}
