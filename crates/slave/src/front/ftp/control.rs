//! The control connection of a session: command lines in, replies out, each with a deadline.
//!
//! It reads at most [`AHEAD`] bytes ahead of the command that runs. It interprets two commands
//! itself, because they are for the command that runs: ABOR and STAT. The session's thread alone
//! uses it.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::trace;
use relais_engine::KeepAlive;
use relais_ftp::{Command, LineBuffer, LineError, Reply};
use relais_net::Stream;
use relais_proto::{WaitReason, limits};
use rustix::event::{PollFd, PollFlags};
use rustix::net::SendFlags;

use super::activity::Activity;
use crate::poll::wait_for;
use crate::sys::tcp::is_established;

/// Most bytes of commands that are read while another command runs.
const AHEAD: usize = 4096;
/// Longest wait of a read after the socket was readable: it may hold a part of a TLS record.
const READ_WAIT: Duration = Duration::from_millis(20);
/// Longest wait of one send before the deadline is checked again.
const SEND_WAIT: Duration = Duration::from_secs(5);

/// How long a client may take to read the last reply.
const CLOSE_TIME: Duration = Duration::from_secs(2);

/// A command line, or the reason why it is none.
pub type Line = Result<Vec<u8>, LineError>;

/// The control connection.
pub struct Control {
    stream: Arc<Stream>,
    input: LineBuffer,
    /// Lines that came while a command ran, oldest first.
    queued: VecDeque<Line>,
    queued_bytes: usize,
    /// How long the client may send no command; tests have less patience.
    pub idle_time: Duration,
    /// Since when a command is waited for.
    idle_since: Option<Instant>,
    /// Since when a line is incomplete.
    line_since: Option<Instant>,
    /// Replies that wait for others.
    held: Vec<u8>,
    /// Whether nothing more can be received.
    has_ended: bool,
    /// Whether ABOR has come for the command that runs.
    is_aborted: bool,
    /// The command that runs, for STAT.
    pub activity: Activity,
}

/// What a wait for a command has brought.
#[derive(Debug)]
pub enum Received {
    /// A line.
    Line(Line),
    /// Nothing yet, and it is the time to wake.
    Woken,
    /// Nothing yet, but something has come on the data connection.
    DataConnection,
    /// The client has closed the connection, or its sending side.
    Closed,
    /// This slave ends its sessions.
    Stopped,
}

impl Control {
    /// Takes a connection over after its login; `input` is what was read ahead.
    ///
    /// # Errors
    /// Errors of the socket calls.
    pub fn new(stream: Arc<Stream>, input: LineBuffer) -> io::Result<Self> {
        stream.set_read_timeout(Some(READ_WAIT))?;
        stream.set_write_timeout(Some(SEND_WAIT))?;
        // The data mark of a Telnet interrupt is urgent, and belongs before its ABOR.
        stream.keep_urgent_bytes_inline()?;
        Ok(Self {
            stream,
            input,
            queued: VecDeque::new(),
            queued_bytes: 0,
            idle_time: limits::IDLE_TIME,
            idle_since: None,
            line_since: None,
            held: Vec::new(),
            has_ended: false,
            is_aborted: false,
            activity: Activity::default(),
        })
    }

    /// Returns the stream, for its addresses and its TLS session.
    #[must_use]
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// An entry to wait for input of the control connection beside other descriptors.
    ///
    /// It reports nothing but errors once no more input is wanted or possible.
    #[must_use]
    pub fn poll_fd(&self) -> PollFd<'_> {
        let wants_input = !self.has_ended && self.has_room();
        self.stream.poll_fd(if wants_input { PollFlags::IN } else { PollFlags::empty() })
    }

    /// Waits for the next command line, at most until `wake`, or until `data` is ready.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] if the client is idle, or does not complete its line; errors of
    /// the socket.
    pub fn next_line(
        &mut self,
        wake: Option<Instant>,
        data: Option<PollFd<'_>>,
    ) -> io::Result<Received> {
        loop {
            if self.stream.has_ended_reading() {
                return Ok(Received::Stopped);
            }
            if let Some(line) = self.take_line() {
                (self.idle_since, self.line_since) = (None, None);
                return Ok(Received::Line(line));
            }
            if self.has_ended {
                return Ok(Received::Closed);
            }
            let now = Instant::now();
            if wake.is_some_and(|wake| wake <= now) {
                return Ok(Received::Woken);
            }
            let until = wake.into_iter().chain([self.deadline(now)?]).min().unwrap_or(now);
            let left = until.saturating_duration_since(now);
            if !self.stream.has_input() {
                let control = Some(self.stream.poll_fd(PollFlags::IN));
                let mut fds: Vec<_> = control.into_iter().chain(data.clone()).collect();
                wait_for(&mut fds, Some(left))?;
                match (fds[0].revents().is_empty(), fds.get(1)) {
                    (true, Some(data)) if !data.revents().is_empty() => {
                        return Ok(Received::DataConnection);
                    }
                    (true, _) => continue,
                    (false, _) => {}
                }
            }
            self.receive()?;
        }
    }

    /// Returns when the wait for a line ends.
    fn deadline(&mut self, now: Instant) -> io::Result<Instant> {
        if !self.input.is_empty() {
            self.line_since.get_or_insert(now);
        }
        let idle_since = *self.idle_since.get_or_insert(now);
        let (until, why) = match self.line_since {
            Some(since) => (since + limits::FRAME_TIME, "a command line was not completed"),
            None => (idle_since + self.idle_time, "the session was idle for too long"),
        };
        if until <= now {
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        }
        Ok(until)
    }

    fn take_line(&mut self) -> Option<Line> {
        let Some(line) = self.queued.pop_front() else { return self.input.next_line() };
        self.queued_bytes -= length(&line);
        Some(line)
    }

    fn has_room(&self) -> bool {
        self.queued_bytes + self.input.pending_len() < AHEAD
    }

    /// Receives once, at most as many bytes as may be read ahead.
    fn receive(&mut self) -> io::Result<()> {
        let mut buffer = [0; AHEAD];
        let room = AHEAD.saturating_sub(self.queued_bytes + self.input.pending_len()).max(1);
        match (&*self.stream).read(&mut buffer[..room]) {
            Ok(0) => self.has_ended = true,
            Ok(n) => self.input.push(&buffer[..n]),
            Err(e)
                if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(e) => return Err(e),
        }
        Ok(())
    }

    /// Takes in what has come while a command runs, without waiting: answers STAT, notes ABOR.
    ///
    /// Other commands stay queued. RFC 959 section 4.1.3 allows STAT during a transfer.
    ///
    /// # Errors
    /// [`io::ErrorKind::Interrupted`] after ABOR; [`io::ErrorKind::ConnectionReset`] and other
    /// errors of the socket if the client has gone. A client that has only ended its sending side
    /// has not gone, see [`Self::check_open`].
    pub fn check_interrupts(&mut self) -> io::Result<()> {
        self.flush()?;
        while !self.has_ended && self.has_room() && self.is_readable()? {
            self.receive()?;
        }
        while let Some(line) = self.input.next_line() {
            match line.as_deref().map(Command::parse) {
                // A second one is a command of its own, with its own reply.
                Ok(Ok(Command::Abor)) if !self.is_aborted => self.is_aborted = true,
                Ok(Ok(Command::Stat(None))) => {
                    let reply = self.activity.reply();
                    self.send(&reply)?;
                }
                _ => {
                    self.queued_bytes += length(&line);
                    self.queued.push_back(line);
                }
            }
        }
        if self.is_aborted {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "the client sent ABOR"));
        }
        let came = self.stream.poll(PollFlags::empty(), Some(Duration::ZERO))?;
        if came.intersects(PollFlags::HUP | PollFlags::ERR) {
            return Err(gone());
        }
        Ok(())
    }

    fn is_readable(&self) -> io::Result<bool> {
        let came = self.stream.poll(PollFlags::IN, Some(Duration::ZERO))?;
        Ok(self.stream.has_input() || came.contains(PollFlags::IN))
    }

    /// Whether ABOR has come for the command that runs.
    pub fn is_aborted(&self) -> bool {
        self.is_aborted
    }

    /// Takes the ABOR that has come for the command that ran, if one has.
    pub fn take_abort(&mut self) -> bool {
        std::mem::take(&mut self.is_aborted)
    }

    /// Checks at the end of a time that the client's side of the connection is still open.
    ///
    /// # Errors
    /// As [`Self::check_open`].
    pub fn stays_open(&mut self, time: Duration) -> io::Result<()> {
        let until = Instant::now() + time;
        loop {
            self.check_open()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.stream.poll(PollFlags::RDHUP, Some(left))?;
        }
    }

    /// Checks that the client's side of the connection is open: neither reset nor ended.
    ///
    /// # Errors
    /// [`io::ErrorKind::ConnectionReset`] if it is not; errors of the system calls.
    pub fn check_open(&mut self) -> io::Result<()> {
        // After this side has ended reading, the socket reports the end of input anyway.
        let has_gone = if self.stream.has_ended_reading() {
            !is_established(self.stream.poll_fd(PollFlags::empty()).as_fd())?
        } else {
            self.has_ended || self.stream.has_hung_up()
        };
        if has_gone { Err(gone()) } else { Ok(()) }
    }

    /// Has a reply wait for the next one, or until the command waits: one packet costs less.
    pub fn hold(&mut self, reply: &Reply) {
        trace!("{}: reply {}", self.stream.peer, reply.code());
        reply.encode(&mut self.held);
    }

    /// Sends the replies that wait.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn flush(&mut self) -> io::Result<()> {
        let held = std::mem::take(&mut self.held);
        self.send_bytes(&held)
    }

    /// Sends a reply, after those that wait.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] if the client does not read it in time; errors of the socket.
    pub fn send(&mut self, reply: &Reply) -> io::Result<()> {
        self.hold(reply);
        self.flush()
    }

    /// Sends a part of a reply that is too long to be held in memory.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn send_bytes(&self, mut bytes: &[u8]) -> io::Result<()> {
        let since = Instant::now();
        while !bytes.is_empty() {
            match self.stream.send(bytes, SendFlags::empty()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => bytes = &bytes[sent..],
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
            if !bytes.is_empty() && since.elapsed() >= limits::FRAME_TIME {
                let why = "the client does not read its replies";
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
        }
        Ok(())
    }

    /// Closes the connection so that the client gets the last reply.
    ///
    /// Unread input would make the kernel reset the connection before the reply arrives.
    pub fn close_gracefully(&self) {
        if self.stream.end_sending(SendFlags::empty()).is_err() {
            // The client was faster.
            return;
        }
        let until = Instant::now() + CLOSE_TIME;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.stream.poll(PollFlags::IN, Some(left)) {
                Ok(came) if !came.is_empty() => {}
                _ => return,
            }
            match self.stream.discard_input() {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                _ => return,
            }
        }
    }

    /// Ends the session's use of the connection; returns it with the input that is not used yet.
    #[must_use]
    pub fn into_parts(mut self) -> (Arc<Stream>, LineBuffer) {
        self.input.put_back(self.queued);
        (self.stream, self.input)
    }
}

fn length(line: &Line) -> usize {
    line.as_ref().map_or(0, Vec::len) + 2
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the client has gone")
}

/// Keeps a session alive while an answer takes its time: nothing is sent, ABOR cancels the answer.
pub struct ControlKeepAlive<'a>(pub &'a mut Control);

impl KeepAlive for ControlKeepAlive<'_> {
    fn send_keepalive(&mut self, _: WaitReason) -> io::Result<()> {
        self.0.check_interrupts()
    }
}

/// As [`ControlKeepAlive`], for a change that is on its way and cannot be cancelled any more.
///
/// An ABOR is noted, and answered after the change. Only a client that has gone ends the wait.
pub struct CommitKeepAlive<'a>(pub &'a mut Control);

impl KeepAlive for CommitKeepAlive<'_> {
    fn send_keepalive(&mut self, _: WaitReason) -> io::Result<()> {
        match self.0.check_interrupts() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(()),
            other => other,
        }
    }
}
