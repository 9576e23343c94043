//! The thread of one encrypted connection: carries bytes between the socket and the near end of a local pair.
//!
//! Nothing is held back: a side that takes nothing more makes the other one wait, as with one socket. An end that was told goes on
//! as an end; one that was not, a cut, closes both.

use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use log::{debug, trace};
use relais_proto::limits;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Socket, Type};

/// Bytes carried in one step.
const STEP: usize = 64 * 1024;
/// Stack of a thread: the cryptography keeps its keys and buffers elsewhere.
const STACK: usize = 256 * 1024;

/// Carries `tls` over `stream` from here on; the socket that is returned is in blocking mode, and has what both sides say in the clear.
///
/// # Errors
/// Those of the system calls, and of starting a thread.
pub fn start(tls: rustls::Connection, stream: TcpStream) -> io::Result<Socket> {
    let (near, far) = Socket::pair(Domain::UNIX, Type::STREAM, None)?;
    far.set_nonblocking(true)?;
    stream.set_nonblocking(true)?;
    let pump =
        Pump { tls, stream, far, up: true, told: false, down: true, buffer: vec![0; STEP], input: vec![0; STEP], ready: 0..0, last: None };
    std::thread::Builder::new().name("tls".to_owned()).stack_size(STACK).spawn(move || {
        let peer = pump.stream.peer_addr();
        if let Err(e) = pump.run() {
            debug!("the encrypted connection with {peer:?} was cut: {e}");
        }
    })?;
    Ok(near)
}

struct Pump {
    tls: rustls::Connection,
    stream: TcpStream,
    far: Socket,
    /// Whether more may come from the near end.
    up: bool,
    /// Whether the peer was told that nothing more comes.
    told: bool,
    /// Whether more may come from the peer.
    down: bool,
    /// For what comes from the near end.
    buffer: Vec<u8>,
    /// What came from the peer and was not decrypted yet lies in `ready` of it.
    input: Vec<u8>,
    ready: std::ops::Range<usize>,
    /// When bytes last went to the peer after the near end was closed.
    last: Option<Instant>,
}

/// What a step came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Moved,
    Waits,
}

impl Pump {
    fn run(mut self) -> io::Result<()> {
        // What is to be sent is bounded by what was read in one step.
        self.tls.set_buffer_limit(None);
        while self.up || !self.told || self.down {
            let (out, back) = (self.send()?, self.receive()?);
            if (out, back) == (Step::Waits, Step::Waits) && (self.up || !self.told || self.down) {
                self.wait()?;
            }
        }
        trace!("an encrypted connection has ended");
        Ok(())
    }

    /// From the near end to the peer.
    fn send(&mut self) -> io::Result<Step> {
        let mut step = Step::Waits;
        if self.up && !self.tls.wants_write() {
            match self.far.read(&mut self.buffer) {
                Ok(0) => {
                    self.up = false;
                    self.tls.send_close_notify();
                    step = Step::Moved;
                }
                Ok(n) => {
                    self.tls.writer().write_all(&self.buffer[..n])?;
                    step = Step::Moved;
                }
                Err(e) if is_later(&e) => {}
                Err(e) => return Err(e),
            }
        }
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.stream) {
                Ok(_) => {
                    step = Step::Moved;
                    self.last = None;
                }
                Err(e) if is_later(&e) => return Ok(step),
                Err(e) => {
                    // The peer takes nothing more. What it said before is still there.
                    debug!("the peer of an encrypted connection takes nothing more: {e}");
                    self.up = false;
                    self.told = true;
                    let _ = self.far.shutdown(Shutdown::Read);
                    while self.tls.wants_write() {
                        self.tls.write_tls(&mut io::sink())?;
                    }
                }
            }
        }
        if !self.up && !self.told {
            self.told = true;
            // Where that fails the peer has gone already.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        Ok(step)
    }

    /// From the peer to the near end.
    fn receive(&mut self) -> io::Result<Step> {
        let mut step = Step::Waits;
        while self.down {
            match self.deliver()? {
                Some(moved) => return Ok(if moved { Step::Moved } else { step }),
                None if self.ready.is_empty() => match self.stream.read(&mut self.input) {
                    Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "the peer did not say that this is the end")),
                    Ok(n) => self.ready = 0..n,
                    Err(e) if is_later(&e) => return Ok(step),
                    Err(e) => return Err(e),
                },
                None => {}
            }
            step = Step::Moved;
            let mut rest = &self.input[self.ready.clone()];
            self.tls.read_tls(&mut rest)?;
            self.ready.start = self.ready.end - rest.len();
            if let Err(e) = self.tls.process_new_packets() {
                // It is told why, where it still listens.
                let _ = self.tls.write_tls(&mut self.stream);
                return Err(super::other(e));
            }
        }
        Ok(step)
    }

    /// Hands on what is decrypted; none where there is nothing more of it, and else whether some was taken.
    fn deliver(&mut self) -> io::Result<Option<bool>> {
        let mut moved = false;
        loop {
            let mut reader = self.tls.reader();
            let chunk = match reader.fill_buf() {
                Ok(chunk) => chunk,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(e) => return Err(e),
            };
            if chunk.is_empty() {
                self.down = false;
                let _ = self.far.shutdown(Shutdown::Write);
                return Ok(Some(true));
            }
            match self.far.write(chunk) {
                Ok(n) => {
                    reader.consume(n);
                    moved = true;
                }
                Err(e) if is_later(&e) => return Ok(Some(moved)),
                // Nobody reads it any more.
                Err(e) if e.kind() == ErrorKind::BrokenPipe => {
                    self.down = false;
                    return Ok(Some(true));
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Waits until one side can go on.
    fn wait(&mut self) -> io::Result<()> {
        let sending = self.tls.wants_write();
        // What was decrypted and not taken waits for the near end, everything else for the peer.
        let undelivered = self.down && !matches!(self.tls.reader().fill_buf(), Err(e) if e.kind() == ErrorKind::WouldBlock);
        let mut far = PollFlags::empty();
        far.set(PollFlags::IN, self.up && !sending);
        far.set(PollFlags::OUT, undelivered);
        let mut stream = PollFlags::empty();
        stream.set(PollFlags::OUT, sending);
        stream.set(PollFlags::IN, self.down && !undelivered);
        // Once the near end is closed nobody else looks whether the peer still takes anything.
        let left = (!self.up && !self.told).then(|| {
            let since = *self.last.get_or_insert_with(Instant::now);
            limits::FRAME_TIME.saturating_sub(since.elapsed())
        });
        if left.is_some_and(|left| left.is_zero()) {
            return Err(io::Error::new(ErrorKind::TimedOut, "the peer takes nothing more"));
        }
        let timeout = left.and_then(|left| Timespec::try_from(left.max(Duration::from_millis(1))).ok());
        let mut fds = [PollFd::new(&self.far, far), PollFd::new(&self.stream, stream)];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        let gone = PollFlags::HUP | PollFlags::ERR;
        if fds[0].revents().intersects(gone) && !self.up {
            // Closed altogether: nobody hears what the peer still says.
            self.down = false;
        }
        Ok(())
    }
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
