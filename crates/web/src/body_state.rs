//! What is left of the body of a request.

use relais_http::{BodyLength, ChunkedDecoder};
use relais_net::MinimumThroughput;

use crate::limits;

/// What is left of a body.
#[derive(Debug, Default)]
pub(crate) struct BodyState {
    pub rest: Rest,
    /// Whether the client waits for `100 Continue`.
    pub expects_continue: bool,
    pub throughput: Option<MinimumThroughput>,
}

/// The bytes that are left.
#[derive(Debug, Default)]
pub(crate) enum Rest {
    #[default]
    Nothing,
    Sized(u64),
    /// The second field: bytes of data at the beginning of the input.
    Chunked(ChunkedDecoder, usize),
}

impl Rest {
    /// Returns the rest of a body with a known length.
    pub fn sized(left: u64) -> Self {
        if left == 0 { Self::Nothing } else { Self::Sized(left) }
    }
}

impl BodyState {
    pub fn new(length: BodyLength, expects_continue: bool) -> Self {
        let rest = match length {
            BodyLength::Empty => Rest::Nothing,
            BodyLength::Sized(length) => Rest::Sized(length),
            BodyLength::Chunked => Rest::Chunked(ChunkedDecoder::default(), 0),
        };
        let expects_continue = expects_continue && !matches!(rest, Rest::Nothing);
        Self { rest, expects_continue, throughput: None }
    }

    /// Whether the rest can be read and dropped to keep the connection.
    ///
    /// A client that waits for `100 Continue` may send the body or not (RFC 9110, 10.1.1).
    pub fn can_be_dropped(&self) -> bool {
        !self.expects_continue && !matches!(self.rest, Rest::Sized(left) if left > limits::DISCARD)
    }
}
