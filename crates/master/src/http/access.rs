//! Which clients may see the pages of the master itself, and which may operate slaves there.
//!
//! The pages are open on loopback. Elsewhere they need an account with the rights `admin`, or the
//! token of the server. A signed URL of a file gives no access.

use relais_auth::{AuthenticatedUser, LoginResult, PasswordId, PendingLogin, renew_user};
use relais_proto::{ErrorCode, Refusal};

use super::answer::Answer;
use super::authentication::Authentication;
use super::request::Request;
use super::site::HttpSite;

/// The user of a page of the master.
#[derive(Clone)]
pub(super) struct Viewer {
    /// The user name; empty without an account.
    pub user: String,
    /// The token that forms need; none without a login cookie.
    pub csrf: Option<String>,
    /// Whether the user may drain slaves, make them ready, and have them verified.
    pub may_operate: bool,
    /// Whether the server has accounts.
    pub has_accounts: bool,
    login: ViewerLogin,
}

/// Why a viewer may see a page.
#[derive(Clone)]
enum ViewerLogin {
    /// By the address of the client, or by the token of the server.
    Open,
    /// By an account.
    Account {
        password_id: PasswordId,
        /// The login cookie; none for a password.
        cookie: Option<String>,
        is_local: bool,
    },
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
        let has_cookie = self.login_cookie(&request.head).is_some();
        let has_login = request.has_password() || has_cookie;
        if self.has_token(request) || request.is_local() && !has_login {
            return PageAccess::Viewer(self.open_viewer());
        }
        match self.authenticate(request) {
            Authentication::User(user) => match self.viewer_of(request, user) {
                Ok(viewer) => PageAccess::Viewer(viewer),
                Err(answer) => PageAccess::Refused(answer),
            },
            Authentication::Pending(pending) => PageAccess::Pending(pending),
            // An old cookie must not keep a client on this host from what is open.
            Authentication::Refused(_) if request.is_local() && !request.has_password() => {
                PageAccess::Viewer(self.open_viewer())
            }
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
        self.viewer_of(request, self.conclude(request, result)?)
    }

    /// Whether the viewer of a page that is still open may see it further on.
    pub(super) fn still_may_see(&self, viewer: &Viewer) -> bool {
        let (password_id, cookie, is_local) = match &viewer.login {
            ViewerLogin::Open => return true,
            ViewerLogin::Account { password_id, cookie, is_local } => {
                (*password_id, cookie, *is_local)
            }
        };
        let user = match cookie {
            Some(cookie) => self.user_of_cookie(cookie).ok(),
            None => {
                let accounts = self.core.config.accounts.current();
                renew_user(accounts.as_deref(), &viewer.user, password_id).ok().flatten()
            }
        };
        user.is_some_and(|user| is_local || user.rights.is_admin())
    }

    /// The client has no account.
    fn open_viewer(&self) -> Viewer {
        Viewer {
            user: String::new(),
            csrf: None,
            may_operate: false,
            has_accounts: self.core.config.accounts.current().is_some(),
            login: ViewerLogin::Open,
        }
    }

    /// From elsewhere only administrators may see the pages.
    fn viewer_of(&self, request: &Request, user: AuthenticatedUser) -> Result<Viewer, Answer> {
        let (may_operate, is_local) = (user.rights.is_admin(), request.is_local());
        if !may_operate && !is_local {
            let why = "this page is for clients on this host, for accounts with the rights admin, \
                       and for the token of the server";
            return Err(Answer::refused(&request.head, &Refusal::new(ErrorCode::Denied, why)));
        }
        let cookie = self.login_cookie(&request.head).filter(|_| !request.has_password());
        let (password_id, cookie) = (user.password_id, cookie.map(str::to_owned));
        Ok(Viewer {
            csrf: self.csrf_token(request),
            may_operate,
            has_accounts: self.core.config.accounts.current().is_some(),
            login: ViewerLogin::Account { password_id, cookie, is_local },
            user: user.name,
        })
    }

    fn has_token(&self, request: &Request) -> bool {
        let token = self.config.metrics_token.as_ref();
        let field = request.head.headers.get("authorization");
        token.zip(field).is_some_and(|(token, field)| token.is_in(field))
    }
}
