//! MOVE: gives a file or folder another name.

use relais_proto::Expect;

use super::request::{DavAnswer, DavRequest, DavResult};
use super::targets::Target;
use crate::front::http::session::HttpSession;

/// MOVE (RFC 4918, section 9.9). It is one change, unless a folder is replaced or replaces a file.
///
/// Properties move with their resource. Locks do not.
pub fn move_entry(request: &mut DavRequest<'_>) -> DavResult {
    let target = Target::of(request)?;
    target.clear(request)?;
    let (id, keepalive) = (HttpSession::change_id()?, &mut request.http.keepalive());
    let change =
        request.http.session.rename(id, &target.from, &target.to, Expect::Any, keepalive)?;
    request.http.commit(change)?;
    Ok(DavAnswer::empty(target.done()))
}
