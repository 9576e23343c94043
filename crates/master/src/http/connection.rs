//! One HTTP connection in the pool: what follows from each request.

use std::sync::Arc;
use std::time::Instant;

use log::debug;
use relais_auth::AuthenticatedUser;
use relais_http::{BodyLength, InvalidHeader, RequestError, RequestHead};
use relais_net::{LoginStep, NewConnection};
use relais_proto::TreePath;
use relais_web::encode_stream;

use super::access::{PageAccess, Viewer};
use super::answer::Answer;
use super::authentication::Authentication;
use super::page::PageOutcome;
use super::request::{HttpClient, Request};
use super::route::{Page, Route};
use super::site::{HttpSite, Outcome};
use super::stage::{HttpStep, LoginPurpose, Stage};

pub(crate) struct HttpConnection {
    pub(super) site: Arc<HttpSite>,
    pub(super) client: HttpClient,
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

    /// Handles the head of a request.
    pub(super) fn handle(&mut self, head: RequestHead) -> HttpStep {
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

    /// Returns the answer to a request that cannot be read.
    pub(super) fn malformed(error: RequestError) -> Vec<u8> {
        let encoded = Answer::rejected(None, error).encode(None);
        encoded.map(|(bytes, _)| bytes).unwrap_or_default()
    }
}
