//! The reasons why a request or an answer ends early.

use std::io;

use relais_http::{InvalidHeader, RequestError};
use thiserror::Error;

/// The reason why a request cannot be served further.
#[derive(Debug, Error)]
pub enum WebError {
    /// The client breaks a rule. It gets an answer, and the connection is closed.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The connection is lost, or the client is too slow.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// An answer cannot be written: an error of this program.
    #[error(transparent)]
    Header(#[from] InvalidHeader),
}
