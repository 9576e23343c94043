//! The login cookie of browsers: a ticket, as on the slaves of the cluster.

use relais_auth::{
    AuthenticatedUser, Ticket, csrf_token, is_csrf_token, login_cookie_name, renew_user,
    ticket_of_cookie,
};
use relais_http::{Form, RequestHead, cookie};
use relais_proto::{ErrorCode, Refusal};

use super::request::Request;
use super::site::HttpSite;

/// Header field with the token against forged requests.
const CSRF_FIELD: &str = "x-csrf-token";

impl HttpSite {
    /// Returns the login cookie of a request; none without accounts, because none is needed.
    pub(super) fn login_cookie<'a>(&self, head: &'a RequestHead) -> Option<&'a str> {
        self.core.config.accounts.current()?;
        let name = login_cookie_name(self.core.cluster);
        cookie::find(&head.headers, &name, |value| self.ticket(value).is_ok())
    }

    /// Returns the user of a login cookie, with the present rights.
    ///
    /// # Errors
    /// [`ErrorCode::BadTicket`] if it is altered or has ended, its user has logged out or was
    /// removed, or the password was changed.
    pub(super) fn user_of_cookie(&self, cookie: &str) -> Result<AuthenticatedUser, Refusal> {
        let ticket = self.ticket(cookie)?;
        let accounts = self.core.config.accounts.current();
        let user = renew_user(accounts.as_deref(), &ticket.user, ticket.password_id)?;
        user.ok_or_else(|| ended("the login is without an account"))
    }

    /// Makes a login cookie useless on all servers.
    pub(super) fn end_cookie(&self, cookie: &str) {
        if let (Ok(ticket), Some(bytes)) = (self.ticket(cookie), ticket_of_cookie(cookie)) {
            self.core.end_ticket(&ticket, &bytes);
        }
    }

    /// Checks the token of a form, if the request is authenticated by a cookie.
    ///
    /// Browsers send cookies with forms of other sites too, but those cannot know the token.
    ///
    /// # Errors
    /// [`ErrorCode::Denied`].
    pub(super) fn check_csrf(&self, request: &Request, form: &Form) -> Result<(), Refusal> {
        let headers = &request.head.headers;
        let Some(cookie) = self.login_cookie(&request.head).filter(|_| !request.has_password())
        else {
            return Ok(());
        };
        let token = headers.get(CSRF_FIELD).or_else(|| form.get("csrf")).unwrap_or_default();
        if is_csrf_token(&self.core.config.key, cookie, token) {
            return Ok(());
        }
        Err(Refusal::new(ErrorCode::Denied, "the form needs the token of its page"))
    }

    /// Returns the token that forms need; none without a login cookie.
    pub(super) fn csrf_token(&self, request: &Request) -> Option<String> {
        let cookie = self.login_cookie(&request.head).filter(|_| !request.has_password())?;
        Some(csrf_token(&self.core.config.key, cookie))
    }

    /// Returns the ticket that a cookie is.
    fn ticket(&self, cookie: &str) -> Result<Ticket, Refusal> {
        let bytes = ticket_of_cookie(cookie).ok_or_else(|| ended("the cookie is malformed"))?;
        let ticket = Ticket::open(&bytes, &self.core.config.key, self.core.cluster)
            .map_err(|e| ended(&e.to_string()))?;
        if ticket.ends_ms <= self.core.time_ms() {
            return Err(ended("the login has ended"));
        }
        if self.core.ended_tickets().contains(&ticket.user, &bytes) {
            return Err(ended("its user has logged out"));
        }
        Ok(ticket)
    }
}

fn ended(why: &str) -> Refusal {
    Refusal::new(ErrorCode::BadTicket, why)
}
