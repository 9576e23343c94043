//! The body of LOCK (RFC 4918, sections 9.10 and 14.11).

use crate::error::DavError;
use crate::lock::LockScope;
use crate::xml::element::Element;
use crate::xml::parse::parse;
use relais_http::Status;
use relais_proto::limits;

/// The lock that a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockInfo {
    /// Who else may have a lock.
    pub scope: LockScope,
    /// The element `owner` as self-contained XML; empty: none.
    pub owner: String,
}

impl LockInfo {
    /// Reads a body. An empty one refreshes a lock.
    ///
    /// # Errors
    /// 400 if the body is no LOCK, 413 if it exceeds a cap, 415 for an unknown encoding, 422 for an
    /// unknown scope or type.
    pub fn parse(body: &[u8]) -> Result<Option<Self>, DavError> {
        if body.is_empty() {
            return Ok(None);
        }
        let root = parse(body)?;
        if !root.is_dav("lockinfo") {
            return Err(DavError::syntax("the body of LOCK is no lockinfo"));
        }
        let scope = only_child(&root, "lockscope")?;
        let scope = match scope {
            scope if scope.is_dav("exclusive") => LockScope::Exclusive,
            scope if scope.is_dav("shared") => LockScope::Shared,
            _ => {
                return Err(DavError::new(
                    Status::UNPROCESSABLE_CONTENT,
                    "the scope of the lock is not known",
                ));
            }
        };
        if !only_child(&root, "locktype")?.is_dav("write") {
            return Err(DavError::new(
                Status::UNPROCESSABLE_CONTENT,
                "the type of the lock is not known",
            ));
        }
        let owner = root.dav_child("owner").map(|owner| owner.fragment(&[&root]));
        let owner = owner.unwrap_or_default();
        if owner.len() > limits::LOCK_OWNER {
            return Err(DavError::too_large("the owner of the lock has more than 4 KiB"));
        }
        Ok(Some(Self { scope, owner }))
    }
}

/// Returns the element inside the child with a name.
fn only_child<'a>(root: &'a Element, name: &str) -> Result<&'a Element, DavError> {
    let child = root.dav_child(name).and_then(|child| child.elements().next());
    child.ok_or_else(|| DavError::syntax(format!("a lockinfo has a {name} with one element")))
}
