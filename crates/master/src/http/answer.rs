//! Complete answers of the master, with a body that fits into memory.

use std::borrow::Cow;

use relais_http::{InvalidHeader, RequestError, RequestHead, Response, Status, auth};
use relais_proto::{ErrorCode, Refusal};
use relais_web::{AnswerRules, encode_answer, render_error};

/// The realm of the accounts, as people see it.
const REALM: &str = "Relais";

/// An answer.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    response: Response,
    body: Vec<u8>,
    /// Whether the connection is closed after it.
    closes: bool,
}

impl Answer {
    /// Makes an answer without a body.
    pub fn empty(status: Status) -> Self {
        let response = Response::new(status).with("Cache-Control", "no-store");
        Self { response, body: Vec::new(), closes: false }
    }

    /// Makes an answer with a body of this type.
    pub fn with_body(status: Status, media_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        let answer = Self::empty(status)
            .with("Content-Type", media_type)
            .with("X-Content-Type-Options", "nosniff")
            .with("Content-Security-Policy", "default-src 'none'; sandbox");
        Self { body: body.into(), ..answer }
    }

    /// Makes an answer from its parts.
    pub fn of(response: Response, body: impl Into<Vec<u8>>) -> Self {
        Self { response, body: body.into(), closes: false }
    }

    fn error(head: Option<&RequestHead>, status: Status, code: ErrorCode, text: &str) -> Self {
        let accept = head.and_then(|head| head.headers.get("accept"));
        let (response, body) = render_error(accept, status, code.text(), text);
        Self { response, body, closes: false }
    }

    /// Makes the answer to a request that breaks a rule of HTTP, or names nothing.
    pub fn rejected(head: Option<&RequestHead>, error: RequestError) -> Self {
        let code = match error.status {
            Status::NOT_FOUND => ErrorCode::NotFound,
            _ => ErrorCode::BadRequest,
        };
        Self::error(head, error.status, code, error.text)
    }

    /// Makes the answer to a login that is refused, or to a request that has to wait.
    pub fn refused(head: &RequestHead, refusal: &Refusal) -> Self {
        let status = match refusal.code {
            ErrorCode::LoginRefused | ErrorCode::LoginNeeded | ErrorCode::BadTicket => {
                Status::UNAUTHORIZED
            }
            ErrorCode::TlsNeeded | ErrorCode::Denied => Status::FORBIDDEN,
            ErrorCode::NotFound => Status::NOT_FOUND,
            _ => Status::SERVICE_UNAVAILABLE,
        };
        let answer = Self::error(Some(head), status, refusal.code, &refusal.message);
        match status {
            // RFC 9110 section 15.5.2.
            Status::UNAUTHORIZED => answer.with("WWW-Authenticate", auth::challenge(REALM)),
            // RFC 9110 section 15.6.4.
            Status::SERVICE_UNAVAILABLE => {
                answer.with("Retry-After", refusal.retry_after.max(1).to_string())
            }
            _ => answer,
        }
    }

    /// Makes the answer to a method that a resource does not have (RFC 9110, section 15.5.6).
    pub fn method_not_allowed(head: &RequestHead, allowed: &'static str) -> Self {
        const NOT_ALLOWED: RequestError =
            RequestError::new(Status::METHOD_NOT_ALLOWED, "this method is not possible here");
        Self::rejected(Some(head), NOT_ALLOWED).with("Allow", allowed)
    }

    /// Returns the status.
    pub fn status(&self) -> Status {
        self.response.status
    }

    /// Has the connection closed after the answer if `closes`.
    pub fn closing(self, closes: bool) -> Self {
        Self { closes: self.closes || closes, ..self }
    }

    /// Sets a header field.
    pub fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.response.headers.insert(name, value);
        self
    }

    /// Adds a header field beside others with this name.
    pub fn and(mut self, name: &'static str, value: String) -> Self {
        self.response.headers.append(name, value);
        self
    }

    /// Returns the bytes of the answer to a request, and whether the connection is kept after it.
    ///
    /// # Errors
    /// A header field would break the syntax.
    pub fn encode(self, head: Option<&RequestHead>) -> Result<(Vec<u8>, bool), InvalidHeader> {
        let rules = head.map_or_else(AnswerRules::closing, AnswerRules::of);
        let rules = AnswerRules { keep: rules.keep && !self.closes, ..rules };
        Ok((encode_answer(&self.response, &self.body, rules)?, rules.keep))
    }
}
