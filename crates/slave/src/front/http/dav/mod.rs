//! WebDAV class 1 and 2 (RFC 4918): what each method does with a session of the engine.
//!
//! A handler gets a request with its whole body and returns an answer, which the HTTP front end
//! sends. Only the answer to PROPFIND is made while it is sent. Locks and dead properties are state
//! of the cluster: this module keeps nothing.

mod conditions;
mod copies;
mod destination;
mod failure;
mod folders;
mod locked;
mod locks;
mod moves;
mod properties;
mod propfind;
mod proppatch;
mod request;
mod targets;
mod tokens;

pub use conditions::apply_if;
pub use locked::name_locks;

use std::io;

use relais_http::{Method, Response};
use relais_web::{BodyWriter, ResponseBody};

use self::failure::XML;
use self::request::{DavAnswer, DavBody, DavRequest, DavResult};
use super::error::{HttpError, HttpResult};
use super::request::{METHODS, TreeRequest};
use super::session::HttpSession;

/// Answers a request of a method of WebDAV.
pub fn run(http: &mut HttpSession, request: &TreeRequest<'_>) -> HttpResult {
    let head = &request.request.head;
    let handler = handler(&head.method).ok_or(HttpError::NotAllowed(METHODS))?;
    let body = http.read_small_body(relais_dav::limits::BODY_MAX)?;
    let mut dav = DavRequest { http, head, path: request.path.clone(), body };
    match handler(&mut dav) {
        Ok(answer) => send(http, request, answer),
        Err(failure) => Err(failure.into_error(head)),
    }
}

/// What answers the requests of a method.
type Handler = fn(&mut DavRequest<'_>) -> DavResult;

/// Returns the handler of a method; none for one that WebDAV does not have.
fn handler(method: &Method) -> Option<Handler> {
    Some(match method {
        Method::Mkcol => folders::make_folder,
        Method::Copy => copies::copy,
        Method::Move => moves::move_entry,
        Method::Propfind => propfind::propfind,
        Method::Proppatch => proppatch::proppatch,
        Method::Lock => locks::lock,
        Method::Unlock => locks::unlock,
        _ => return None,
    })
}

fn send(http: &mut HttpSession, request: &TreeRequest<'_>, answer: DavAnswer) -> HttpResult {
    let mut response = Response::new(answer.status).with("Cache-Control", "no-store");
    for (name, value) in answer.headers {
        response.headers.insert(name, value);
    }
    if !matches!(answer.body, DavBody::Empty) {
        response.headers.insert("Content-Type", XML);
    }
    match answer.body {
        DavBody::Empty => http.respond(request.request, response, &[]),
        DavBody::Xml(body) => http.respond(request.request, response, &body),
        DavBody::Streamed(mut members) => {
            http.add_common(request.request, &mut response);
            let (session, keepalive) = (&http.session, &mut http.keepalive());
            let mut write = |writer: &mut BodyWriter<'_>| members.send(session, keepalive, writer);
            let body = ResponseBody::Stream { length: None, write: &mut write };
            // After an error the connection cannot be used, whatever the reason.
            let sent = http.connection.respond(&response, body);
            sent.map_err(|e| HttpError::Connection(io::Error::other(e)))
        }
    }
}
