//! The loop of an HTTP session: carries out requests of one login in turn.
//!
//! It waits a moment for the next request, so that a busy connection costs no thread for each. A
//! request with another login, and an idle connection, go back to the pool.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use log::debug;
use relais_engine::Engine;
use relais_http::RequestHead;
use relais_proto::{ErrorCode, Refusal};
use relais_web::{HttpConnection, NextRequest, ResponseBody, WebError};

use super::HttpContext;
use super::answer::Answer;
use super::dispatch;
use super::error::HttpError;
use super::limits::NEXT_REQUEST_TIME;
use super::pool_page::PoolPage;
use super::request::{
    AdmittedRequest, CheckedRequest, FollowingRequest, HttpStart, KeptConnection,
};
use super::session::HttpSession;

/// Serves requests until either side closes the connection, or it goes back to the pool.
pub fn serve(
    start: HttpStart,
    engine: &Arc<Engine>,
    context: &Arc<HttpContext>,
) -> Option<KeptConnection> {
    let HttpStart { stream, principal, request } = start;
    let AdmittedRequest { protocol, request, input } = request;
    let peer = stream.peer;
    let connection = HttpConnection::new(stream, input);
    let connection = connection.inspect_err(|e| debug!("{peer}: {e}")).ok()?;
    let origin = request.origin();
    let http = HttpSession::open(connection, (principal, protocol), origin, engine, context);
    match run(http, request) {
        Ok(kept) => kept,
        Err(e) => {
            debug!("{peer}: the session was cut: {e}");
            None
        }
    }
}

fn run(mut http: HttpSession, mut request: CheckedRequest) -> io::Result<Option<KeptConnection>> {
    loop {
        answer(&mut http, &request)?;
        let next = http.connection.read_head(Instant::now() + NEXT_REQUEST_TIME);
        let head = match next {
            Ok(NextRequest::Head(head)) => *head,
            Ok(NextRequest::Idle) => return Ok(Some(give_back(http, None))),
            Ok(NextRequest::Closed) => {
                http.connection.close();
                return Ok(None);
            }
            Err(WebError::Request(error)) => {
                let Answer { response, body, .. } = Answer::malformed(&error);
                let sent = http.connection.respond(&response, ResponseBody::Bytes(&body));
                sent.map_err(io::Error::other)?;
                http.connection.close();
                return Ok(None);
            }
            Err(e) => return Err(io::Error::other(e)),
        };
        let stream = http.connection.stream();
        let (peer, is_encrypted) = (stream.peer, stream.is_encrypted());
        // The pool answers requests of other logins, its own pages, and what is rejected.
        let checked = http.context.check(head.clone(), peer, is_encrypted);
        match checked {
            Ok(next)
                if next.has_login_of(&http.origin)
                    && PoolPage::at(&next.head.target.path).is_none() =>
            {
                request = next;
            }
            _ => return Ok(Some(give_back(http, Some(head)))),
        }
    }
}

fn give_back(http: HttpSession, head: Option<RequestHead>) -> KeptConnection {
    let (stream, input) = http.connection.into_parts();
    KeptConnection { stream, next: FollowingRequest { head, input } }
}

/// Carries out a request and answers it.
fn answer(http: &mut HttpSession, request: &CheckedRequest) -> io::Result<()> {
    let result = begin(http, request).and_then(|()| dispatch::run(http, request));
    let Err(error) = result else { return Ok(()) };
    let answer = error.into_answer(request)?;
    match http.respond_answer(request, answer) {
        Err(HttpError::Connection(e)) => Err(e),
        _ => Ok(()),
    }
}

/// Prepares the session for a request.
fn begin(http: &mut HttpSession, request: &CheckedRequest) -> Result<(), HttpError> {
    http.connection.begin(&request.head)?;
    let seen = http.context.seen_by(&request.head.headers)?;
    http.session.observe(seen);
    let login = http.context.check_login_not_ended(&request.credentials);
    let ready =
        login.and_then(|()| http.session.renew_login()).and_then(|()| http.session.check_open());
    ready.map_err(|refusal| ended(http, request, refusal))
}

/// Returns the error for a session that has ended, after which the connection is closed.
fn ended(http: &HttpSession, request: &CheckedRequest, refusal: Refusal) -> HttpError {
    if refusal.code == ErrorCode::BadTicket {
        http.context.forget(&request.credentials, request.client);
    }
    let answer = Answer::refused(&request.head, &refusal);
    match refusal.code {
        ErrorCode::BadTicket | ErrorCode::Draining => answer.closing().into(),
        _ => answer.into(),
    }
}
