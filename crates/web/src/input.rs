//! Bytes that were received and not used yet.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use relais_net::Stream;
use rustix::event::PollFlags;

/// Longest wait of a read after the socket was readable: it may hold a part of a TLS record.
pub(crate) const READ_WAIT: Duration = Duration::from_millis(20);

/// Received bytes, of which the first are used up.
#[derive(Debug, Default)]
pub(crate) struct Input {
    bytes: Vec<u8>,
    used: usize,
}

impl Input {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, used: 0 }
    }

    /// Returns the bytes that are not used.
    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.used..]
    }

    pub fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }

    /// Marks bytes as used.
    pub fn consume(&mut self, len: usize) {
        self.used = (self.used + len).min(self.bytes.len());
        if self.used == self.bytes.len() {
            self.bytes.clear();
            self.used = 0;
        }
    }

    /// Reads as much as is there, at most `most` bytes in all; 0 at the end of the input.
    ///
    /// # Errors
    /// Errors of the socket; [`io::ErrorKind::WouldBlock`] if nothing comes for a moment.
    pub fn fill(&mut self, stream: &Stream, most: usize) -> io::Result<usize> {
        self.bytes.drain(..self.used);
        self.used = 0;
        let begin = self.bytes.len();
        self.bytes.resize(most.max(begin + 1), 0);
        let got = (&mut &*stream).read(&mut self.bytes[begin..]);
        self.bytes.truncate(begin + *got.as_ref().unwrap_or(&0));
        got
    }

    /// Returns the bytes that are not used, for the next owner of the connection.
    pub fn into_rest(mut self) -> Vec<u8> {
        self.bytes.drain(..self.used);
        self.bytes
    }
}

/// Waits until there may be input, or its end, at most until a time; false if it is over.
pub(crate) fn wait_for_input(stream: &Stream, until: Instant) -> io::Result<bool> {
    loop {
        if stream.has_input() {
            return Ok(true);
        }
        let left = until.saturating_duration_since(Instant::now());
        if !stream.poll(PollFlags::IN, Some(left))?.is_empty() {
            return Ok(true);
        }
        if left.is_zero() {
            return Ok(false);
        }
    }
}

/// Whether a read may be tried again.
pub(crate) fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
