//! MOVE: gives a file or folder another name.

use relais_dav::{DavError, Depth, depth};
use relais_http::Status;
use relais_proto::{ErrorCode, Expect, Kind, Refusal, TreePath};

use super::request::{DavAnswer, DavRequest, DavResult};
use super::targets::Target;
use crate::front::http::session::HttpSession;

/// MOVE (RFC 4918, section 9.9). It is one change, unless a folder is replaced or replaces a file.
///
/// Properties move with their resource. Locks do not.
pub fn move_entry(request: &mut DavRequest<'_>) -> DavResult {
    let target = Target::of(request)?;
    if target.source.kind == Kind::Folder && depth(request.header("Depth"))? != Depth::Infinity {
        let text = "a folder is moved with everything in it: Depth is infinity";
        return Err(DavError::new(Status::BAD_REQUEST, text).into());
    }
    check_unlocked(request, &target.from)?;
    target.clear(request)?;
    let (id, keepalive) = (HttpSession::change_id()?, &mut request.http.keepalive());
    let change =
        request.http.session.rename(id, &target.from, &target.to, Expect::Any, keepalive)?;
    request.http.commit(change)?;
    Ok(DavAnswer::empty(target.done()))
}

/// Checks that no lock forbids to remove the source, before the target is removed for it.
fn check_unlocked(request: &DavRequest<'_>, from: &TreePath) -> Result<(), Refusal> {
    let session = &request.http.session;
    if session.unheld_locks(from, true, &mut request.http.keepalive())?.is_empty() {
        return Ok(());
    }
    Err(Refusal::new(ErrorCode::Locked, "the source or something in it is locked"))
}
