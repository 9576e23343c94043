//! What a protocol does with a connection before its login.
//!
//! A handler is a state machine: it gets bytes and returns steps. The pool moves the bytes, runs
//! handshakes and keeps the deadline.

use std::time::Duration;

use relais_proto::limits;

use crate::tls::ChannelBinding;

/// The action that a login handler wants next.
#[derive(Debug)]
pub enum LoginStep<T> {
    /// Send this, which may be empty, then read on.
    Reply(Vec<u8>),
    /// Send this, which ends a request, then wait for the next one as for that of a new connection.
    ///
    /// The next one has to begin within [`LoginHandler::idle_time`], and then has the login time.
    Answer(Vec<u8>),
    /// Read nothing more until [`LoginHandler::poll_pending`] returns the next step.
    Pending,
    /// Send this, which may be empty, then continue as after [`Self::Pending`].
    ///
    /// It is a part of an answer that has no end yet. The handler is asked for the next part only
    /// when the peer has taken this one, for which it has [`LoginHandler::pending_time`].
    Stream(Vec<u8>),
    /// Send this, then end the connection gracefully.
    Close(Vec<u8>),
    /// Send this in the clear, drop all input that has come, then run the TLS handshake.
    ///
    /// The input is dropped because it was not encrypted: an attacker may have added it.
    StartTls(Vec<u8>),
    /// The login has succeeded: send `send`, then return the connection from the pool.
    Done {
        /// The result of the login.
        value: T,
        /// Bytes to send first; may be empty.
        send: Vec<u8>,
    },
}

/// Handles the login of one peer.
pub trait LoginHandler {
    /// The result of a successful login.
    type Value;

    /// Whether a user has logged in before from the network of the peer. Called on arrival.
    fn is_known(&self) -> bool {
        false
    }

    /// Returns the first step, before anything is read: protocols in which the server speaks first.
    ///
    /// With implicit TLS it follows the handshake.
    fn begin(&mut self) -> LoginStep<Self::Value> {
        LoginStep::Reply(Vec::new())
    }

    /// Called after each TLS handshake, with the channel binding of the connection.
    fn on_encrypted(&mut self, binding: ChannelBinding) {
        let _ = binding;
    }

    /// Returns the most bytes that `input` may have at present, those that it has included.
    ///
    /// The pool reads no byte more, so the next reader of the stream finds the rest there.
    fn input_limit(&self, input: &[u8]) -> usize;

    /// Returns how long a kept connection may be idle in the pool, after [`LoginStep::Answer`] and
    /// after it was readmitted.
    fn idle_time(&self) -> Duration {
        limits::LOGIN_TIME
    }

    /// Returns how long the connection may stay in the pool after [`LoginStep::Pending`], even if
    /// that is longer than its login time, and after each [`LoginStep::Stream`].
    fn pending_time(&self) -> Duration {
        Duration::ZERO
    }

    /// Takes the bytes of one message from `input`; none if it is incomplete.
    ///
    /// It is called again until it returns none, also without new bytes.
    fn on_input(&mut self, input: &mut Vec<u8>) -> Option<LoginStep<Self::Value>>;

    /// Returns the step that follows [`LoginStep::Pending`], as soon as it is known.
    fn poll_pending(&mut self) -> Option<LoginStep<Self::Value>> {
        None
    }

    /// Returns the last bytes to a peer that must use TLS from the first byte, and does not.
    fn refuse_clear_text(&mut self, first: &[u8]) -> Vec<u8> {
        let _ = first;
        Vec::new()
    }

    /// Returns the last bytes to a peer whose login time is over. `input` is an incomplete message.
    fn expire(&mut self, input: &[u8]) -> Vec<u8>;
}
