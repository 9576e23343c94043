//! Why a request has failed, and the answer that says so.

use std::io;

use relais_http::{RequestError, Status};
use relais_proto::Refusal;
use relais_web::WebError;

use super::answer::Answer;
use super::request::CheckedRequest;

/// Why a request has failed.
#[derive(Debug)]
pub enum HttpError {
    /// The engine refuses it.
    Refused(Refusal),
    /// It breaks a rule of HTTP.
    Rejected(RequestError),
    /// The resource does not have the method, but these.
    NotAllowed(&'static str),
    /// It has another answer than those.
    Answer(Box<Answer>),
    /// The connection has failed, so no answer can be sent.
    Connection(io::Error),
}

/// The outcome of a request whose answer was sent.
pub type HttpResult<T = ()> = Result<T, HttpError>;

impl HttpError {
    /// Makes the error with a status and a text.
    #[must_use]
    pub const fn status(status: Status, text: &'static str) -> Self {
        Self::Rejected(RequestError::new(status, text))
    }

    /// Whether the connection has failed or was too slow, so that the client may continue.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        match self {
            Self::Connection(_) => true,
            Self::Rejected(error) => error.status == Status::REQUEST_TIMEOUT,
            _ => false,
        }
    }

    /// Returns the answer.
    ///
    /// # Errors
    /// That of the connection.
    pub fn into_answer(self, request: &CheckedRequest) -> io::Result<Answer> {
        let head = &request.head;
        Ok(match self {
            Self::Refused(refusal) => Answer::refused(head, &refusal),
            Self::Rejected(error) => Answer::rejected(head, &error),
            Self::NotAllowed(allowed) => {
                let text = "this resource does not have this method";
                Answer::error(head, Status::METHOD_NOT_ALLOWED, text).with("Allow", allowed)
            }
            Self::Answer(answer) => *answer,
            Self::Connection(error) => return Err(error),
        })
    }
}

impl From<Refusal> for HttpError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<RequestError> for HttpError {
    fn from(error: RequestError) -> Self {
        Self::Rejected(error)
    }
}

impl From<Answer> for HttpError {
    fn from(answer: Answer) -> Self {
        Self::Answer(Box::new(answer))
    }
}

impl From<WebError> for HttpError {
    fn from(error: WebError) -> Self {
        match error {
            WebError::Request(error) => Self::Rejected(error),
            WebError::Io(error) => Self::Connection(error),
            WebError::Header(error) => Self::Connection(io::Error::other(error)),
        }
    }
}

impl From<io::Error> for HttpError {
    fn from(error: io::Error) -> Self {
        Self::Connection(error)
    }
}
