//! Small complete answers: errors, and what the pool answers without a session.

use relais_http::{InvalidHeader, RequestError, RequestHead, Response, Status};
use relais_proto::Refusal;
use relais_web::page::Asset;
use relais_web::{AnswerRules, encode_answer, render_error};

use super::refusals::{code_of, status_of};
use super::request::FOLDER_METHODS;

/// A head and a body that fits into memory.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The head, without `Content-Length`.
    pub response: Response,
    /// The body.
    pub body: Vec<u8>,
    /// Whether the connection is closed after it.
    pub closes: bool,
}

impl Answer {
    /// Makes an answer without a body.
    #[must_use]
    pub fn empty(status: Status) -> Self {
        let response = Response::new(status).with("Cache-Control", "no-store");
        Self { response, body: Vec::new(), closes: false }
    }

    /// Makes an answer with a body of this type.
    #[must_use]
    pub fn with_body(status: Status, media_type: &'static str, body: Vec<u8>) -> Self {
        let mut answer = Self::empty(status);
        answer.response.headers.insert("Content-Type", media_type);
        answer.response.headers.insert("X-Content-Type-Options", "nosniff");
        Self { body, ..answer }
    }

    /// Makes the answer to a request for a style or a script.
    #[must_use]
    pub fn of_asset(head: &RequestHead, asset: Asset) -> Self {
        Self { response: asset.response(head), body: asset.content.into(), closes: false }
    }

    /// Makes the answer to a request that is refused with a status.
    #[must_use]
    pub fn error(head: &RequestHead, status: Status, text: &str) -> Self {
        Self::of_error(Some(head), status, code_of(status), text)
    }

    /// Makes the answer to a request that breaks a rule of HTTP.
    #[must_use]
    pub fn rejected(head: &RequestHead, error: &RequestError) -> Self {
        Self::error(head, error.status, error.text)
    }

    /// Makes the answer to bytes that are no request. The connection is closed after it.
    #[must_use]
    pub fn malformed(error: &RequestError) -> Self {
        Self::of_error(None, error.status, code_of(error.status), error.text).closing()
    }

    /// Makes the answer to a request that the engine refuses.
    #[must_use]
    pub fn refused(head: &RequestHead, refusal: &Refusal) -> Self {
        let status = status_of(refusal.code);
        let mut answer = Self::of_error(Some(head), status, refusal.code.text(), &refusal.message);
        if let Some(seconds) = super::refusals::retry_after(refusal) {
            answer.response.headers.insert("Retry-After", seconds.to_string());
        }
        if status == Status::METHOD_NOT_ALLOWED {
            // RFC 9110 section 15.5.6.
            answer.response.headers.insert("Allow", FOLDER_METHODS);
        }
        answer
    }

    fn of_error(head: Option<&RequestHead>, status: Status, code: &str, text: &str) -> Self {
        let accept = head.and_then(|head| head.headers.get("accept"));
        let (response, body) = render_error(accept, status, code, text);
        Self { response, body, closes: false }
    }

    /// Has the connection closed after the answer.
    #[must_use]
    pub fn closing(self) -> Self {
        Self { closes: true, ..self }
    }

    /// Sets a header field.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.response.headers.insert(name, value.into());
        self
    }

    /// Returns the bytes of the answer to a request; none stands for bytes that are no request.
    ///
    /// # Errors
    /// A header field would break the syntax.
    pub fn encode(&self, head: Option<&RequestHead>) -> Result<Vec<u8>, InvalidHeader> {
        let rules = head.map_or(AnswerRules::closing(), AnswerRules::of);
        let rules = AnswerRules { keep: rules.keep && !self.closes, ..rules };
        encode_answer(&self.response, &self.body, rules)
    }
}
