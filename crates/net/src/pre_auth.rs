//! One connection in the waiting room: a state machine over a non-blocking socket.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use log::info;
use relais_proto::{
    ErrorCode, FrameHeader, FrameType, HEADER_LEN, LogRateLimiter, Refusal, Reply, WireError,
    limits,
};
use rustix::net::RecvFlags;

use crate::Stream;
use crate::foreign_protocol::{ForeignProtocol, no_login};
use crate::tls::{ChannelBinding, Encrypted, TlsServer};

/// How long a refused peer may take to read the refusal.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long a handshake that has to wait is put off at a time.
pub(crate) const HELD_FOR: Duration = Duration::from_millis(20);

/// What a greeter wants after a frame.
#[derive(Debug)]
pub enum LoginStep<T> {
    /// Read the next frame.
    More,
    /// Send this, then read on.
    Reply(Vec<u8>),
    /// Read nothing more until [`LoginHandler::poll_pending`] has the next step.
    Pending,
    /// Send this, then end the connection so that it arrives.
    Close(Vec<u8>),
    /// Send this, then hand the connection over with `value`.
    Done {
        /// What the login came to.
        value: T,
        /// Bytes that go out first; may be empty.
        send: Vec<u8>,
    },
}

/// Leads one peer through its login, frame by frame.
pub trait LoginHandler {
    /// What a finished login comes to.
    type Value;
    /// Whether somebody has logged in before from the network that the peer is in. Asked when it comes.
    fn is_known(&self) -> bool {
        false
    }
    /// Takes the next frame.
    fn on_frame(&mut self, kind: FrameType, payload: &[u8]) -> LoginStep<Self::Value>;
    /// The connection is encrypted, and this ties proofs to it.
    fn on_encrypted(&mut self, binding: ChannelBinding) {
        let _ = binding;
    }
    /// The step that follows [`LoginStep::Pending`], once it is known.
    fn poll_pending(&mut self) -> Option<LoginStep<Self::Value>> {
        None
    }
    /// The last words for a peer that sent bytes that are no frame.
    fn refuse(&mut self, error: &WireError) -> Vec<u8>;
    /// The last words for a peer that is through, and whose encrypted connection no thread can carry.
    fn refuse_busy(&mut self) -> Vec<u8> {
        Vec::new()
    }
}

/// What became of a guest.
pub(crate) enum Outcome<T> {
    /// It stays; the flag tells whether it waits to send rather than to receive.
    Stays { sending: bool },
    /// It stays, and nothing is read from it before its greeter is ready, or there is time for its handshake.
    Pending,
    /// It has gone or must go.
    Leaves,
    /// It is through.
    Through(T),
}

enum Then<T> {
    Read,
    HandOver(T),
    HangUp,
}

/// What is spoken on a connection.
enum Transport {
    /// Nothing has come yet.
    Undetermined,
    /// The handshake that has begun has to wait, until then at least.
    Delayed(Instant),
    Plain,
    Encrypted(Box<Encrypted>),
}

/// The first byte of each TLS connection. No frame that anybody takes begins with it: it would be far too long.
const HANDSHAKE: u8 = 0x16;

pub(crate) struct PreAuthConnection<G: LoginHandler> {
    pub stream: TcpStream,
    transport: Transport,
    tls: Option<TlsServer>,
    pub peer: SocketAddr,
    pub local: SocketAddr,
    pub deadline: Instant,
    /// Whether the poll set waits until this one can be sent to.
    pub watched_for_sending: bool,
    greeter: G,
    header: [u8; HEADER_LEN],
    payload: Vec<u8>,
    filled: usize,
    frame: Option<FrameHeader>,
    output: Vec<u8>,
    sent: usize,
    then: Then<G::Value>,
    hung_up: bool,
    /// Whether a frame of this peer was taken.
    has_spoken: bool,
}

impl<G: LoginHandler> PreAuthConnection<G> {
    pub fn new(
        stream: TcpStream,
        ends: (SocketAddr, SocketAddr),
        deadline: Instant,
        tls: Option<TlsServer>,
        greeter: G,
    ) -> Self {
        let (peer, local) = ends;
        Self {
            stream,
            // Where nothing can be encrypted whatever comes is taken as it is.
            transport: if tls.is_some() { Transport::Undetermined } else { Transport::Plain },
            tls,
            peer,
            local,
            deadline,
            watched_for_sending: false,
            greeter,
            header: [0; HEADER_LEN],
            payload: Vec::new(),
            filled: 0,
            frame: None,
            output: Vec::new(),
            sent: 0,
            then: Then::Read,
            hung_up: false,
            has_spoken: false,
        }
    }

    /// Goes on with a guest that is pending, where its greeter is ready.
    pub fn resume(&mut self, admit: &mut dyn FnMut() -> bool) -> Outcome<G::Value> {
        if let Transport::Delayed(until) = self.transport {
            return if Instant::now() < until { Outcome::Pending } else { self.advance(admit) };
        }
        match self.greeter.poll_pending() {
            Some(LoginStep::Pending) | None => Outcome::Pending,
            Some(step) => {
                self.take(step);
                self.advance(admit)
            }
        }
    }

    /// Whether its handshake waits for its turn.
    pub fn is_held(&self) -> bool {
        matches!(self.transport, Transport::Delayed(_))
    }

    /// Goes as far as the socket lets it.
    pub fn advance(&mut self, admit: &mut dyn FnMut() -> bool) -> Outcome<G::Value> {
        match self.try_advance(admit) {
            Ok(outcome) => outcome,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                Outcome::Stays { sending: self.is_sending() }
            }
            Err(_) => Outcome::Leaves,
        }
    }

    /// Says that its time is over, as far as the socket takes that at once.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn expire(&mut self) -> io::Result<()> {
        if self.hung_up || self.is_held() || self.is_sending() {
            return Ok(());
        }
        if self.is_silent() {
            self.output.extend_from_slice(no_login());
        } else {
            let seconds = limits::LOGIN_TIME.as_secs();
            let message = format!("the login took more than {seconds} seconds");
            Reply::Error(Refusal::new(ErrorCode::TimedOut, message)).encode(&mut self.output);
        }
        self.send()?;
        if let Transport::Encrypted(tls) = &mut self.transport {
            tls.close();
            tls.flush(&mut self.stream)?;
        }
        self.stream.shutdown(Shutdown::Write)
    }

    fn is_sending(&self) -> bool {
        self.sent < self.output.len()
            || matches!(&self.transport, Transport::Encrypted(tls) if tls.is_sending())
    }

    fn try_advance(&mut self, admit: &mut dyn FnMut() -> bool) -> io::Result<Outcome<G::Value>> {
        if matches!(self.transport, Transport::Undetermined | Transport::Delayed(_))
            && !self.detect_transport(admit)?
        {
            return Ok(if self.is_held() { Outcome::Pending } else { Outcome::Leaves });
        }
        loop {
            self.send()?;
            match std::mem::replace(&mut self.then, Then::Read) {
                Then::HandOver(value) => return Ok(Outcome::Through(value)),
                Then::HangUp => {
                    self.then = Then::HangUp;
                    return self.hang_up();
                }
                Then::Read => {}
            }
            let step = match self.receive()? {
                None => return Ok(Outcome::Leaves),
                Some(Ok(kind)) => {
                    self.has_spoken = true;
                    self.greeter.on_frame(kind, &self.payload)
                }
                Some(Err(error)) => LoginStep::Close(self.refuse(&error)),
            };
            if matches!(step, LoginStep::Pending) {
                return Ok(Outcome::Pending);
            }
            self.take(step);
        }
    }

    /// The last words for a peer whose bytes are no frame: in its own protocol, where that is known.
    fn refuse(&mut self, error: &WireError) -> Vec<u8> {
        match ForeignProtocol::of(&self.header) {
            Some(foreign) => {
                self.note_foreign(foreign);
                foreign.refusal()
            }
            None => self.greeter.refuse(error),
        }
    }

    fn note_foreign(&self, foreign: ForeignProtocol) {
        static NOTED: LogRateLimiter = LogRateLimiter::new();
        if let Some(more) = NOTED.allow(Instant::now()) {
            info!("{} speaks {} and is sent away{more}", self.peer, foreign.name());
        }
    }

    /// Whether it has said nothing at all: it may wait for the server to speak.
    fn is_silent(&self) -> bool {
        matches!(self.transport, Transport::Undetermined | Transport::Plain)
            && self.filled == 0
            && self.frame.is_none()
            && !self.has_spoken
    }

    fn take(&mut self, step: LoginStep<G::Value>) {
        match step {
            LoginStep::More | LoginStep::Pending => {}
            LoginStep::Reply(bytes) => self.output = bytes,
            LoginStep::Close(bytes) => (self.output, self.then) = (bytes, Then::HangUp),
            LoginStep::Done { value, send } => {
                (self.output, self.then) = (send, Then::HandOver(value))
            }
        }
    }

    /// Looks at the first byte; false where the peer has closed, or has to wait.
    fn detect_transport(&mut self, admit: &mut dyn FnMut() -> bool) -> io::Result<bool> {
        let mut first = [0; HEADER_LEN];
        let (_, got) = rustix::net::recv(&self.stream, &mut first, RecvFlags::PEEK)?;
        let Some(tls) = self.tls.as_ref().filter(|_| got > 0) else { return Ok(false) };
        if first[0] != HANDSHAKE {
            if !tls.may_be_clear(self.peer.ip()) {
                let refusal = Refusal::new(
                    ErrorCode::TlsNeeded,
                    "this server takes connections from there encrypted (TLS) only",
                );
                let bytes = match ForeignProtocol::of(&first) {
                    Some(foreign) => {
                        self.note_foreign(foreign);
                        foreign.refusal()
                    }
                    None => {
                        let mut bytes = Vec::new();
                        Reply::Error(refusal).encode(&mut bytes);
                        bytes
                    }
                };
                self.take(LoginStep::Close(bytes));
            }
            self.transport = Transport::Plain;
            return Ok(true);
        }
        self.transport = match () {
            () if !tls.encrypts() => Transport::Plain,
            () if !admit() => Transport::Delayed(Instant::now() + HELD_FOR),
            () => Transport::Encrypted(Box::new(tls.begin()?)),
        };
        Ok(!self.is_held())
    }

    /// Hands the connection over to whoever serves it.
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn into_stream(mut self) -> io::Result<Stream> {
        let (peer, local) = (self.peer, self.local);
        let socket = match self.transport {
            Transport::Encrypted(tls) => tls.carry(self.stream, || self.greeter.refuse_busy())?,
            Transport::Undetermined | Transport::Delayed(_) | Transport::Plain => {
                self.stream.set_nonblocking(false)?;
                self.stream.into()
            }
        };
        Ok(Stream { socket, peer, local })
    }

    fn send(&mut self) -> io::Result<()> {
        while self.sent < self.output.len() {
            let rest = &self.output[self.sent..];
            let sent = match &mut self.transport {
                Transport::Encrypted(tls) => tls.write(rest),
                Transport::Undetermined | Transport::Delayed(_) | Transport::Plain => {
                    self.stream.write(rest)
                }
            };
            match sent {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => self.sent += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        if let Transport::Encrypted(tls) = &mut self.transport {
            tls.flush(&mut self.stream)?;
        }
        self.output.clear();
        self.sent = 0;
        Ok(())
    }

    /// Reads one frame and not a byte more, so that whoever takes the connection over finds the rest.
    fn receive(&mut self) -> io::Result<Option<Result<FrameType, WireError>>> {
        let header = match self.frame {
            Some(header) => header,
            None => {
                let filled =
                    fill(&mut self.transport, &mut self.stream, &mut self.header, &mut self.filled);
                self.note_binding()?;
                if !filled? {
                    return Ok(None);
                }
                self.filled = 0;
                match FrameHeader::parse(self.header) {
                    // Nobody sends content before the login.
                    Ok(header) if header.kind == FrameType::Block => {
                        return Ok(Some(Err(WireError::Unexpected(header.kind.number()))));
                    }
                    Ok(header) => *self.frame.insert(header),
                    Err(error) => return Ok(Some(Err(error))),
                }
            }
        };
        let len = header.len as usize;
        while self.filled < len {
            // The buffer grows with what has come, never ahead of it by more than as much again.
            let reach = len.min((self.filled * 2).max(512));
            self.payload.reserve_exact(reach.saturating_sub(self.payload.len()));
            self.payload.resize(reach, 0);
            if !fill(
                &mut self.transport,
                &mut self.stream,
                &mut self.payload[..reach],
                &mut self.filled,
            )? {
                return Ok(None);
            }
        }
        self.payload.truncate(len);
        self.filled = 0;
        self.frame = None;
        Ok(Some(Ok(header.kind)))
    }

    /// Tells the greeter of a handshake that is through.
    fn note_binding(&mut self) -> io::Result<()> {
        if let Transport::Encrypted(tls) = &mut self.transport
            && let Some(binding) = tls.newly_bound()?
        {
            self.greeter.on_encrypted(binding);
        }
        Ok(())
    }

    /// Says that no more comes, then drops what the peer still sends: closing at once would
    /// reset the connection and could destroy the last words on their way.
    fn hang_up(&mut self) -> io::Result<Outcome<G::Value>> {
        if !self.hung_up {
            if let Transport::Encrypted(tls) = &mut self.transport {
                tls.close();
                tls.flush(&mut self.stream)?;
            }
            self.stream.shutdown(Shutdown::Write)?;
            self.deadline = self.deadline.min(Instant::now() + LAST_WORDS);
            self.hung_up = true;
        }
        let mut sink = [0; 4096];
        // Bounded, so that a peer that never stops sending does not hold the room up.
        for _ in 0..64 {
            if self.stream.read(&mut sink)? == 0 {
                return Ok(Outcome::Leaves);
            }
        }
        Ok(Outcome::Stays { sending: false })
    }
}

/// Fills `buffer` from `filled` on; false where the peer closed.
fn fill(
    transport: &mut Transport,
    stream: &mut TcpStream,
    buffer: &mut [u8],
    filled: &mut usize,
) -> io::Result<bool> {
    while *filled < buffer.len() {
        let rest = &mut buffer[*filled..];
        let got = match transport {
            Transport::Encrypted(tls) => tls.read(stream, rest),
            Transport::Undetermined | Transport::Delayed(_) | Transport::Plain => stream.read(rest),
        };
        match got {
            Ok(0) => return Ok(false),
            Ok(n) => *filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(true)
}
