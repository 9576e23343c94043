//! The thread of one encrypted connection: carries bytes between the socket and the near end of a local pair.
//!
//! Nothing is held back: a side that takes nothing more makes the other one wait, as with one socket. An end that was told goes on
//! as an end; one that was not, a cut, closes both. What the near end sent last is still delivered after it was closed, as long
//! as the peer keeps the pace.

use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::{debug, trace, warn};
use relais_proto::{LogRateLimiter, limits};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Socket, Type};

use crate::MinimumThroughput;

/// Bytes carried in one step: few where a connection has few, since many are idle; as many as ever go where one step was full.
const FIRST: usize = 4 * 1024;
const STEP: usize = 64 * 1024;
/// Stack of a thread: the cryptography keeps its keys and buffers elsewhere.
const STACK: usize = 256 * 1024;
/// How long what the peer still sends is read and dropped after both sides are done: closing at once would reset the
/// connection and could destroy what was sent last on its way.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How many connections are carried in this process.
static CARRIED: Mutex<usize> = Mutex::new(0);
static FEWER: Condvar = Condvar::new();

fn carried() -> MutexGuard<'static, usize> {
    CARRIED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until all that was said on connections that were closed is delivered, or they have failed, at most `patience`; whether it is.
/// To be called before a process ends.
#[must_use]
pub fn wait_until_delivered(patience: Duration) -> bool {
    let (count, _) = FEWER
        .wait_timeout_while(carried(), patience, |count| *count > 0)
        .unwrap_or_else(PoisonError::into_inner);
    *count == 0
}

/// Counts a connection as long as it lives.
struct Counted;

impl Counted {
    fn new() -> Self {
        *carried() += 1;
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        *carried() -= 1;
        FEWER.notify_all();
    }
}

/// Carries `tls` over `stream` from here on; the socket that is returned is in blocking mode, and has what both sides say in the clear.
/// Where there is no thread to carry it the peer is told `last_words`, if it can take them at once.
///
/// # Errors
/// Those of the system calls, and of starting a thread.
pub fn start(
    mut tls: rustls::Connection,
    stream: TcpStream,
    last_words: impl FnOnce() -> Vec<u8>,
) -> io::Result<Socket> {
    let (near, far) = Socket::pair(Domain::UNIX, Type::STREAM, None)?;
    far.set_nonblocking(true)?;
    stream.set_nonblocking(true)?;
    // What is to be sent is bounded by what was read in one step.
    tls.set_buffer_limit(None);
    let pump = Pump {
        tls,
        stream,
        far,
        up: Up::Open,
        down: Down::Open,
        gone: None,
        buffer: vec![0; FIRST],
        input: vec![0; FIRST],
        ready: 0..0,
    };
    let counted = Counted::new();
    // Given back where no thread takes it.
    let pump = Arc::new(Mutex::new(Some(pump)));
    let take =
        |pump: &Mutex<Option<Pump>>| pump.lock().unwrap_or_else(PoisonError::into_inner).take();
    let carried = Arc::clone(&pump);
    let started =
        std::thread::Builder::new().name("tls".to_owned()).stack_size(STACK).spawn(move || {
            let _counted = counted;
            let Some(pump) = take(&carried) else { return };
            let peer = pump.stream.peer_addr();
            if let Err(e) = pump.run() {
                debug!("the encrypted connection with {peer:?} was cut: {e}");
            }
        });
    match started {
        Ok(_) => Ok(near),
        Err(e) => {
            if let Some(Err(e)) = take(&pump).map(|mut pump| pump.turn_away(&last_words())) {
                debug!("a peer was not told that there is no thread: {e}");
            }
            Err(e)
        }
    }
}

/// What goes from the near end to the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Up {
    Open,
    /// All has come; some of it may have to be sent still.
    Ended,
    /// The peer was told that nothing more comes, or takes nothing more.
    Over,
}

/// What goes from the peer to the near end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Down {
    Open,
    /// Nobody hears it any more: it is read and dropped.
    Dropped,
    Over,
}

struct Pump {
    tls: rustls::Connection,
    stream: TcpStream,
    far: Socket,
    up: Up,
    down: Down,
    /// Once nobody has the near end any more: the pace at which the peer takes the rest.
    gone: Option<MinimumThroughput>,
    /// For what comes from the near end.
    buffer: Vec<u8>,
    /// What came from the peer and was not decrypted yet lies in `ready` of it.
    input: Vec<u8>,
    ready: std::ops::Range<usize>,
}

/// What a step came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Moved,
    Waits,
}

impl Pump {
    fn run(mut self) -> io::Result<()> {
        while self.up != Up::Over || self.down == Down::Open {
            let steps = (self.send()?, self.receive()?);
            if steps == (Step::Waits, Step::Waits)
                && (self.up != Up::Over || self.down == Down::Open)
            {
                self.wait(None)?;
            }
        }
        trace!("an encrypted connection has ended");
        let until = Instant::now() + LAST_WORDS;
        while self.down == Down::Dropped && Instant::now() < until {
            if self.receive()? == Step::Waits {
                self.wait(Some(until.saturating_duration_since(Instant::now())))?;
            }
        }
        Ok(())
    }

    /// From the near end to the peer.
    fn send(&mut self) -> io::Result<Step> {
        let mut step = Step::Waits;
        if self.up == Up::Open && !self.tls.wants_write() {
            match self.far.read(&mut self.buffer) {
                Ok(n @ 1..) => {
                    self.tls.writer().write_all(&self.buffer[..n])?;
                    grow(&mut self.buffer, n);
                    step = Step::Moved;
                }
                Err(e) if is_later(&e) => {}
                // A reset says that it was closed with something in it that nobody has read.
                ended => {
                    ended.map_or_else(
                        |e| if e.kind() == ErrorKind::ConnectionReset { Ok(0) } else { Err(e) },
                        Ok,
                    )?;
                    self.up = Up::Ended;
                    self.tls.send_close_notify();
                    step = Step::Moved;
                }
            }
        }
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.stream) {
                Ok(n) => {
                    step = Step::Moved;
                    self.keep_pace(n)?;
                }
                Err(e) if is_later(&e) => return Ok(step),
                Err(e) => {
                    // The peer takes nothing more. What it said before is still there.
                    debug!("the peer of an encrypted connection takes nothing more: {e}");
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
            // Where that fails the peer has gone already.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        Ok(step)
    }

    /// From the peer to the near end, one step at most, so that the other direction has its turn.
    fn receive(&mut self) -> io::Result<Step> {
        let mut read = false;
        loop {
            match self.down {
                Down::Over => return Ok(Step::Waits),
                Down::Dropped => return self.drop_input(),
                Down::Open => {}
            }
            if let Some(step) = self.deliver()? {
                return Ok(if read { Step::Moved } else { step });
            }
            if self.ready.is_empty() {
                if read {
                    return Ok(Step::Moved);
                }
                let came = self.ready.end;
                grow(&mut self.input, came);
                match self.stream.read(&mut self.input) {
                    Ok(0) => {
                        return Err(io::Error::new(
                            ErrorKind::UnexpectedEof,
                            "the peer did not say that this is the end",
                        ));
                    }
                    Ok(n) => self.ready = 0..n,
                    Err(e) if is_later(&e) => return Ok(Step::Waits),
                    Err(e) => return Err(e),
                }
                read = true;
            }
            let mut rest = &self.input[self.ready.clone()];
            self.tls.read_tls(&mut rest)?;
            self.ready.start = self.ready.end - rest.len();
            if let Err(e) = self.tls.process_new_packets() {
                // It is told why, where it still listens.
                let _ = self.tls.write_tls(&mut self.stream);
                return Err(super::other(e));
            }
        }
    }

    /// Reads what nobody hears any more.
    fn drop_input(&mut self) -> io::Result<Step> {
        match self.stream.read(&mut self.input) {
            Ok(0) => self.down = Down::Over,
            Ok(_) => {}
            Err(e) if is_later(&e) => return Ok(Step::Waits),
            Err(e) => return Err(e),
        }
        Ok(Step::Moved)
    }

    /// Hands on what is decrypted; none where there is nothing more of it.
    fn deliver(&mut self) -> io::Result<Option<Step>> {
        let mut step = Step::Waits;
        loop {
            let mut reader = self.tls.reader();
            let chunk = match reader.fill_buf() {
                Ok(chunk) => chunk,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(e) => return Err(e),
            };
            if chunk.is_empty() {
                // The peer has said that this is the end.
                self.down = Down::Over;
                let _ = self.far.shutdown(Shutdown::Write);
                return Ok(Some(Step::Moved));
            }
            match self.far.write(chunk) {
                Ok(n) => {
                    reader.consume(n);
                    step = Step::Moved;
                }
                Err(e) if is_later(&e) => return Ok(Some(step)),
                Err(e)
                    if matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) =>
                {
                    self.down = Down::Dropped;
                    return Ok(Some(Step::Moved));
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Whether something decrypted waits for the near end.
    fn has_more_for_the_near_end(&mut self) -> bool {
        self.down == Down::Open && self.tls.reader().fill_buf().is_ok()
    }

    /// Waits until one side can go on, at most `most`.
    fn wait(&mut self, most: Option<Duration>) -> io::Result<()> {
        let sending = self.tls.wants_write();
        let undelivered = self.has_more_for_the_near_end();
        let mut far = PollFlags::empty();
        far.set(PollFlags::IN, self.up == Up::Open && !sending);
        far.set(PollFlags::OUT, undelivered);
        let mut stream = PollFlags::empty();
        stream.set(PollFlags::OUT, sending);
        stream.set(PollFlags::IN, self.down != Down::Over && !undelivered);
        // The near end is watched until it is closed altogether, whatever is wanted of it. A socket of which nothing is wanted, or whose
        // end is known, must not be: it would be ready all the time.
        let mut fds = Vec::with_capacity(2);
        if self.gone.is_none() {
            fds.push(PollFd::new(&self.far, far));
        }
        if !stream.is_empty() {
            fds.push(PollFd::new(&self.stream, stream));
        }
        // Once it is closed nobody else looks whether the peer still takes anything.
        let most =
            [most, self.gone.as_ref().map(|_| limits::RATE_WINDOW)].into_iter().flatten().min();
        let timeout = most.and_then(|time| Timespec::try_from(time).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        let closed = self.gone.is_none()
            && fds
                .first()
                .is_some_and(|fd| fd.revents().intersects(PollFlags::HUP | PollFlags::ERR));
        drop(fds);
        if closed {
            // What it said before is still there to be read.
            self.gone = Some(MinimumThroughput::new(Instant::now()));
            if self.down == Down::Open {
                self.down = Down::Dropped;
            }
        } else {
            self.keep_pace(0)?;
        }
        Ok(())
    }

    /// Says something and ends the connection, as far as that goes at once.
    fn turn_away(&mut self, last_words: &[u8]) -> io::Result<()> {
        self.tls.writer().write_all(last_words)?;
        self.tls.send_close_notify();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.stream)?;
        }
        self.stream.shutdown(Shutdown::Write)
    }

    /// The peer has taken so many bytes. Fails where nobody has the near end any more and the rest goes too slowly.
    fn keep_pace(&mut self, bytes: usize) -> io::Result<()> {
        match &mut self.gone {
            Some(pace) if self.up != Up::Over => {
                static LATE: LogRateLimiter = LogRateLimiter::new();
                pace.moved(bytes as u64, Instant::now()).inspect_err(|_| {
                    if let Some(more) = LATE.allow(Instant::now()) {
                        warn!("what was said last cannot be delivered{more}");
                    }
                })
            }
            _ => Ok(()),
        }
    }
}

/// Makes room for more where all of it was used.
fn grow(buffer: &mut Vec<u8>, used: usize) {
    if used == buffer.len() && used < STEP {
        *buffer = vec![0; STEP];
    }
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
