//! The target of COPY and MOVE: where it may be, and how it is replaced.

use relais_dav::{DavError, overwrite};
use relais_http::Status;
use relais_proto::{Entry, Expect, Kind, TreePath};

use super::destination::destination;
use super::failure::DavFailure;
use super::request::DavRequest;
use crate::front::http::session::HttpSession;

/// The source and the target of a COPY or MOVE.
pub struct Target {
    /// The path of the source.
    pub from: TreePath,
    /// The source.
    pub source: Entry,
    /// The path of the target.
    pub to: TreePath,
    /// What is there now, and is replaced.
    pub replaced: Option<Entry>,
    /// What a file that is copied there has to replace.
    pub expect: Expect,
}

impl Target {
    /// Checks the headers Destination and Overwrite (RFC 4918, sections 9.8.5 and 9.9.4).
    ///
    /// # Errors
    /// 403 if source and target are the same or one is inside the other; 409 if the target has no
    /// parent folder; 412 if it is there and must not be replaced.
    pub fn of(request: &mut DavRequest<'_>) -> Result<Self, DavFailure> {
        let (from, to) = (request.path.clone(), destination(request.head)?);
        let overwrite = overwrite(request.header("Overwrite"))?;
        let source = request.http.entry(&from)?.0;
        if from == to || to.is_below(&from) || from.is_below(&to) {
            let text = "source and target are the same, or one is inside the other";
            return Err(DavError::new(Status::FORBIDDEN, text).into());
        }
        request.check_parent(&to)?;
        let replaced = request.find(&to)?;
        if replaced.is_some() && !overwrite {
            let text = "the target exists, and Overwrite is F";
            return Err(DavError::new(Status::PRECONDITION_FAILED, text).into());
        }
        let expect = if overwrite { Expect::Any } else { Expect::Absent };
        Ok(Self { from, source, to, replaced, expect })
    }

    /// Removes what is at the target, unless a file replaces a file, which is one change.
    ///
    /// RFC 4918 wants a DELETE of infinite depth first, so nothing of an old folder stays.
    pub fn clear(&self, request: &mut DavRequest<'_>) -> Result<(), DavFailure> {
        let Some(replaced) = &self.replaced else { return Ok(()) };
        if (replaced.kind, self.source.kind) == (Kind::File, Kind::File) {
            return Ok(());
        }
        let (id, keepalive) = (HttpSession::change_id()?, &mut request.http.keepalive());
        let change = request.http.session.remove(id, &self.to, true, Expect::Any, keepalive)?;
        request.http.commit(change)?;
        Ok(())
    }

    /// Returns the status of success: 201 for a new resource, 204 for a replaced one.
    pub fn done(&self) -> Status {
        if self.replaced.is_some() { Status::NO_CONTENT } else { Status::CREATED }
    }
}
