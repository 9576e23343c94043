//! The pages of the master itself, below `/-/`.

use relais_http::{RequestError, Status};

use super::access::Viewer;
use super::answer::Answer;
use super::request::Request;
use super::site::{HttpSite, Route};
use super::status;

/// A page that is for some clients alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Page {
    /// The state of the cluster.
    Status,
}

impl HttpSite {
    /// Finds the page with a name, which is its path without `/-/`.
    pub(super) fn route_page(&self, request: &Request, name: &str) -> Route {
        const NO_PAGE: RequestError = RequestError::new(Status::NOT_FOUND, "there is no such page");
        let head = &request.head;
        let asset = status::asset_at(&head.target.path);
        if name != "status" && asset.is_none() {
            return Route::Answer(Answer::rejected(Some(head), NO_PAGE));
        }
        if !head.method.is_get_or_head() {
            return Route::Answer(Answer::method_not_allowed(head, "GET, HEAD"));
        }
        match asset {
            Some(asset) => Route::Answer(Answer::of(asset.response(head), asset.content)),
            None => Route::Page(Page::Status),
        }
    }

    /// Answers a request for a page.
    pub(super) fn page(&self, request: &Request, page: Page, viewer: &Viewer) -> Answer {
        match page {
            Page::Status => self.status(request, viewer),
        }
    }
}
