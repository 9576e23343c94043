//! One connection in the waiting room: a state machine over a non-blocking socket.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use relais_proto::{FrameHeader, FrameType, HEADER_LEN, WireError};

/// How long a refused peer may take to read the refusal.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What a greeter wants after a frame.
#[derive(Debug)]
pub enum Step<T> {
    /// Read the next frame.
    More,
    /// Send this, then read on.
    Reply(Vec<u8>),
    /// Read nothing more until [`Greeter::ready`] has the next step.
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
pub trait Greeter {
    /// What a finished login comes to.
    type Value;
    /// Takes the next frame.
    fn frame(&mut self, kind: FrameType, payload: &[u8]) -> Step<Self::Value>;
    /// The step that follows [`Step::Pending`], once it is known.
    fn ready(&mut self) -> Option<Step<Self::Value>> {
        None
    }
    /// The last words for a peer that sent bytes that are no frame.
    fn refuse(&mut self, error: &WireError) -> Vec<u8>;
}

/// What became of a guest.
pub(crate) enum Outcome<T> {
    /// It stays; the flag tells whether it waits to send rather than to receive.
    Stays { sending: bool },
    /// It stays, and nothing is read from it before its greeter is ready.
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

pub(crate) struct Guest<G: Greeter> {
    pub stream: TcpStream,
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
}

impl<G: Greeter> Guest<G> {
    pub fn new(stream: TcpStream, peer: SocketAddr, local: SocketAddr, deadline: Instant, greeter: G) -> Self {
        Self {
            stream,
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
        }
    }

    /// Goes on with a guest that is pending, where its greeter is ready.
    pub fn resume(&mut self) -> Outcome<G::Value> {
        match self.greeter.ready() {
            Some(Step::Pending) | None => Outcome::Pending,
            Some(step) => {
                self.take(step);
                self.advance()
            }
        }
    }

    /// Goes as far as the socket lets it.
    pub fn advance(&mut self) -> Outcome<G::Value> {
        match self.try_advance() {
            Ok(outcome) => outcome,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Outcome::Stays { sending: self.sent < self.output.len() },
            Err(_) => Outcome::Leaves,
        }
    }

    fn try_advance(&mut self) -> io::Result<Outcome<G::Value>> {
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
                Some(Ok(kind)) => self.greeter.frame(kind, &self.payload),
                Some(Err(error)) => Step::Close(self.greeter.refuse(&error)),
            };
            if matches!(step, Step::Pending) {
                return Ok(Outcome::Pending);
            }
            self.take(step);
        }
    }

    fn take(&mut self, step: Step<G::Value>) {
        match step {
            Step::More | Step::Pending => {}
            Step::Reply(bytes) => self.output = bytes,
            Step::Close(bytes) => (self.output, self.then) = (bytes, Then::HangUp),
            Step::Done { value, send } => (self.output, self.then) = (send, Then::HandOver(value)),
        }
    }

    fn send(&mut self) -> io::Result<()> {
        while self.sent < self.output.len() {
            match self.stream.write(&self.output[self.sent..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => self.sent += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
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
                if !fill(&mut self.stream, &mut self.header, &mut self.filled)? {
                    return Ok(None);
                }
                self.filled = 0;
                match FrameHeader::parse(self.header) {
                    // Nobody sends content before the login.
                    Ok(header) if header.kind == FrameType::Block => return Ok(Some(Err(WireError::Unexpected(header.kind.number())))),
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
            if !fill(&mut self.stream, &mut self.payload[..reach], &mut self.filled)? {
                return Ok(None);
            }
        }
        self.payload.truncate(len);
        self.filled = 0;
        self.frame = None;
        Ok(Some(Ok(header.kind)))
    }

    /// Says that no more comes, then drops what the peer still sends: closing at once would
    /// reset the connection and could destroy the last words on their way.
    fn hang_up(&mut self) -> io::Result<Outcome<G::Value>> {
        if !self.hung_up {
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
fn fill(stream: &mut TcpStream, buffer: &mut [u8], filled: &mut usize) -> io::Result<bool> {
    while *filled < buffer.len() {
        match stream.read(&mut buffer[*filled..]) {
            Ok(0) => return Ok(false),
            Ok(n) => *filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(true)
}
