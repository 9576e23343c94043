//! What a WebDAV request is made of, and its answer.

use std::io;

use relais_dav::DavError;
use relais_engine::{KeepAlive, Session};
use relais_http::{RequestHead, Status};
use relais_proto::{Entry, ErrorCode, Kind, Refusal, TreePath};
use relais_web::BodyWriter;

use super::failure::DavFailure;
use crate::front::http::session::HttpSession;

/// A request of a method of WebDAV.
pub struct DavRequest<'a> {
    /// The session.
    pub http: &'a mut HttpSession,
    /// The head.
    pub head: &'a RequestHead,
    /// The path of the target.
    pub path: TreePath,
    /// The whole body.
    pub body: Vec<u8>,
}

/// The answer to a request that succeeds, at least in part.
pub struct DavAnswer {
    /// The status.
    pub status: Status,
    /// Header fields besides those that all answers have.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: DavBody,
}

/// The body of an answer.
pub enum DavBody {
    /// None.
    Empty,
    /// An XML document.
    Xml(Vec<u8>),
    /// An XML document that is made while it is sent.
    Streamed(Box<dyn StreamedBody>),
}

/// A body that is made while it is sent.
pub trait StreamedBody {
    /// Sends the body in parts.
    ///
    /// # Errors
    /// Those of the connection; a refusal that ends the body is one too: it stays incomplete.
    fn send(
        &mut self,
        session: &Session,
        keepalive: &mut dyn KeepAlive,
        writer: &mut BodyWriter<'_>,
    ) -> io::Result<()>;
}

/// What a handler returns.
pub type DavResult = Result<DavAnswer, DavFailure>;

impl DavAnswer {
    /// An answer without a body.
    pub fn empty(status: Status) -> Self {
        Self { status, headers: Vec::new(), body: DavBody::Empty }
    }

    /// An answer with an XML document.
    pub fn xml(status: Status, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: DavBody::Xml(body.into()) }
    }
}

impl DavRequest<'_> {
    /// Returns the entry at a path; none if there is nothing.
    pub fn find(&self, path: &TreePath) -> Result<Option<Entry>, Refusal> {
        match self.http.entry(path) {
            Ok((entry, _)) => Ok(Some(entry)),
            Err(refusal) if is_missing(refusal.code) => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    /// Checks that the folder is there in which an entry is to be made: 409 (RFC 4918, 9.3.1).
    pub fn check_parent(&self, path: &TreePath) -> Result<(), DavFailure> {
        let Some((parent, _)) = path.split_last() else { return Ok(()) };
        if parent.is_root() {
            return Ok(());
        }
        match self.find(&parent)? {
            Some(entry) if entry.kind == Kind::Folder => Ok(()),
            _ => Err(DavError::new(Status::CONFLICT, "the parent folder does not exist").into()),
        }
    }

    /// Returns the header field with a name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name)
    }
}

/// Whether an error says that there is no such entry.
pub fn is_missing(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::NotFound | ErrorCode::NotFolder)
}
