//! `/-/login` and `/-/logout`: a browser gets a cookie for a name and a password, or gives it up.

use std::time::Duration;

use relais_auth::{LoginNames, LoginResult, PendingLogin, login_cookie_name, ticket_to_cookie};
use relais_http::{Form, RequestHead, Response, Status};
use relais_proto::{ErrorCode, Refusal, limits};
use relais_web::page::{LoginForm, Nonce};
use relais_web::{login_cookie, next_path, wants_page};

use super::answer::Answer;
use super::request::Request;
use super::site::HttpSite;
use crate::logins::{LoginRequest, LoginStart};

/// What follows from a login form.
pub(super) enum LoginFormStep {
    Answer(Answer),
    /// The password is being verified; the path follows a login.
    Pending(PendingLogin, String),
}

impl HttpSite {
    /// Answers a request for the login page.
    pub(super) fn login_form(&self, head: &RequestHead) -> Answer {
        match head.target.parameters() {
            Ok(query) => login_page(head, next_path(query.get("next")), None),
            Err(e) => Answer::rejected(Some(head), e),
        }
    }

    /// Begins the login of a form.
    pub(super) fn begin_form_login(&self, request: &Request, form: &Form) -> LoginFormStep {
        let next = next_path(form.get("next")).to_owned();
        match self.try_form_login(request, form) {
            Ok(LoginStart::Pending(pending)) => LoginFormStep::Pending(pending, next),
            Ok(LoginStart::Admitted(user)) => {
                let answer = self.conclude_form_login(request, &next, Ok(user));
                LoginFormStep::Answer(answer.unwrap_or_else(|refused| refused))
            }
            Err(refusal) => LoginFormStep::Answer(login_page(&request.head, &next, Some(&refusal))),
        }
    }

    fn try_form_login(&self, request: &Request, form: &Form) -> Result<LoginStart, Refusal> {
        self.check_password_allowed(request)?;
        let user = form.get("user").unwrap_or_default();
        let password = form.get("password").unwrap_or_default();
        if user.len() > limits::USER || password.len() > limits::PASSWORD {
            let why = "the name or the password is too long";
            return Err(Refusal::new(ErrorCode::LoginRefused, why));
        }
        let (source, password) = (request.client.peer.ip().into(), password.as_bytes());
        let names = LoginNames::WithAnonymous;
        self.core.log_in(&LoginRequest { source, user, password, names, is_local: true })
    }

    /// Returns the answer to a form whose login has a result.
    ///
    /// # Errors
    /// The answer to a login that is refused.
    pub(super) fn conclude_form_login(
        &self,
        request: &Request,
        next: &str,
        result: LoginResult,
    ) -> Result<Answer, Answer> {
        let refused = |refusal: &Refusal| login_page(&request.head, next, Some(refusal));
        let user = result.map_err(|refusal| refused(&refusal))?;
        if user.name.is_empty() {
            let why = "there are no accounts on this server; no login is needed";
            return Err(refused(&Refusal::new(ErrorCode::LoginRefused, why)));
        }
        let value = ticket_to_cookie(&self.core.mint(user)).ok_or_else(|| {
            let why = "the root folder of this user is too long for a cookie";
            refused(&Refusal::new(ErrorCode::LoginRefused, why))
        })?;
        let token = relais_auth::csrf_token(&self.core.config.key, &value);
        let answer = self.with_cookie(request, value, limits::TICKET_TIME, next);
        // Programs need the token for later requests; pages have it in their forms.
        Ok(answer.with("X-CSRF-Token", token))
    }

    /// Ends the login of the cookie, and returns the answer that removes it.
    pub(super) fn log_out(&self, request: &Request, form: &Form) -> Answer {
        if let Err(refusal) = self.check_csrf(request, form) {
            return Answer::refused(&request.head, &refusal);
        }
        if let Some(cookie) = self.login_cookie(&request.head) {
            self.end_cookie(cookie);
        }
        self.with_cookie(request, String::new(), Duration::ZERO, "/-/login")
    }

    /// Browsers continue with the page that they wanted; programs get an empty answer.
    fn with_cookie(&self, request: &Request, value: String, time: Duration, next: &str) -> Answer {
        let name = login_cookie_name(self.core.cluster);
        let answer = if wants_page(&request.head) {
            Answer::empty(Status::SEE_OTHER).with("Location", next.to_owned())
        } else {
            Answer::empty(Status::NO_CONTENT)
        };
        answer.with("Set-Cookie", login_cookie(name, value, time, request.client.encrypted))
    }
}

/// Returns the login page, with the reason why a login was refused.
fn login_page(head: &RequestHead, next: &str, refusal: Option<&Refusal>) -> Answer {
    if let (Some(refusal), false) = (refusal, wants_page(head)) {
        return Answer::refused(head, refusal);
    }
    let status = refusal.map_or(Status::OK, |refusal| Answer::refused(head, refusal).status());
    let form = LoginForm { next, error: refusal.map(|refusal| &*refusal.message) };
    html_page(head, status, |nonce| form.page(nonce))
}

/// Returns the answer with a page for people.
pub(super) fn html_page(
    head: &RequestHead,
    status: Status,
    page: impl FnOnce(&Nonce) -> Vec<u8>,
) -> Answer {
    let nonce = match Nonce::new() {
        Ok(nonce) => nonce,
        Err(e) => {
            return Answer::refused(head, &Refusal::new(ErrorCode::Storage, e.to_string()));
        }
    };
    let response = Response::new(status)
        .with("Content-Type", "text/html; charset=utf-8")
        .with("Cache-Control", "no-store")
        .with("Vary", "Accept, Authorization, Cookie")
        .with("X-Content-Type-Options", "nosniff")
        .with("Referrer-Policy", "same-origin")
        .with("Content-Security-Policy", nonce.policy());
    Answer::of(response, page(&nonce))
}
