//! One connection before its login: a state machine over a non-blocking socket.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use relais_proto::limits;
use rustix::net::{RecvFlags, SendFlags};

use crate::handshake_limiter::HandshakeLimiter;
use crate::login_handler::{LoginHandler, LoginStep};
use crate::pre_auth_listener::TlsRule;
use crate::stream::Stream;
use crate::tls::TlsServer;

/// Time that a rejected peer has to read the refusal.
const REFUSAL_TIME: Duration = Duration::from_secs(2);
/// Most bytes that a peer may send before its login, over-long messages included.
const INPUT_MAX: usize = 64 * 1024;
/// Most requests of one connection that are answered before others have their turn.
const ANSWERS_IN_TURN: u32 = 16;
/// Bytes that the first read may take.
const FIRST_READ: usize = 512;
/// First bytes by which other protocols are recognized.
const FIRST_BYTES: usize = relais_proto::HEADER_LEN;

/// Pause before a handshake above the rate limit is tried again.
pub(crate) const HANDSHAKE_RETRY: Duration = Duration::from_millis(20);

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

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The first byte decides between plain and encrypted.
    Detect,
    /// A handshake begins as soon as the rate limit admits it.
    StartTls,
    /// The handshake is under way.
    Handshake,
    /// The handler's first step is due.
    Begin,
    /// The handler gets input.
    LogIn,
}

/// The action that follows when the output is sent.
enum AfterSend<T> {
    Read,
    /// Ask the handler for more.
    Poll,
    StartTls,
    HandOver(T),
    HangUp,
}

/// The first byte of each TLS connection. As a frame length it would exceed every cap.
const TLS_HANDSHAKE: u8 = 0x16;

pub(crate) struct PreAuthConnection<G: LoginHandler> {
    /// In non-blocking mode.
    pub stream: Stream,
    pub deadline: Instant,
    tls: Arc<TlsRule>,
    phase: Phase,
    /// It is not continued before this time: its TLS handshake is above the rate limit, or it has
    /// had its turn.
    delayed: Option<Instant>,
    /// Requests that were answered in this turn.
    answers: u32,
    /// Whether the handler's first step was taken.
    has_begun: bool,
    handler: G,
    /// The current message, or a part of it.
    pub input: Vec<u8>,
    /// Bytes that the peer may still send.
    input_left: usize,
    /// Whether it was kept after a request, and the next one has not begun.
    is_idle: bool,
    output: Vec<u8>,
    sent: usize,
    after_send: AfterSend<G::Value>,
    hung_up: bool,
}

impl<G: LoginHandler> PreAuthConnection<G> {
    pub fn new(stream: Stream, deadline: Instant, tls: Arc<TlsRule>, handler: G) -> Self {
        let phase = match &*tls {
            TlsRule::Detect(_) => Phase::Detect,
            TlsRule::Explicit(_) => Phase::Begin,
            TlsRule::Implicit(_) => Phase::StartTls,
        };
        Self {
            stream,
            deadline,
            tls,
            phase,
            delayed: None,
            answers: 0,
            has_begun: false,
            handler,
            input: Vec::new(),
            input_left: INPUT_MAX,
            is_idle: false,
            output: Vec::new(),
            sent: 0,
            after_send: AfterSend::Read,
            hung_up: false,
        }
    }

    /// Continues a connection that was authenticated, with input that was read ahead.
    pub fn again(stream: Stream, input: Vec<u8>, tls: Arc<TlsRule>, handler: G) -> Self {
        let (phase, has_begun) = (Phase::LogIn, true);
        let new = Self::new(stream, Instant::now(), tls, handler);
        let mut connection = Self { phase, has_begun, input, ..new };
        connection.keep();
        connection
    }

    /// Starts the time for the next request.
    fn keep(&mut self) {
        self.is_idle = self.input.is_empty();
        let time = if self.is_idle { self.handler.idle_time() } else { limits::LOGIN_TIME };
        self.deadline = Instant::now() + time;
        self.input_left = INPUT_MAX.saturating_sub(self.input.len());
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

    /// Whether it waits for a time, not for its login handler.
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
        if self.hung_up || matches!(self.phase, Phase::StartTls | Phase::Handshake) {
            return Ok(());
        }
        self.output.extend_from_slice(&self.handler.expire(&self.input));
        self.send()?;
        self.stream.end_sending(SendFlags::DONTWAIT)
    }

    fn try_advance(
        &mut self,
        limiter: &mut HandshakeLimiter,
    ) -> io::Result<PreAuthState<G::Value>> {
        self.answers = 0;
        loop {
            match self.phase {
                Phase::Detect => {
                    if !self.detect()? {
                        return Ok(PreAuthState::Closed);
                    }
                }
                Phase::StartTls => {
                    if !limiter.admit(self.stream.peer.ip(), Instant::now()) {
                        self.delayed = Some(Instant::now() + HANDSHAKE_RETRY);
                        return Ok(PreAuthState::Pending);
                    }
                    self.delayed = None;
                    let tls = self.tls.server().ok_or(io::ErrorKind::Unsupported)?.begin()?;
                    self.stream.encrypt(tls);
                    self.phase = Phase::Handshake;
                }
                Phase::Handshake => {
                    self.stream.continue_handshake()?;
                    if let Some(binding) = self.stream.binding()? {
                        self.handler.on_encrypted(binding);
                    }
                    self.phase = if self.has_begun { Phase::LogIn } else { Phase::Begin };
                }
                Phase::Begin => {
                    self.phase = Phase::LogIn;
                    self.has_begun = true;
                    let step = self.handler.begin();
                    if self.take(step) {
                        return Ok(PreAuthState::Pending);
                    }
                }
                Phase::LogIn => {
                    self.delayed = None;
                    if let Some(state) = self.log_in()? {
                        return Ok(state);
                    }
                }
            }
        }
    }

    /// Sends and reads by turns; none if the phase has changed.
    fn log_in(&mut self) -> io::Result<Option<PreAuthState<G::Value>>> {
        loop {
            self.send()?;
            match std::mem::replace(&mut self.after_send, AfterSend::Read) {
                AfterSend::HandOver(value) => {
                    return Ok(Some(PreAuthState::Authenticated(value)));
                }
                AfterSend::HangUp => {
                    self.after_send = AfterSend::HangUp;
                    return self.hang_up().map(Some);
                }
                AfterSend::StartTls => {
                    self.phase = Phase::StartTls;
                    return Ok(None);
                }
                AfterSend::Poll => return Ok(Some(PreAuthState::Pending)),
                AfterSend::Read => {}
            }
            if self.answers >= ANSWERS_IN_TURN {
                self.delayed = Some(Instant::now());
                return Ok(Some(PreAuthState::Pending));
            }
            match self.handler.on_input(&mut self.input) {
                Some(step) => {
                    if self.take(step) {
                        return Ok(Some(PreAuthState::Pending));
                    }
                }
                None => {
                    if !self.receive()? {
                        return Ok(Some(PreAuthState::Closed));
                    }
                }
            }
        }
    }

    /// Prepares a step; true if the handler has to be asked later.
    fn take(&mut self, step: LoginStep<G::Value>) -> bool {
        (self.output, self.after_send) = match step {
            LoginStep::Pending => {
                self.deadline = self.deadline.max(Instant::now() + self.handler.pending_time());
                return true;
            }
            LoginStep::Reply(bytes) => (bytes, AfterSend::Read),
            LoginStep::Answer(bytes) => {
                self.keep();
                self.answers += 1;
                (bytes, AfterSend::Read)
            }
            LoginStep::Stream(bytes) => {
                self.deadline = Instant::now() + self.handler.pending_time();
                (bytes, AfterSend::Poll)
            }
            LoginStep::Close(bytes) => (bytes, AfterSend::HangUp),
            LoginStep::StartTls(bytes) => {
                self.input = Vec::new();
                // What is in the socket came before the peer could see the reply.
                match self.stream.discard_input() {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => (bytes, AfterSend::StartTls),
                    _ => (Vec::new(), AfterSend::HangUp),
                }
            }
            LoginStep::Done { value, send } => (send, AfterSend::HandOver(value)),
        };
        false
    }

    /// Decides the transport by the first byte; false if the peer has closed.
    fn detect(&mut self) -> io::Result<bool> {
        let mut first = [0; FIRST_BYTES];
        let (_, got) = rustix::net::recv(self.stream.socket(), &mut first, RecvFlags::PEEK)?;
        if got == 0 {
            return Ok(false);
        }
        let tls = self.tls.server();
        self.phase = Phase::Begin;
        if first[0] == TLS_HANDSHAKE {
            if tls.is_some_and(TlsServer::encrypts) {
                self.phase = Phase::StartTls;
            }
        } else if tls.is_some_and(|tls| !tls.may_be_clear(self.stream.peer.ip())) {
            let refusal = self.handler.refuse_clear_text(&first[..got]);
            self.phase = Phase::LogIn;
            self.take(LoginStep::Close(refusal));
        }
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

    /// Reads as much as the handler wants at most; false at the end of the input.
    fn receive(&mut self) -> io::Result<bool> {
        let begin = self.input.len();
        let end = self.handler.input_limit(&self.input).min(begin + self.input_left);
        if end <= begin {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too long before a login"));
        }
        // The buffer grows with the received bytes, to at most twice their number.
        let reach = end.min((begin * 2).max(FIRST_READ));
        self.input.reserve_exact(reach - begin);
        self.input.resize(reach, 0);
        let got = (&self.stream).read(&mut self.input[begin..]);
        self.input.truncate(begin + *got.as_ref().unwrap_or(&0));
        if self.input.is_empty() {
            // Thousands of connections may wait.
            self.input = Vec::new();
        }
        let got = got?;
        self.input_left -= got;
        if std::mem::take(&mut self.is_idle) {
            self.deadline = Instant::now() + limits::LOGIN_TIME;
        }
        Ok(got > 0)
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
