//! `/-/login` and `/-/logout`: a browser gets a cookie for a name and a password, or gives it up.
//!
//! The forms are read in the pool, because no session exists yet.

use std::time::Duration;

use relais_engine::{Host, LoginProgress, Principal};
use relais_http::{Form, RequestHead, Status};
use relais_proto::{ErrorCode, Refusal, limits as proto_limits};
use relais_web::page::{LoginForm, Nonce};
use relais_web::{form_length, login_cookie, login_location, next_path, wants_page};

use super::HttpContext;
use super::answer::Answer;
use super::client::HttpClient;
use super::credentials::Credentials;
use super::refusals::status_of;
use super::request::CheckedRequest;

/// A form whose body arrives.
pub struct FormLogin {
    request: CheckedRequest,
    length: usize,
    is_logout: bool,
    /// The path that follows the login.
    next: String,
}

impl FormLogin {
    /// Takes the head of a form.
    ///
    /// # Errors
    /// The answer if the body cannot be a form.
    pub fn new(context: &HttpContext, request: &CheckedRequest) -> Result<Self, Box<Answer>> {
        let CheckedRequest { head, client, needs_form_token, .. } = request;
        let length = form_length(head).map_err(|e| Box::new(Answer::rejected(head, &e)))?;
        let is_logout = head.target.path == "/-/logout";
        if !is_logout && let Err(refusal) = context.check_password_allowed(*client) {
            return Err(Box::new(Answer::refused(head, &refusal)));
        }
        // A wrong or old cookie must not keep its user from logging in again.
        let needs_form_token = is_logout && *needs_form_token;
        let request = CheckedRequest { needs_form_token, ..request.clone() };
        Ok(Self { request, length, is_logout, next: "/".to_owned() })
    }

    /// Returns the length of the body in bytes.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// Returns the head of the request.
    #[must_use]
    pub fn head(&self) -> &RequestHead {
        &self.request.head
    }

    /// Returns the client.
    #[must_use]
    pub fn client(&self) -> HttpClient {
        self.request.client
    }

    /// Begins the login that the body asks for.
    ///
    /// # Errors
    /// The answer to a logout, and to a form that is refused.
    pub fn begin(
        &mut self,
        context: &HttpContext,
        body: &[u8],
    ) -> Result<LoginProgress, Box<Answer>> {
        let CheckedRequest { head, client, credentials, .. } = &self.request;
        let text = std::str::from_utf8(body).map_err(|_| {
            Box::new(Answer::error(head, Status::BAD_REQUEST, "the form is not UTF-8"))
        })?;
        let form = Form::parse(text).map_err(|e| Box::new(Answer::rejected(head, &e)))?;
        if let (Credentials::Cookie(cookie), true) = (credentials, self.request.needs_form_token)
            && !context.cookies.is_csrf_token(cookie, form.get("csrf").unwrap_or_default())
        {
            let text = "the form needs the token of its page";
            return Err(Box::new(Answer::error(head, Status::FORBIDDEN, text)));
        }
        if self.is_logout {
            return Err(Box::new(self.logged_out(context)));
        }
        next_path(form.get("next")).clone_into(&mut self.next);
        let user = form.get("user").unwrap_or_default();
        let password = form.get("password").unwrap_or_default();
        if user.len() > proto_limits::USER || password.len() > proto_limits::PASSWORD {
            let text = "the name or the password is too long";
            return Err(Box::new(Answer::error(head, Status::BAD_REQUEST, text)));
        }
        let (authenticator, host) = (&context.service.authenticator, &context.service.host);
        let (address, password) = (client.address.ip(), password.as_bytes());
        authenticator
            .log_in_by_password(user, password, address, host)
            .map_err(|refusal| Box::new(context.login_page(head, &self.next, Some(&refusal))))
    }

    /// Returns the answer to a form whose login has a result.
    #[must_use]
    pub fn conclude(&self, context: &HttpContext, result: Result<Principal, Refusal>) -> Answer {
        let head = &self.request.head;
        let cookie = result.and_then(|principal| {
            if principal.user.is_empty() {
                let why = "there are no accounts on this server; no login is needed";
                return Err(Refusal::new(ErrorCode::LoginRefused, why));
            }
            context.cookies.issue(&principal, context.service.host.now_ms())
        });
        match (cookie, context.cookies.login_name()) {
            (Ok(value), Some(name)) => {
                let answer =
                    self.answer_with_cookie(name, value.clone(), proto_limits::TICKET_TIME);
                // Programs need the token for later requests; pages have it in their forms.
                match context.cookies.csrf_token(&value) {
                    Some(token) => answer.with("X-CSRF-Token", token),
                    None => answer,
                }
            }
            (Err(refusal), _) => context.login_page(head, &self.next, Some(&refusal)),
            (Ok(_), None) => {
                let why = "this slave does not have the cluster key yet";
                context.login_page(head, &self.next, Some(&Refusal::new(ErrorCode::Busy, why)))
            }
        }
    }

    /// Ends the login of the cookie, and returns the answer that removes it.
    fn logged_out(&self, context: &HttpContext) -> Answer {
        if let Credentials::Cookie(cookie) = &self.request.credentials {
            context.cookies.end(cookie);
        }
        context.forget(&self.request.credentials, self.request.client);
        match context.cookies.login_name() {
            Some(name) => self.answer_with_cookie(name, String::new(), Duration::ZERO),
            None => self.redirect(),
        }
    }

    fn answer_with_cookie(&self, name: String, value: String, max_age: Duration) -> Answer {
        let cookie = login_cookie(name, value, max_age, self.request.client.is_encrypted);
        self.redirect().with("Set-Cookie", cookie)
    }

    /// Browsers continue with the page that they wanted; programs get an empty answer.
    fn redirect(&self) -> Answer {
        if wants_page(&self.request.head) {
            Answer::empty(Status::SEE_OTHER).with("Location", self.next.clone())
        } else {
            Answer::empty(Status::NO_CONTENT)
        }
    }
}

impl HttpContext {
    /// Returns the login page, with the reason why a login was refused.
    ///
    /// `next` is the path that follows a login.
    #[must_use]
    pub fn login_page(&self, head: &RequestHead, next: &str, refusal: Option<&Refusal>) -> Answer {
        if let (Some(refusal), false) = (refusal, wants_page(head)) {
            return Answer::refused(head, refusal);
        }
        let status = refusal.map_or(Status::OK, |refusal| status_of(refusal.code));
        let nonce = match Nonce::new() {
            Ok(nonce) => nonce,
            Err(e) => return Answer::error(head, Status::INTERNAL_SERVER_ERROR, &e.to_string()),
        };
        let body = LoginForm { next, error: refusal.map(|refusal| &*refusal.message) }.page(&nonce);
        Answer::with_body(status, "text/html; charset=utf-8", body)
            .with("Content-Security-Policy", nonce.policy())
            .with("Referrer-Policy", "same-origin")
    }

    /// Returns the answer that leads a browser to the login page, and from there to `head`'s page.
    #[must_use]
    pub fn to_login(&self, head: &RequestHead) -> Answer {
        Answer::empty(Status::SEE_OTHER).with("Location", login_location(head))
    }
}
