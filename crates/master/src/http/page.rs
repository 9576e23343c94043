//! The pages of the master itself, below `/-/`.

use relais_http::{Method, RequestError, Response, Status};

use relais_web::page::Asset;

use super::access::Viewer;
use super::answer::Answer;
use super::request::Request;
use super::route::{FormKind, Page, Route};
use super::site::HttpSite;
use super::status::{self, StatusStream};

/// What follows from a request for a page.
pub(super) enum PageOutcome {
    Answer(Answer),
    /// The head, and what follows it until one side ends the connection.
    Stream(Response, Box<StatusStream>),
}

impl HttpSite {
    /// Finds the page with a name, which is its path without `/-/`.
    pub(super) fn route_page(&self, request: &Request, name: &str) -> Route {
        const NO_PAGE: RequestError = RequestError::new(Status::NOT_FOUND, "there is no such page");
        let head = &request.head;
        let reads = head.method.is_get_or_head();
        let form = FormKind::of_name(name);
        match (form, Page::of_name(name), Asset::find(&status::ASSETS, &head.target.path)) {
            (Some(kind), ..) if head.method == Method::Post => Route::Form(kind),
            (Some(FormKind::Login), ..) if reads => Route::Answer(self.login_form(head)),
            (Some(FormKind::Login), ..) => not_allowed(request, "GET, HEAD, POST"),
            (Some(_), ..) => not_allowed(request, "POST"),
            (None, None, None) => Route::Answer(Answer::rejected(Some(head), NO_PAGE)),
            (_, Some(Page::StatusEvents), _) if head.method != Method::Get => {
                not_allowed(request, "GET")
            }
            _ if !reads => not_allowed(request, "GET, HEAD"),
            (_, Some(page), _) => Route::Page(page),
            (.., Some(asset)) => Route::Answer(Answer::of(asset.response(head), asset.content)),
        }
    }

    /// Answers a request for a page.
    pub(super) fn page(&self, request: &Request, page: Page, viewer: &Viewer) -> PageOutcome {
        PageOutcome::Answer(match page {
            Page::Status => self.status(request, viewer),
            Page::Metrics => self.metrics(request),
            Page::Operations(number) => self.operation_page(request, number, viewer),
            Page::StatusEvents => match self.status_stream(request, viewer) {
                Ok(stream) => {
                    let head = Response::new(Status::OK)
                        .with("Content-Type", "text/event-stream")
                        .with("Cache-Control", "no-store")
                        .with("X-Content-Type-Options", "nosniff");
                    return PageOutcome::Stream(head, Box::new(stream));
                }
                Err(answer) => answer,
            },
        })
    }
}

fn not_allowed(request: &Request, allowed: &'static str) -> Route {
    Route::Answer(Answer::method_not_allowed(&request.head, allowed))
}
