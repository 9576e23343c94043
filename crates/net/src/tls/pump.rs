//! The thread of one encrypted connection: it relays bytes between the TCP socket and a local pair.
//!
//! Back-pressure passes through: a side that does not read makes the other side wait. A closing
//! alert is passed on as an end of file; an end without the alert is a cut and closes both sides.
//! The last bytes of the near end are delivered after it was closed, as long as the peer reads at
//! the minimum throughput.

use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::{debug, trace, warn};
use relais_proto::{LogRateLimiter, limits};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Socket, Type};

use crate::minimum_throughput::MinimumThroughput;

/// First size of a buffer. It is small, because many connections are idle.
const FIRST: usize = 4 * 1024;
/// Size of a buffer after it was full once.
const LARGE: usize = 64 * 1024;
/// Stack of a thread. The TLS library keeps its keys and buffers on the heap.
const STACK: usize = 256 * 1024;
/// Time for which input is read and dropped after both sides are done.
///
/// An immediate close would reset the connection and could destroy the last bytes sent.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// The number of encrypted connections in this process.
static OPEN: Mutex<usize> = Mutex::new(0);
static CLOSED: Condvar = Condvar::new();

fn open_count() -> MutexGuard<'static, usize> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until all encrypted connections have delivered their last bytes or have failed.
///
/// It returns false if some are left after `timeout`. A process calls it before it ends.
#[must_use]
pub fn wait_until_delivered(timeout: Duration) -> bool {
    let (count, _) = CLOSED
        .wait_timeout_while(open_count(), timeout, |count| *count > 0)
        .unwrap_or_else(PoisonError::into_inner);
    *count == 0
}

/// Counts one open connection while it exists.
struct OpenGuard;

impl OpenGuard {
    fn new() -> Self {
        *open_count() += 1;
        Self
    }
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        *open_count() -= 1;
        CLOSED.notify_all();
    }
}

/// Starts the thread that relays `tls` over `stream`, and returns the near end.
///
/// The near end is in blocking mode and carries the plain text of both sides. If no thread can be
/// started, the peer gets `last_words`, as far as its socket accepts them at once.
///
/// # Errors
/// Errors of the system calls and of starting a thread.
pub fn start(
    mut tls: rustls::Connection,
    stream: TcpStream,
    last_words: impl FnOnce() -> Vec<u8>,
) -> io::Result<Socket> {
    let (near, far) = Socket::pair(Domain::UNIX, Type::STREAM, None)?;
    far.set_nonblocking(true)?;
    stream.set_nonblocking(true)?;
    // The output is bounded by the input of one step.
    tls.set_buffer_limit(None);
    let pump = Pump {
        tls,
        stream,
        far,
        up: Up::Open,
        down: Down::Open,
        closing: None,
        buffer: vec![0; FIRST],
        input: vec![0; FIRST],
        ready: 0..0,
    };
    let guard = OpenGuard::new();
    // Shared, so that this thread gets the pump back if no thread can be started.
    let pump = Arc::new(Mutex::new(Some(pump)));
    let take =
        |pump: &Mutex<Option<Pump>>| pump.lock().unwrap_or_else(PoisonError::into_inner).take();
    let for_thread = Arc::clone(&pump);
    let started =
        std::thread::Builder::new().name("tls".to_owned()).stack_size(STACK).spawn(move || {
            let _guard = guard;
            let Some(pump) = take(&for_thread) else { return };
            let peer = pump.stream.peer_addr();
            if let Err(e) = pump.run() {
                debug!("the encrypted connection with {peer:?} was cut: {e}");
            }
        });
    match started {
        Ok(_) => Ok(near),
        Err(e) => {
            if let Some(Err(e)) = take(&pump).map(|mut pump| pump.reject(&last_words())) {
                debug!("cannot tell a peer that there is no thread: {e}");
            }
            Err(e)
        }
    }
}

/// State of the direction from the near end to the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Up {
    Open,
    /// The near end has ended; output may be left to send.
    Ended,
    /// The closing alert was sent, or the peer reads nothing more.
    Over,
}

/// State of the direction from the peer to the near end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Down {
    Open,
    /// The near end reads nothing more: input is read and dropped.
    Dropped,
    Over,
}

struct Pump {
    tls: rustls::Connection,
    stream: TcpStream,
    far: Socket,
    up: Up,
    down: Down,
    /// Set when the near end is closed: the throughput at which the peer reads the rest.
    closing: Option<MinimumThroughput>,
    /// Plain text from the near end.
    buffer: Vec<u8>,
    /// Encrypted input from the peer.
    input: Vec<u8>,
    /// The part of `input` that is not decrypted yet.
    ready: std::ops::Range<usize>,
}

/// The result of one step in one direction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PumpStep {
    Moved,
    Waits,
}

impl Pump {
    fn run(mut self) -> io::Result<()> {
        while self.up != Up::Over || self.down == Down::Open {
            let steps = (self.send()?, self.receive()?);
            if steps == (PumpStep::Waits, PumpStep::Waits)
                && (self.up != Up::Over || self.down == Down::Open)
            {
                self.wait(None)?;
            }
        }
        trace!("an encrypted connection has ended");
        let until = Instant::now() + DRAIN_TIME;
        while self.down == Down::Dropped && Instant::now() < until {
            if self.receive()? == PumpStep::Waits {
                self.wait(Some(until.saturating_duration_since(Instant::now())))?;
            }
        }
        Ok(())
    }

    /// Moves bytes from the near end to the peer.
    fn send(&mut self) -> io::Result<PumpStep> {
        let mut step = PumpStep::Waits;
        if self.up == Up::Open && !self.tls.wants_write() {
            match self.far.read(&mut self.buffer) {
                Ok(n @ 1..) => {
                    self.tls.writer().write_all(&self.buffer[..n])?;
                    grow(&mut self.buffer, n);
                    step = PumpStep::Moved;
                }
                Err(e) if is_later(&e) => {}
                // A reset means that the near end was closed with unread input.
                ended => {
                    ended.map_or_else(
                        |e| if e.kind() == ErrorKind::ConnectionReset { Ok(0) } else { Err(e) },
                        Ok,
                    )?;
                    self.up = Up::Ended;
                    self.tls.send_close_notify();
                    step = PumpStep::Moved;
                }
            }
        }
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.stream) {
                Ok(n) => {
                    step = PumpStep::Moved;
                    self.check_throughput(n)?;
                }
                Err(e) if is_later(&e) => return Ok(step),
                Err(e) => {
                    // The peer reads nothing more. Its earlier input can still be read.
                    debug!("the peer of an encrypted connection reads nothing more: {e}");
                    self.up = Up::Over;
                    let _ = self.far.shutdown(Shutdown::Read);
                    while self.tls.wants_write() {
                        self.tls.write_tls(&mut io::sink())?;
                    }
                }
            }
        }
        if self.up == Up::Ended {
            self.up = Up::Over;
            // This fails only if the peer has closed already.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        Ok(step)
    }

    /// Moves bytes from the peer to the near end; one step, so that both directions progress.
    fn receive(&mut self) -> io::Result<PumpStep> {
        let mut read = false;
        loop {
            match self.down {
                Down::Over => return Ok(PumpStep::Waits),
                Down::Dropped => return self.drop_input(),
                Down::Open => {}
            }
            if let Some(step) = self.deliver()? {
                return Ok(if read { PumpStep::Moved } else { step });
            }
            if self.ready.is_empty() {
                if read {
                    return Ok(PumpStep::Moved);
                }
                let came = self.ready.end;
                grow(&mut self.input, came);
                match self.stream.read(&mut self.input) {
                    Ok(0) => {
                        return Err(io::Error::new(
                            ErrorKind::UnexpectedEof,
                            "the peer closed without a closing alert",
                        ));
                    }
                    Ok(n) => self.ready = 0..n,
                    Err(e) if is_later(&e) => return Ok(PumpStep::Waits),
                    Err(e) => return Err(e),
                }
                read = true;
            }
            let mut rest = &self.input[self.ready.clone()];
            self.tls.read_tls(&mut rest)?;
            self.ready.start = self.ready.end - rest.len();
            if let Err(e) = self.tls.process_new_packets() {
                // Sends the alert that tells why, if the peer still reads.
                let _ = self.tls.write_tls(&mut self.stream);
                return Err(super::info::other(e));
            }
        }
    }

    /// Reads and drops input.
    fn drop_input(&mut self) -> io::Result<PumpStep> {
        match self.stream.read(&mut self.input) {
            Ok(0) => self.down = Down::Over,
            Ok(_) => {}
            Err(e) if is_later(&e) => return Ok(PumpStep::Waits),
            Err(e) => return Err(e),
        }
        Ok(PumpStep::Moved)
    }

    /// Writes decrypted bytes to the near end; none if there are no more.
    fn deliver(&mut self) -> io::Result<Option<PumpStep>> {
        let mut step = PumpStep::Waits;
        loop {
            let mut reader = self.tls.reader();
            let chunk = match reader.fill_buf() {
                Ok(chunk) => chunk,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(e) => return Err(e),
            };
            if chunk.is_empty() {
                // The peer has sent its closing alert.
                self.down = Down::Over;
                let _ = self.far.shutdown(Shutdown::Write);
                return Ok(Some(PumpStep::Moved));
            }
            match self.far.write(chunk) {
                Ok(n) => {
                    reader.consume(n);
                    step = PumpStep::Moved;
                }
                Err(e) if is_later(&e) => return Ok(Some(step)),
                Err(e)
                    if matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) =>
                {
                    self.down = Down::Dropped;
                    return Ok(Some(PumpStep::Moved));
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Whether decrypted bytes wait for the near end.
    fn has_undelivered(&mut self) -> bool {
        self.down == Down::Open && self.tls.reader().fill_buf().is_ok()
    }

    /// Waits until one side can make progress, at most `most`.
    fn wait(&mut self, most: Option<Duration>) -> io::Result<()> {
        let sending = self.tls.wants_write();
        let undelivered = self.has_undelivered();
        let mut far = PollFlags::empty();
        far.set(PollFlags::IN, self.up == Up::Open && !sending);
        far.set(PollFlags::OUT, undelivered);
        let mut stream = PollFlags::empty();
        stream.set(PollFlags::OUT, sending);
        stream.set(PollFlags::IN, self.down != Down::Over && !undelivered);
        // The near end is polled until it is closed, even without interest in its data. The TCP
        // socket is polled only with an interest: after its end it would always be ready.
        let mut fds = Vec::with_capacity(2);
        if self.closing.is_none() {
            fds.push(PollFd::new(&self.far, far));
        }
        if !stream.is_empty() {
            fds.push(PollFd::new(&self.stream, stream));
        }
        // After the near end is closed, only this timeout detects a peer that stops reading.
        let most =
            [most, self.closing.as_ref().map(|_| limits::RATE_WINDOW)].into_iter().flatten().min();
        let timeout = most.and_then(|time| Timespec::try_from(time).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        let closed = self.closing.is_none()
            && fds
                .first()
                .is_some_and(|fd| fd.revents().intersects(PollFlags::HUP | PollFlags::ERR));
        drop(fds);
        if closed {
            // Its last bytes can still be read.
            self.closing = Some(MinimumThroughput::new(Instant::now()));
            if self.down == Down::Open {
                self.down = Down::Dropped;
            }
        } else {
            self.check_throughput(0)?;
        }
        Ok(())
    }

    /// Sends `last_words` and ends the connection, as far as the socket accepts that at once.
    fn reject(&mut self, last_words: &[u8]) -> io::Result<()> {
        self.tls.writer().write_all(last_words)?;
        self.tls.send_close_notify();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.stream)?;
        }
        self.stream.shutdown(Shutdown::Write)
    }

    /// Counts bytes that the peer read; fails if the near end is closed and the rest is too slow.
    fn check_throughput(&mut self, bytes: usize) -> io::Result<()> {
        match &mut self.closing {
            Some(throughput) if self.up != Up::Over => {
                static LATE: LogRateLimiter = LogRateLimiter::new();
                throughput.moved(bytes as u64, Instant::now()).inspect_err(|_| {
                    if let Some(more) = LATE.allow(Instant::now()) {
                        warn!("the last bytes of a connection cannot be delivered: too slow{more}");
                    }
                })
            }
            _ => Ok(()),
        }
    }
}

/// Enlarges a buffer that was full.
fn grow(buffer: &mut Vec<u8>, used: usize) {
    if used == buffer.len() && used < LARGE {
        *buffer = vec![0; LARGE];
    }
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
