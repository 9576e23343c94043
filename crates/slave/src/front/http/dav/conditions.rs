//! The header If: its conditions, and the lock tokens that it submits.

use relais_dav::{DavError, IfHeader, ResourceState};
use relais_http::{RequestHead, Status};
use relais_proto::{Refusal, TreePath};

use super::destination;
use super::failure::DavFailure;
use super::request::is_missing;
use super::tokens;
use crate::front::http::error::HttpResult;
use crate::front::http::files::representation::entity_tag;
use crate::front::http::session::HttpSession;

/// Checks the header If of any method, and has the session use the locks that it names.
///
/// Without the header the session uses no locks, whatever an earlier request has named (RFC 4918,
/// section 10.4). `path` is the resource of conditions that name none.
///
/// # Errors
/// 400 for a malformed header; 412 if it does not hold.
pub fn apply_if(http: &mut HttpSession, head: &RequestHead, path: &TreePath) -> HttpResult {
    check(http, head, path).map_err(|failure| failure.into_error(head))
}

fn check(http: &mut HttpSession, head: &RequestHead, path: &TreePath) -> Result<(), DavFailure> {
    let text: Vec<&str> = head.headers.all("If").collect();
    if text.is_empty() {
        return Ok(http.session.set_lock_tokens(Vec::new())?);
    }
    let header = IfHeader::parse(&text.join(" "))?;
    let mut submitted: Vec<_> = header.submitted_tokens().filter_map(tokens::from_uri).collect();
    submitted.sort_unstable();
    submitted.dedup();
    http.session.set_lock_tokens(submitted)?;
    let holds = header.holds(|resource| match resource {
        None => state(http, path),
        Some(uri) => match destination::parse(head, uri) {
            Ok(path) => state(http, &path),
            // What is not here has neither locks nor an entity tag.
            Err(_) => Ok(ResourceState::default()),
        },
    })?;
    if holds {
        return Ok(());
    }
    Err(DavError::new(Status::PRECONDITION_FAILED, "the header If does not hold").into())
}

/// Returns the locks and the entity tag of a path.
fn state(http: &HttpSession, path: &TreePath) -> Result<ResourceState, Refusal> {
    let locks = http.session.locks(path, false, &mut http.keepalive())?;
    let digest = match http.entry(path) {
        Ok((_, digest)) => digest,
        Err(refusal) if is_missing(refusal.code) => None,
        Err(refusal) => return Err(refusal),
    };
    Ok(ResourceState {
        entity_tag: digest.map(|digest| entity_tag(&digest).to_string()),
        lock_tokens: locks.iter().map(|found| tokens::to_uri(found.lock.token)).collect(),
    })
}
