//! Logins by frames: one frame at a time, and an answer to peers of other protocols.

use std::net::SocketAddr;
use std::time::Instant;

use log::info;
use relais_proto::{
    ErrorCode, FrameHeader, FrameType, HEADER_LEN, LogRateLimiter, Refusal, Reply, WireError,
    limits,
};

use crate::foreign_protocol::{NO_LOGIN, answer_foreign};
use crate::login_handler::{LoginHandler, LoginStep};
use crate::tls::ChannelBinding;

/// Handles the login of one peer, frame by frame.
pub trait FrameHandler {
    /// The result of a successful login.
    type Value;
    /// Whether a user has logged in before from the network of the peer. Called on arrival.
    fn is_known(&self) -> bool {
        false
    }
    /// Handles the next frame.
    fn on_frame(&mut self, kind: FrameType, payload: &[u8]) -> LoginStep<Self::Value>;
    /// Called after the TLS handshake, with the channel binding of the connection.
    fn on_encrypted(&mut self, binding: ChannelBinding) {
        let _ = binding;
    }
    /// Returns the step that follows [`LoginStep::Pending`], as soon as it is known.
    fn poll_pending(&mut self) -> Option<LoginStep<Self::Value>> {
        None
    }
    /// The reply that ends a connection whose bytes are no frame.
    fn refuse(&mut self, error: &WireError) -> Vec<u8>;
}

/// The login handler of a frame handler.
pub struct FrameLogin<H> {
    peer: SocketAddr,
    handler: H,
    /// Whether a whole frame of this peer was handled, or a handshake.
    has_spoken: bool,
}

impl<H: FrameHandler> FrameLogin<H> {
    /// Makes the login of a connection from `peer`.
    pub fn new(peer: SocketAddr, handler: H) -> Self {
        Self { peer, handler, has_spoken: false }
    }

    /// The reply to a peer whose first bytes are `first`: in its protocol, or else `ours`.
    fn refuse(&mut self, first: &[u8], ours: impl FnOnce(&mut H) -> Vec<u8>) -> Vec<u8> {
        let mut padded = [0; HEADER_LEN];
        let len = first.len().min(HEADER_LEN);
        padded[..len].copy_from_slice(&first[..len]);
        let Some((name, refusal)) = answer_foreign(&padded) else {
            return ours(&mut self.handler);
        };
        static NOTED: LogRateLimiter = LogRateLimiter::new();
        if let Some(more) = NOTED.allow(Instant::now()) {
            info!("{} speaks {name}: connection rejected{more}", self.peer);
        }
        refusal
    }
}

/// Returns type and whole length of the frame that `input` begins with; none before its header.
fn frame(input: &[u8]) -> Option<Result<(FrameType, usize), WireError>> {
    let header = FrameHeader::parse(*input.first_chunk()?);
    Some(header.and_then(|header| match header.kind {
        // No peer may send content before its login.
        FrameType::Block => Err(WireError::Unexpected(header.kind.number())),
        kind => Ok((kind, HEADER_LEN + header.len as usize)),
    }))
}

impl<H: FrameHandler> LoginHandler for FrameLogin<H> {
    type Value = H::Value;

    fn is_known(&self) -> bool {
        self.handler.is_known()
    }

    fn on_encrypted(&mut self, binding: ChannelBinding) {
        self.has_spoken = true;
        self.handler.on_encrypted(binding);
    }

    /// One frame and not a byte more.
    fn input_limit(&self, input: &[u8]) -> usize {
        frame(input).and_then(Result::ok).map_or(HEADER_LEN, |(_, len)| len)
    }

    fn on_input(&mut self, input: &mut Vec<u8>) -> Option<LoginStep<H::Value>> {
        match frame(input)? {
            Ok((_, len)) if input.len() < len => None,
            Ok((kind, len)) => {
                self.has_spoken = true;
                let step = self.handler.on_frame(kind, &input[HEADER_LEN..len]);
                input.clear();
                Some(step)
            }
            Err(error) => {
                Some(LoginStep::Close(self.refuse(input, |handler| handler.refuse(&error))))
            }
        }
    }

    fn poll_pending(&mut self) -> Option<LoginStep<H::Value>> {
        self.handler.poll_pending()
    }

    fn refuse_clear_text(&mut self, first: &[u8]) -> Vec<u8> {
        const TEXT: &str = "this server accepts only encrypted connections (TLS) from that address";
        self.refuse(first, |_| encoded(ErrorCode::TlsNeeded, TEXT))
    }

    fn expire(&mut self, input: &[u8]) -> Vec<u8> {
        // A peer that has sent nothing may wait for the server to speak first.
        if !self.has_spoken && input.is_empty() {
            return NO_LOGIN.to_vec();
        }
        let seconds = limits::LOGIN_TIME.as_secs();
        encoded(ErrorCode::TimedOut, &format!("the login took more than {seconds} seconds"))
    }
}

fn encoded(code: ErrorCode, message: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    Reply::Error(Refusal::new(code, message)).encode(&mut bytes);
    bytes
}
