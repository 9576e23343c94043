//! One HTTP connection in the pool: a request after the other, without a thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::debug;
use relais_auth::AuthenticatedUser;
use relais_http::{BodyLength, InvalidHeader, RequestError, RequestHead, Status};
use relais_net::{LoginHandler, LoginStep, NewConnection};
use relais_proto::TreePath;
use relais_web::encode_stream;

use super::access::{PageAccess, Viewer};
use super::answer::Answer;
use super::authentication::Authentication;
use super::limits::STREAM_TIME;
use super::page::PageOutcome;
use super::request::{HttpClient, Request};
use super::route::{Page, Route};
use super::site::{HttpSite, Outcome};
use super::stage::{HttpStep, LoginPurpose, Stage};
use crate::login::LinkPeer;

/// Time that a kept connection may be idle.
const KEPT_TIME: Duration = Duration::from_secs(60);
/// Longest time that a request may take in the pool: it may wait 20 s for hashes.
const WAIT_TIME: Duration = Duration::from_secs(25);

pub(crate) struct HttpConnection {
    pub(super) site: Arc<HttpSite>,
    client: HttpClient,
    pub(super) stage: Stage,
    /// Wrong passwords on this connection.
    pub(super) failed: u32,
}

impl HttpConnection {
    pub fn new(site: Arc<HttpSite>, new: NewConnection, encrypted: bool) -> Self {
        let NewConnection { peer, local, .. } = new;
        let client = HttpClient { peer, local, encrypted };
        Self { site, client, stage: Stage::Idle, failed: 0 }
    }

    fn handle(&mut self, head: RequestHead) -> HttpStep {
        let request = Request { head, client: self.client };
        if let Err(e) = request.head.body().and_then(|_| request.head.expects_continue()) {
            let answer = Answer::rejected(Some(&request.head), e).closing(true);
            return self.send(&request, answer);
        }
        match self.site.route(&request) {
            Route::Answer(answer) => self.send(&request, answer),
            Route::Tree(path) => match self.site.authenticate(&request) {
                Authentication::User(user) => self.serve(Box::new(request), path, user, None),
                Authentication::Refused(answer) => self.send(&request, answer),
                Authentication::Pending(pending) => {
                    self.verify(request, LoginPurpose::Tree(path), pending)
                }
            },
            Route::Form(kind) => self.begin_form(request, kind),
            Route::Page(page) => match self.site.page_access(&request) {
                PageAccess::Viewer(viewer) => self.serve_page(&request, page, &viewer),
                PageAccess::Refused(answer) => self.send(&request, answer),
                PageAccess::Pending(pending) => {
                    self.verify(request, LoginPurpose::Page(page), pending)
                }
            },
        }
    }

    /// Answers a request for a page of the master.
    pub(super) fn serve_page(
        &mut self,
        request: &Request,
        page: Page,
        viewer: &Viewer,
    ) -> HttpStep {
        match self.site.page(request, page, viewer) {
            PageOutcome::Answer(answer) => self.send(request, answer),
            PageOutcome::Stream(response, stream) => {
                self.site.count(response.status);
                match encode_stream(&response) {
                    Ok(head) => {
                        self.stage = Stage::Stream(stream);
                        LoginStep::Stream(head)
                    }
                    Err(e) => self.cut(&e),
                }
            }
        }
    }

    /// Answers a request, or lets it wait; `since` is the beginning of its wait.
    pub(super) fn serve(
        &mut self,
        request: Box<Request>,
        path: TreePath,
        user: AuthenticatedUser,
        since: Option<Instant>,
    ) -> HttpStep {
        let since = since.unwrap_or_else(Instant::now);
        match self.site.answer(&request, &path, &user, since.elapsed()) {
            Outcome::Answer(answer) => self.send(&request, answer),
            Outcome::Wait => {
                let _wait = self.site.begin_wait();
                self.stage = Stage::Waiting { request, path, user, since, _wait };
                LoginStep::Pending
            }
        }
    }

    /// Sends an answer. The connection is closed if the request has a body, which is not read.
    pub(super) fn send(&self, request: &Request, answer: Answer) -> HttpStep {
        let head = &request.head;
        self.site.count(answer.status());
        let has_body = head.body() != Ok(BodyLength::Empty);
        match answer.closing(has_body).encode(Some(head)) {
            Ok((bytes, true)) => LoginStep::Answer(bytes),
            Ok((bytes, false)) => LoginStep::Close(bytes),
            Err(e) => self.cut(&e),
        }
    }

    fn cut(&self, why: &InvalidHeader) -> HttpStep {
        debug!("{}: {why}", self.client.peer);
        LoginStep::Close(Vec::new())
    }

    fn malformed(error: RequestError) -> Vec<u8> {
        let encoded = Answer::rejected(None, error).encode(None);
        encoded.map(|(bytes, _)| bytes).unwrap_or_default()
    }
}

impl LoginHandler for HttpConnection {
    type Value = LinkPeer;

    fn is_known(&self) -> bool {
        self.site.core.passwords.is_known(self.client.peer.ip())
    }

    fn input_limit(&self, _: &[u8]) -> usize {
        match self.stage {
            Stage::Form { length, .. } => length,
            // A longer head is noticed by its next byte; an empty line may be in front.
            _ => relais_http::limits::HEAD + 3,
        }
    }

    fn idle_time(&self) -> Duration {
        KEPT_TIME
    }

    fn pending_time(&self) -> Duration {
        match self.stage {
            Stage::Waiting { .. } => WAIT_TIME,
            Stage::Stream(_) => STREAM_TIME,
            Stage::Idle | Stage::Form { .. } | Stage::Password { .. } => Duration::ZERO,
        }
    }

    fn on_input(&mut self, input: &mut Vec<u8>) -> Option<HttpStep> {
        if let Stage::Form { length, .. } = self.stage {
            let body: Vec<u8> = input.get(..length)?.to_vec();
            input.drain(..length);
            return match std::mem::replace(&mut self.stage, Stage::Idle) {
                Stage::Form { request, kind, .. } => Some(self.handle_form(*request, kind, &body)),
                _ => None,
            };
        }
        match RequestHead::parse(input) {
            Ok(None) => None,
            Ok(Some((head, length))) => {
                input.drain(..length);
                Some(self.handle(head))
            }
            Err(e) => {
                debug!("{}: {e}", self.client.peer);
                Some(LoginStep::Close(Self::malformed(e)))
            }
        }
    }

    fn poll_pending(&mut self) -> Option<HttpStep> {
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            stage @ (Stage::Idle | Stage::Form { .. }) => {
                self.stage = stage;
                None
            }
            Stage::Password { request, purpose, pending, _login } => {
                let Some(result) = pending.take() else {
                    self.stage = Stage::Password { request, purpose, pending, _login };
                    return None;
                };
                Some(self.conclude(request, purpose, result))
            }
            Stage::Stream(mut stream) => {
                let step = stream.poll(&self.site);
                if !matches!(step, Some(LoginStep::Close(_))) {
                    self.stage = Stage::Stream(stream);
                }
                step
            }
            Stage::Waiting { request, path, user, since, _wait } => {
                match self.serve(request, path, user, Some(since)) {
                    LoginStep::Pending => None,
                    step => Some(step),
                }
            }
        }
    }

    fn refuse_clear_text(&mut self, _: &[u8]) -> Vec<u8> {
        Self::malformed(RequestError::bad("this port speaks HTTPS; use https:// in the URL"))
    }

    fn expire(&mut self, input: &[u8]) -> Vec<u8> {
        match self.stage {
            Stage::Idle if input.is_empty() => Vec::new(),
            Stage::Stream(_) => Vec::new(),
            // RFC 9110 section 15.5.9.
            Stage::Idle | Stage::Form { .. } => Self::malformed(RequestError::new(
                Status::REQUEST_TIMEOUT,
                "the request did not arrive in time",
            )),
            _ => Self::malformed(RequestError::new(
                Status::SERVICE_UNAVAILABLE,
                "the answer took too long; try again later",
            )),
        }
    }
}
