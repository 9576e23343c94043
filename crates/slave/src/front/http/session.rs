//! The state of one HTTP session, and what the handlers share.
//!
//! It belongs to one thread. A handler sends its answer by a method of the session; an error is
//! answered by the loop.

use std::io;
use std::net::Shutdown;
use std::sync::Arc;

use relais_engine::{Committed, Engine, Located, PreparedChange, Principal, Protocol, Session};
use relais_http::Response;
use relais_proto::{ChangeId, Digest, Entry, ErrorCode, Refusal, TreePath};
use relais_web::{HttpConnection, ResponseBody};

use super::HttpContext;
use super::answer::Answer;
use super::credentials::Credentials;
use super::error::{HttpError, HttpResult};
use super::keep_alive::{ChangeKeepAlive, HttpKeepAlive};
use super::request::{CheckedRequest, LoginOrigin};

/// The session of a user over one connection.
pub struct HttpSession {
    /// The connection.
    pub connection: HttpConnection,
    /// What the user may do.
    pub session: Session,
    /// What all HTTP sessions of the worker share.
    pub context: Arc<HttpContext>,
    /// What the requests of this session have in common.
    pub origin: LoginOrigin,
}

impl HttpSession {
    /// Opens the session of a user.
    #[must_use]
    pub fn open(
        connection: HttpConnection,
        (principal, protocol): (Principal, Protocol),
        origin: LoginOrigin,
        engine: &Arc<Engine>,
        context: &Arc<HttpContext>,
    ) -> Self {
        let weak = Arc::downgrade(connection.stream());
        let disconnect = Arc::new(move || {
            if let Some(stream) = weak.upgrade() {
                // It may be closed already; then its session ends without this.
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
        let address = origin.client.address;
        let session = Session::new(engine.clone(), principal, protocol, address, disconnect);
        Self { connection, session, context: context.clone(), origin }
    }

    /// Returns the token that changes by a page need; none if the user has no cookie.
    #[must_use]
    pub fn csrf_token(&self) -> Option<String> {
        match &self.origin.credentials {
            Credentials::Cookie(cookie) => self.context.cookies.csrf_token(cookie),
            _ => None,
        }
    }

    /// Returns what notices that the client has gone.
    #[must_use]
    pub fn keepalive(&self) -> HttpKeepAlive {
        HttpKeepAlive(self.connection.stream().clone())
    }

    /// Returns the file or folder at a path, and the digest of a file if it is known.
    ///
    /// # Errors
    /// The refusal if there is none; those of [`Session::check_ready`].
    pub fn entry(&self, path: &TreePath) -> Result<(Entry, Option<Digest>), Refusal> {
        let keepalive = &mut self.keepalive();
        // Unlike `stat` this does not ask the master for the holders of the content.
        let list = self.session.stat_many(std::slice::from_ref(path), keepalive)?;
        let missing = || Refusal::new(ErrorCode::NotFound, "no such file or folder");
        list.results.into_iter().next().ok_or_else(missing)?
    }

    /// Returns the digest of a file, which is computed; none if its content is elsewhere.
    ///
    /// # Errors
    /// As [`Session::hash`].
    pub fn computed_digest(&self, path: &TreePath) -> Result<Option<Digest>, Refusal> {
        Ok(match self.session.hash(path, &mut self.keepalive())? {
            Located::Here(details) => details.digest,
            Located::Elsewhere(_) => None,
        })
    }

    /// Returns the id of a new change.
    ///
    /// # Errors
    /// The kernel provides no random bytes.
    pub fn change_id() -> Result<ChangeId, Refusal> {
        let bytes = relais_os::random();
        bytes.map(ChangeId).map_err(|e| Refusal::new(ErrorCode::Storage, e.to_string()))
    }

    /// Hands a change in and waits until it is made. Later requests of this session see it.
    ///
    /// # Errors
    /// The reason why the change was not made.
    pub fn commit(&mut self, change: PreparedChange) -> Result<Committed, Refusal> {
        let committed = self.session.commit(change, &mut ChangeKeepAlive)?;
        self.session.observe(committed.version);
        Ok(committed)
    }

    /// Reads the whole body of a request, at most `most` bytes.
    ///
    /// # Errors
    /// Status 413 for a longer one; the connection has failed.
    pub fn read_small_body(&mut self, most: usize) -> HttpResult<Vec<u8>> {
        Ok(self.connection.body().read_all(most)?)
    }

    /// Adds the fields that each answer of a session has.
    pub fn add_common(&self, request: &CheckedRequest, response: &mut Response) {
        let lsn = self.session.engine().visible_lsn();
        self.context.add_change(request, lsn, &mut response.headers);
        if self.connection.stream().has_ended_reading() {
            // This slave ends its sessions.
            response.headers.insert("Connection", "close");
        }
    }

    /// Sends an answer with a body that fits into memory.
    ///
    /// # Errors
    /// That of the connection.
    pub fn respond(
        &mut self,
        request: &CheckedRequest,
        response: Response,
        body: &[u8],
    ) -> HttpResult {
        self.respond_with(request, response, ResponseBody::Bytes(body))
    }

    /// Sends an answer with any body.
    ///
    /// # Errors
    /// That of the connection, or of the body: the connection has ended then.
    pub fn respond_with(
        &mut self,
        request: &CheckedRequest,
        mut response: Response,
        body: ResponseBody<'_>,
    ) -> HttpResult {
        self.add_common(request, &mut response);
        // After an error the connection cannot be used, whatever the reason.
        self.connection
            .respond(&response, body)
            .map_err(|e| HttpError::Connection(io::Error::other(e)))
    }

    /// Sends an answer that was made without the session.
    ///
    /// # Errors
    /// That of the connection.
    pub fn respond_answer(&mut self, request: &CheckedRequest, answer: Answer) -> HttpResult {
        let Answer { mut response, body, closes } = answer;
        if closes {
            response.headers.insert("Connection", "close");
        }
        self.respond(request, response, &body)
    }
}
