//! `/-/login` and `/-/logout`: a browser gets a cookie for a name and a password, or gives it up.
//!
//! The forms are read in the pool, because no session exists yet.

use std::time::Duration;

use relais_engine::{Host, LoginProgress, Principal};
use relais_http::cookie::{SameSite, SetCookie};
use relais_http::{BodyLength, Form, RequestHead, Status, accept, escape, limits};
use relais_proto::{ErrorCode, Refusal, limits as proto_limits};

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
}

impl FormLogin {
    /// Takes the head of a form.
    ///
    /// # Errors
    /// The answer if the body cannot be a form.
    pub fn new(context: &HttpContext, request: &CheckedRequest) -> Result<Self, Box<Answer>> {
        let CheckedRequest { head, client, needs_form_token, .. } = request;
        let reject = |status, text| Err(Box::new(Answer::error(head, status, text)));
        let length = match head.body() {
            Ok(BodyLength::Empty) => 0,
            Ok(BodyLength::Sized(size)) => usize::try_from(size).unwrap_or(usize::MAX),
            _ => return reject(Status::LENGTH_REQUIRED, "the form needs a Content-Length"),
        };
        if length > limits::FORM {
            return reject(Status::CONTENT_TOO_LARGE, "the form is too long");
        }
        let is_logout = head.target.path == "/-/logout";
        if !is_logout && let Err(refusal) = context.check_password_allowed(*client) {
            return Err(Box::new(Answer::refused(head, &refusal)));
        }
        // A wrong or old cookie must not keep its user from logging in again.
        let needs_form_token = is_logout && *needs_form_token;
        let request = CheckedRequest { needs_form_token, ..request.clone() };
        Ok(Self { request, length, is_logout })
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
    pub fn begin(&self, context: &HttpContext, body: &[u8]) -> Result<LoginProgress, Box<Answer>> {
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
            .map_err(|refusal| Box::new(context.login_page(head, Some(&refusal))))
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
            (Err(refusal), _) => context.login_page(head, Some(&refusal)),
            (Ok(_), None) => {
                let why = "this slave does not have the cluster key yet";
                context.login_page(head, Some(&Refusal::new(ErrorCode::Busy, why)))
            }
        }
    }

    /// Returns the answer that removes the cookie, and the user's login from the cache.
    fn logged_out(&self, context: &HttpContext) -> Answer {
        context.forget(&self.request.credentials, self.request.client);
        match context.cookies.login_name() {
            Some(name) => self.answer_with_cookie(name, String::new(), Duration::ZERO),
            None => self.redirect_home(),
        }
    }

    fn answer_with_cookie(&self, name: String, value: String, max_age: Duration) -> Answer {
        let cookie = SetCookie {
            name,
            value,
            max_age: Some(max_age),
            secure: self.request.client.is_encrypted,
            http_only: true,
            same_site: SameSite::Strict,
        };
        self.redirect_home().with("Set-Cookie", cookie.to_string())
    }

    /// Browsers continue with the root folder; programs get an empty answer.
    fn redirect_home(&self) -> Answer {
        let head = &self.request.head;
        let accept = head.headers.get("accept");
        match accept::prefers(accept, &["application/json", "text/html"]) {
            Some(1) => Answer::empty(Status::SEE_OTHER).with("Location", "/"),
            _ => Answer::empty(Status::NO_CONTENT),
        }
    }
}

impl HttpContext {
    /// Returns the login page, with the reason why a login was refused.
    #[must_use]
    pub fn login_page(&self, head: &RequestHead, refusal: Option<&Refusal>) -> Answer {
        let accept = head.headers.get("accept");
        let wants_page = accept::prefers(accept, &["text/html", "application/json"]) == Some(0);
        if let (Some(refusal), false) = (refusal, wants_page) {
            return Answer::refused(head, refusal);
        }
        let status = refusal.map_or(Status::OK, |refusal| status_of(refusal.code));
        let why = refusal.map_or(String::new(), |refusal| {
            format!("<p role=\"alert\">{}</p>", escape::markup(&refusal.message))
        });
        let page = format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <title>Log in</title></head><body><h1>Log in</h1>{why}\
             <form method=\"post\" action=\"/-/login\">\
             <p><label>Name <input name=\"user\" autocomplete=\"username\" required></label></p>\
             <p><label>Password <input name=\"password\" type=\"password\" \
             autocomplete=\"current-password\" required></label></p>\
             <p><button>Log in</button></p></form></body></html>\n"
        );
        let mut answer = Answer::with_body(status, "text/html; charset=utf-8", page.into_bytes());
        const POLICY: &str = "default-src 'none'; form-action 'self'; frame-ancestors 'none'";
        answer.response.headers.insert("Content-Security-Policy", POLICY);
        answer
    }
}
