//! One HTTP connection in the pool: a request after the other, without a thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::debug;
use relais_auth::{AuthenticatedUser, LoginResult, PendingLogin};
use relais_http::{BodyLength, RequestError, RequestHead, Status};
use relais_net::{LoginHandler, LoginStep, NewConnection};
use relais_proto::{TreePath, limits};

use super::access::{PageAccess, Viewer};
use super::answer::Answer;
use super::authentication::Authentication;
use super::page::Page;
use super::request::{HttpClient, Request};
use super::site::{HttpSite, Outcome, Route};
use crate::login::LinkPeer;

/// Time that a kept connection may be idle.
const KEPT_TIME: Duration = Duration::from_secs(60);
/// Longest time that a request may take in the pool: it may wait 20 s for hashes.
const WAIT_TIME: Duration = Duration::from_secs(25);

/// What a request is for.
enum Target {
    /// A file or folder.
    Tree(TreePath),
    /// A page of the master.
    Page(Page),
}

/// The request that a connection is busy with.
enum Stage {
    Idle,
    /// The password is being verified.
    Password {
        request: Box<Request>,
        target: Target,
        pending: PendingLogin,
        _login: Arc<()>,
    },
    /// No slave can serve the request yet.
    Waiting {
        request: Box<Request>,
        path: TreePath,
        user: AuthenticatedUser,
        since: Instant,
        _wait: Arc<()>,
    },
}

type HttpStep = LoginStep<LinkPeer>;

pub(crate) struct HttpConnection {
    site: Arc<HttpSite>,
    client: HttpClient,
    stage: Stage,
    /// Wrong passwords on this connection.
    failed: u32,
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
                    self.verify(request, Target::Tree(path), pending)
                }
            },
            Route::Page(page) => match self.site.page_access(&request) {
                PageAccess::Viewer(viewer) => self.serve_page(&request, page, &viewer),
                PageAccess::Refused(answer) => self.send(&request, answer),
                PageAccess::Pending(pending) => self.verify(request, Target::Page(page), pending),
            },
        }
    }

    /// Lets a request wait for the verification of its password.
    fn verify(&mut self, request: Request, target: Target, pending: PendingLogin) -> HttpStep {
        let (request, _login) = (Box::new(request), self.site.begin_login());
        self.stage = Stage::Password { request, target, pending, _login };
        LoginStep::Pending
    }

    /// Continues a request whose password was verified.
    fn conclude(&mut self, request: Box<Request>, target: Target, result: LoginResult) -> HttpStep {
        match target {
            Target::Tree(path) => match self.site.conclude(&request, result) {
                Ok(user) => self.serve(request, path, user, None),
                Err(answer) => self.refuse_login(&request, answer),
            },
            Target::Page(page) => match self.site.conclude_page(&request, result) {
                Ok(viewer) => self.serve_page(&request, page, &viewer),
                Err(answer) => self.refuse_login(&request, answer),
            },
        }
    }

    fn refuse_login(&mut self, request: &Request, answer: Answer) -> HttpStep {
        self.failed += 1;
        self.send(request, answer.closing(self.failed >= limits::LOGIN_TRIES))
    }

    /// Answers a request for a page of the master.
    fn serve_page(&mut self, request: &Request, page: Page, viewer: &Viewer) -> HttpStep {
        let answer = self.site.page(request, page, viewer);
        self.send(request, answer)
    }

    /// Answers a request, or lets it wait; `since` is the beginning of its wait.
    fn serve(
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
    fn send(&self, request: &Request, answer: Answer) -> HttpStep {
        let head = &request.head;
        self.site.count(answer.status());
        let has_body = head.body() != Ok(BodyLength::Empty);
        match answer.closing(has_body).encode(Some(head)) {
            Ok((bytes, true)) => LoginStep::Answer(bytes),
            Ok((bytes, false)) => LoginStep::Close(bytes),
            Err(e) => {
                debug!("{}: {e}", self.client.peer);
                LoginStep::Close(Vec::new())
            }
        }
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
        // A longer head is noticed by its next byte; an empty line may be in front.
        relais_http::limits::HEAD + 3
    }

    fn idle_time(&self) -> Duration {
        KEPT_TIME
    }

    fn pending_time(&self) -> Duration {
        if matches!(self.stage, Stage::Waiting { .. }) { WAIT_TIME } else { Duration::ZERO }
    }

    fn on_input(&mut self, input: &mut Vec<u8>) -> Option<HttpStep> {
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
            Stage::Idle => None,
            Stage::Password { request, target, pending, _login } => {
                let Some(result) = pending.take() else {
                    self.stage = Stage::Password { request, target, pending, _login };
                    return None;
                };
                Some(self.conclude(request, target, result))
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
            // RFC 9110 section 15.5.9.
            Stage::Idle => Self::malformed(RequestError::new(
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
