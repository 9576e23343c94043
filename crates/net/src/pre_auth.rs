//! One connection before its login: a state machine over a non-blocking socket.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use log::info;
use relais_proto::{
    ErrorCode, FrameHeader, FrameType, HEADER_LEN, LogRateLimiter, Refusal, Reply, WireError,
    limits,
};
use rustix::net::{RecvFlags, SendFlags};

use crate::foreign_protocol::{NO_LOGIN, answer_foreign};
use crate::handshake_limiter::HandshakeLimiter;
use crate::stream::Stream;
use crate::tls::{ChannelBinding, TlsServer};

/// Time that a rejected peer has to read the refusal.
const REFUSAL_TIME: Duration = Duration::from_secs(2);

/// Pause before a handshake above the rate limit is tried again.
pub(crate) const HANDSHAKE_RETRY: Duration = Duration::from_millis(20);

/// The action that a login handler wants after a frame.
#[derive(Debug)]
pub enum LoginStep<T> {
    /// Send this, which may be empty, then read the next frame.
    Reply(Vec<u8>),
    /// Read nothing more until [`LoginHandler::poll_pending`] returns the next step.
    Pending,
    /// Send this, then end the connection gracefully.
    Close(Vec<u8>),
    /// The login has succeeded: send `send`, then return the connection from the pool.
    Done {
        /// The result of the login.
        value: T,
        /// Bytes to send first; may be empty.
        send: Vec<u8>,
    },
}

/// Handles the login of one peer, frame by frame.
pub trait LoginHandler {
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

/// The state of a connection after progress was made on it.
pub(crate) enum PreAuthState<T> {
    /// It waits for its peer.
    Waiting,
    /// It waits for its login handler or for its handshake, and nothing is read meanwhile.
    Pending,
    /// It has ended or must end.
    Closed,
    /// Its login has succeeded.
    Authenticated(T),
}

/// The action that follows when the output is sent.
enum AfterSend<T> {
    Read,
    HandOver(T),
    HangUp,
}

/// The first byte of each TLS connection. As a frame length it would exceed every cap.
const TLS_HANDSHAKE: u8 = 0x16;

pub(crate) struct PreAuthConnection<G: LoginHandler> {
    /// In non-blocking mode.
    pub stream: Stream,
    /// Until the first byte decides between plain and encrypted.
    undetermined: Option<TlsServer>,
    /// A TLS handshake above the rate limit is not tried again before this time.
    delayed: Option<Instant>,
    /// Whether the login handler got the channel binding.
    is_bound: bool,
    pub deadline: Instant,
    handler: G,
    /// The current frame, with its header.
    input: Vec<u8>,
    output: Vec<u8>,
    sent: usize,
    after_send: AfterSend<G::Value>,
    hung_up: bool,
    /// Whether a whole frame of this peer was handled.
    has_spoken: bool,
}

impl<G: LoginHandler> PreAuthConnection<G> {
    pub fn new(stream: Stream, deadline: Instant, tls: TlsServer, handler: G) -> Self {
        Self {
            stream,
            undetermined: Some(tls),
            delayed: None,
            is_bound: false,
            deadline,
            handler,
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            after_send: AfterSend::Read,
            hung_up: false,
            has_spoken: false,
        }
    }

    /// Continues a pending connection if its login handler is ready.
    pub fn resume(&mut self, limiter: &mut HandshakeLimiter) -> PreAuthState<G::Value> {
        if let Some(until) = self.delayed {
            return if Instant::now() < until {
                PreAuthState::Pending
            } else {
                self.advance(limiter)
            };
        }
        match self.handler.poll_pending() {
            Some(LoginStep::Pending) | None => PreAuthState::Pending,
            Some(step) => {
                self.take(step);
                self.advance(limiter)
            }
        }
    }

    /// Whether its handshake waits because of the rate limit.
    pub fn is_delayed(&self) -> bool {
        self.delayed.is_some()
    }

    /// Makes progress until the socket would block.
    pub fn advance(&mut self, limiter: &mut HandshakeLimiter) -> PreAuthState<G::Value> {
        match self.try_advance(limiter) {
            Ok(progress) => progress,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => PreAuthState::Waiting,
            Err(_) => PreAuthState::Closed,
        }
    }

    /// Tells the peer that its login time is over, as far as the socket accepts that at once.
    ///
    /// # Errors
    /// Errors of the socket.
    pub fn expire(&mut self) -> io::Result<()> {
        let is_handshaking = self.stream.is_encrypted() && self.stream.binding()?.is_none();
        if self.hung_up || self.is_delayed() || is_handshaking {
            return Ok(());
        }
        // A peer that has sent nothing may wait for the server to speak first.
        if !self.stream.is_encrypted() && !self.has_spoken && self.input.is_empty() {
            self.output.extend_from_slice(NO_LOGIN);
        } else {
            let seconds = limits::LOGIN_TIME.as_secs();
            let message = format!("the login took more than {seconds} seconds");
            Reply::Error(Refusal::new(ErrorCode::TimedOut, message)).encode(&mut self.output);
        }
        self.send()?;
        self.stream.end_sending(SendFlags::DONTWAIT)
    }

    fn try_advance(
        &mut self,
        limiter: &mut HandshakeLimiter,
    ) -> io::Result<PreAuthState<G::Value>> {
        if self.undetermined.is_some() && !self.detect_transport(limiter)? {
            return Ok(if self.is_delayed() {
                PreAuthState::Pending
            } else {
                PreAuthState::Closed
            });
        }
        loop {
            self.send()?;
            match std::mem::replace(&mut self.after_send, AfterSend::Read) {
                AfterSend::HandOver(value) => return Ok(PreAuthState::Authenticated(value)),
                AfterSend::HangUp => {
                    self.after_send = AfterSend::HangUp;
                    return self.hang_up();
                }
                AfterSend::Read => {}
            }
            let step = match self.receive()? {
                None => return Ok(PreAuthState::Closed),
                Some(Ok(kind)) => {
                    self.has_spoken = true;
                    let step = self.handler.on_frame(kind, &self.input[HEADER_LEN..]);
                    self.input.clear();
                    step
                }
                Some(Err(error)) => {
                    let first = self.input.first_chunk().copied().unwrap_or_default();
                    LoginStep::Close(self.refuse(&first, |handler| handler.refuse(&error)))
                }
            };
            if matches!(step, LoginStep::Pending) {
                return Ok(PreAuthState::Pending);
            }
            self.take(step);
        }
    }

    /// The reply to a peer whose first bytes are `first`: in its protocol, or else `ours`.
    fn refuse(
        &mut self,
        first: &[u8; HEADER_LEN],
        ours: impl FnOnce(&mut G) -> Vec<u8>,
    ) -> Vec<u8> {
        let Some((name, refusal)) = answer_foreign(first) else { return ours(&mut self.handler) };
        static NOTED: LogRateLimiter = LogRateLimiter::new();
        if let Some(more) = NOTED.allow(Instant::now()) {
            info!("{} speaks {name}: connection rejected{more}", self.stream.peer);
        }
        refusal
    }

    fn take(&mut self, step: LoginStep<G::Value>) {
        match step {
            LoginStep::Pending => {}
            LoginStep::Reply(bytes) => self.output = bytes,
            LoginStep::Close(bytes) => (self.output, self.after_send) = (bytes, AfterSend::HangUp),
            LoginStep::Done { value, send } => {
                (self.output, self.after_send) = (send, AfterSend::HandOver(value))
            }
        }
    }

    /// Decides the transport by the first byte; false if the peer has closed or has to wait.
    fn detect_transport(&mut self, limiter: &mut HandshakeLimiter) -> io::Result<bool> {
        let mut first = [0; HEADER_LEN];
        let (_, got) = rustix::net::recv(self.stream.socket(), &mut first, RecvFlags::PEEK)?;
        let Some(tls) = self.undetermined.as_ref().filter(|_| got > 0) else { return Ok(false) };
        self.delayed = None;
        if first[0] != TLS_HANDSHAKE {
            if !tls.may_be_clear(self.stream.peer.ip()) {
                let bytes = self.refuse(&first, |_| {
                    let refusal = Refusal::new(
                        ErrorCode::TlsNeeded,
                        "this server accepts only encrypted connections (TLS) from that address",
                    );
                    let mut bytes = Vec::new();
                    Reply::Error(refusal).encode(&mut bytes);
                    bytes
                });
                self.take(LoginStep::Close(bytes));
            }
        } else if tls.encrypts() {
            if !limiter.admit(self.stream.peer.ip(), Instant::now()) {
                self.delayed = Some(Instant::now() + HANDSHAKE_RETRY);
                return Ok(false);
            }
            self.stream.encrypt(tls.begin()?);
        }
        self.undetermined = None;
        Ok(true)
    }

    fn send(&mut self) -> io::Result<()> {
        while self.sent < self.output.len() {
            match self.stream.send(&self.output[self.sent..], SendFlags::DONTWAIT) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => self.sent += n,
                Err(e) => return Err(e),
            }
        }
        self.output.clear();
        self.sent = 0;
        Ok(())
    }

    /// Reads one frame and not a byte more, because the next reader of the stream needs the rest.
    fn receive(&mut self) -> io::Result<Option<Result<FrameType, WireError>>> {
        loop {
            let begin = self.input.len();
            let end = match self.input.first_chunk().map(|header| FrameHeader::parse(*header)) {
                None => HEADER_LEN,
                // No peer may send content before its login.
                Some(Ok(header)) if header.kind == FrameType::Block => {
                    return Ok(Some(Err(WireError::Unexpected(header.kind.number()))));
                }
                Some(Ok(header)) if begin == HEADER_LEN + header.len as usize => {
                    return Ok(Some(Ok(header.kind)));
                }
                Some(Ok(header)) => HEADER_LEN + header.len as usize,
                Some(Err(error)) => return Ok(Some(Err(error))),
            };
            // The buffer grows with the received bytes, to at most twice their number.
            let reach = end.min((begin * 2).max(512));
            self.input.reserve_exact(reach - begin);
            self.input.resize(reach, 0);
            let got = (&self.stream).read(&mut self.input[begin..]);
            self.input.truncate(begin + *got.as_ref().unwrap_or(&0));
            if !self.is_bound
                && let Some(binding) = self.stream.binding()?
            {
                self.is_bound = true;
                self.handler.on_encrypted(binding);
            }
            if got? == 0 {
                return Ok(None);
            }
        }
    }

    /// Shuts down the sending side, then drops input.
    ///
    /// An immediate close would reset the connection and could destroy the last message.
    fn hang_up(&mut self) -> io::Result<PreAuthState<G::Value>> {
        if !self.hung_up {
            self.stream.end_sending(SendFlags::DONTWAIT)?;
            self.deadline = self.deadline.min(Instant::now() + REFUSAL_TIME);
            self.hung_up = true;
        }
        self.stream.discard_input()?;
        Ok(PreAuthState::Closed)
    }
}
