//! Which clients may see the pages of the master itself.

use relais_auth::{AuthenticatedUser, LoginResult, PendingLogin};
use relais_proto::{ErrorCode, Refusal};

use super::answer::Answer;
use super::authentication::Authentication;
use super::request::Request;
use super::site::HttpSite;

/// The user of a page of the master.
#[derive(Debug, Clone, Default)]
pub(super) struct Viewer {
    /// The user name; empty without an account.
    pub user: String,
    /// The token that forms need; none without a login cookie.
    pub csrf: Option<String>,
}

/// What follows from a request for a page of the master.
pub(super) enum PageAccess {
    /// The client may see the page.
    Viewer(Viewer),
    /// The password is being verified.
    Pending(PendingLogin),
    /// The request is refused.
    Refused(Answer),
}

impl HttpSite {
    /// Finds out whether the client of a request may see the pages of the master.
    pub(super) fn page_access(&self, request: &Request) -> PageAccess {
        if self.may_see_metrics(request) {
            return PageAccess::Viewer(Viewer::default());
        }
        match self.authenticate(request) {
            Authentication::User(user) => match viewer_of(request, user) {
                Ok(viewer) => PageAccess::Viewer(viewer),
                Err(answer) => PageAccess::Refused(answer),
            },
            Authentication::Pending(pending) => PageAccess::Pending(pending),
            Authentication::Refused(answer) => PageAccess::Refused(answer),
        }
    }

    /// Handles the result of a password check.
    ///
    /// # Errors
    /// The answer that refuses the request.
    pub(super) fn conclude_page(
        &self,
        request: &Request,
        result: LoginResult,
    ) -> Result<Viewer, Answer> {
        viewer_of(request, self.conclude(request, result)?)
    }
}

/// Only administrators may see the pages from elsewhere.
fn viewer_of(request: &Request, user: AuthenticatedUser) -> Result<Viewer, Answer> {
    if user.rights.is_admin() {
        return Ok(Viewer { user: user.name, csrf: None });
    }
    let why = "this page is for clients on this host, and for accounts with the rights admin";
    Err(Answer::refused(&request.head, &Refusal::new(ErrorCode::Denied, why)))
}
