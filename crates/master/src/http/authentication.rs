//! The user of a request: without accounts every client, else by Basic or a cookie.

use std::time::Instant;

use relais_auth::{AuthenticatedUser, LoginNames, LoginResult, PendingLogin, renew_user};
use relais_http::{Status, auth};
use relais_proto::{ErrorCode, Refusal};
use relais_web::{is_browser, login_location};

use super::answer::Answer;
use super::request::Request;
use super::site::HttpSite;
use crate::logins::{LoginRequest, LoginStart};

/// What follows from the credentials of a request.
pub(super) enum Authentication {
    /// The user is known.
    User(AuthenticatedUser),
    /// The password is being verified.
    Pending(PendingLogin),
    /// The request is refused.
    Refused(Answer),
}

impl HttpSite {
    /// Finds the user of a request (RFC 7617).
    pub(super) fn authenticate(&self, request: &Request) -> Authentication {
        match self.try_authenticate(request) {
            Ok(authentication) => authentication,
            Err(refusal) => Authentication::Refused(refuse(request, &refusal)),
        }
    }

    fn try_authenticate(&self, request: &Request) -> Result<Authentication, Refusal> {
        let Request { head, client } = request;
        let field = head.headers.get("authorization");
        if self.core.config.accounts.current().is_some() || field.is_some() {
            self.check_password_allowed(request)?;
        }
        if let (None, Some(cookie)) = (field, self.login_cookie(head)) {
            return self.user_of_cookie(cookie).map(Authentication::User);
        }
        if let Some(user) = field.and_then(|field| self.remembered(field, request)) {
            return Ok(Authentication::User(user));
        }
        let credentials = match auth::basic(&head.headers) {
            Ok(credentials) => credentials,
            Err(e) => {
                return Ok(Authentication::Refused(Answer::rejected(Some(head), e)));
            }
        };
        let (user, password, names) = match &credentials {
            Some(given) => (&*given.user, &given.password[..], LoginNames::WithAnonymous),
            None => ("", &[][..], LoginNames::Native),
        };
        let source = client.peer.ip().into();
        let login = LoginRequest { source, user, password, names, is_local: true };
        Ok(match self.core.log_in(&login)? {
            LoginStart::Admitted(user) => Authentication::User(user),
            LoginStart::Pending(pending) => Authentication::Pending(pending),
        })
    }

    /// Handles the result of a password check.
    ///
    /// # Errors
    /// The answer that refuses the request.
    pub(super) fn conclude(
        &self,
        request: &Request,
        result: LoginResult,
    ) -> Result<AuthenticatedUser, Answer> {
        let user = result.map_err(|refusal| Answer::refused(&request.head, &refusal))?;
        if let Some(field) = request.head.headers.get("authorization") {
            self.logins.insert(field, request.client.peer.ip(), &user, Instant::now());
        }
        Ok(user)
    }

    /// Returns the user of verified credentials, with its present rights.
    fn remembered(&self, field: &str, request: &Request) -> Option<AuthenticatedUser> {
        let (user, id) = self.logins.get(field, request.client.peer.ip(), Instant::now())?;
        renew_user(self.core.config.accounts.current().as_deref(), &user, id).ok().flatten()
    }

    /// Checks that this client may send a password.
    ///
    /// # Errors
    /// [`ErrorCode::TlsNeeded`].
    pub(super) fn check_password_allowed(&self, request: &Request) -> Result<(), Refusal> {
        let client = request.client;
        if client.encrypted || self.config.clear_passwords.allows(client.peer.ip()) {
            return Ok(());
        }
        let why = "passwords are accepted over TLS alone; use https";
        Err(Refusal::new(ErrorCode::TlsNeeded, why))
    }
}

/// Leads a browser to the login page; other clients are asked for a password.
fn refuse(request: &Request, refusal: &Refusal) -> Answer {
    let head = &request.head;
    let needs_login = [ErrorCode::LoginNeeded, ErrorCode::BadTicket].contains(&refusal.code);
    if needs_login && head.method.is_get_or_head() && is_browser(head) {
        return Answer::empty(Status::SEE_OTHER).with("Location", login_location(head));
    }
    Answer::refused(head, refusal)
}
