//! Complete answers of the master, with a body that fits into memory.

use std::time::SystemTime;

use relais_http::{
    InvalidHeader, Method, RequestError, RequestHead, Response, Status, accept, auth, date, escape,
};
use relais_proto::{ErrorCode, Refusal};

/// The realm of the accounts, as people see it.
const REALM: &str = "Relais";
/// The forms of an error, by media type; the first one if the client has no preference.
const FORMS: [&str; 2] = ["text/plain", "application/json"];

/// An answer.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    response: Response,
    body: Vec<u8>,
    /// Whether the connection is closed after it.
    pub closes: bool,
}

impl Answer {
    /// Makes an answer without a body.
    pub fn empty(status: Status) -> Self {
        let now = date::format(SystemTime::now());
        // RFC 9110 section 6.6.1.
        let response = Response::new(status).with("Date", now).with("Cache-Control", "no-store");
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

    /// Makes the answer to a request that is refused: one line of text, or JSON by `Accept`.
    pub fn error(head: Option<&RequestHead>, status: Status, code: &str, text: &str) -> Self {
        let accept = head.and_then(|head| head.headers.get("accept"));
        if accept::prefers(accept, &FORMS) == Some(1) {
            let (code, text) = (escape::json(code), escape::json(text));
            let body = format!("{{\"error\":{{\"code\":{code},\"message\":{text}}}}}\n");
            return Self::with_body(status, "application/json", body);
        }
        Self::with_body(status, "text/plain; charset=utf-8", format!("{text}\n"))
    }

    /// Makes the answer to a request that breaks a rule of HTTP, or names nothing.
    pub fn rejected(head: Option<&RequestHead>, error: RequestError) -> Self {
        let code = match error.status {
            Status::NOT_FOUND => ErrorCode::NotFound,
            _ => ErrorCode::BadRequest,
        };
        Self::error(head, error.status, code.text(), error.text)
    }

    /// Makes the answer to a login that is refused, or to a request that has to wait.
    pub fn refused(head: &RequestHead, refusal: &Refusal) -> Self {
        let status = match refusal.code {
            ErrorCode::LoginRefused | ErrorCode::LoginNeeded => Status::UNAUTHORIZED,
            ErrorCode::TlsNeeded | ErrorCode::Denied => Status::FORBIDDEN,
            ErrorCode::NotFound => Status::NOT_FOUND,
            _ => Status::SERVICE_UNAVAILABLE,
        };
        let answer = Self::error(Some(head), status, refusal.code.text(), &refusal.message);
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

    /// Sets whether the connection is closed after it.
    pub fn closing(self, closes: bool) -> Self {
        Self { closes, ..self }
    }

    /// Sets a header field.
    pub fn with(
        mut self,
        name: &'static str,
        value: impl Into<std::borrow::Cow<'static, str>>,
    ) -> Self {
        self.response.headers.insert(name, value);
        self
    }

    /// Adds a header field beside others with this name.
    pub fn and(mut self, name: &'static str, value: String) -> Self {
        self.response.headers.append(name, value);
        self
    }

    /// Returns the bytes of the answer to a request with this method.
    ///
    /// # Errors
    /// A header field would break the syntax.
    pub fn encode(mut self, method: Option<&Method>) -> Result<Vec<u8>, InvalidHeader> {
        if !self.response.status.is_without_content() {
            self.response.headers.insert("Content-Length", self.body.len().to_string());
        }
        if self.closes {
            self.response.headers.insert("Connection", "close");
        }
        let mut bytes = self.response.encode()?;
        if method != Some(&Method::Head) {
            bytes.extend_from_slice(&self.body);
        }
        Ok(bytes)
    }
}
