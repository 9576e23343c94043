//! Takes the control connection's bytes apart into lines.

mod telnet;

use std::collections::VecDeque;

use thiserror::Error;

use crate::reply::Reply;
use telnet::{TelnetByte, TelnetFilter};

/// Longest line in bytes, without its end.
pub const LINE_MAX: usize = 4096;

/// The reason why a line cannot be a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LineError {
    /// The line is longer than [`LINE_MAX`].
    #[error("the line is longer than {LINE_MAX} bytes")]
    TooLong,
    /// The line contains NUL, a carriage return without a line feed, or a broken Telnet command.
    #[error("the line contains NUL, a bare carriage return or a broken Telnet command")]
    BadCharacter,
}

impl LineError {
    /// Returns the reply: 500 (RFC 959, section 4.2.1 names over-long lines there).
    #[must_use]
    pub fn reply(self) -> Reply {
        Reply::new(500, self.to_string())
    }
}

/// Bytes that a client has sent, and the line that they are part of.
///
/// Its memory is what the caller pushes, and at most [`LINE_MAX`] bytes of an unfinished line. A
/// line ends with CR LF or with LF alone. Telnet commands are removed (RFC 854; RFC 959, section
/// 2.3): a server that never negotiates an option need not answer them.
#[derive(Debug, Default)]
pub struct LineBuffer {
    input: Vec<u8>,
    /// Bytes of `input` that are part of `line` or of lines before it.
    taken: usize,
    line: Vec<u8>,
    error: Option<LineError>,
    /// Whether the last character was a carriage return.
    after_return: bool,
    telnet: TelnetFilter,
    /// Lines that were returned before and are returned again, oldest first.
    put_back: VecDeque<Result<Vec<u8>, LineError>>,
}

impl LineBuffer {
    /// Adds bytes that the client has sent.
    pub fn push(&mut self, bytes: &[u8]) {
        self.input.drain(..self.taken);
        self.taken = 0;
        self.input.extend_from_slice(bytes);
    }

    /// Returns the next complete line without its end.
    ///
    /// A bad line gives one error. Its bytes are dropped up to its end, and later lines follow.
    pub fn next_line(&mut self) -> Option<Result<Vec<u8>, LineError>> {
        if let Some(line) = self.put_back.pop_front() {
            return Some(line);
        }
        while let Some(byte) = self.input.get(self.taken) {
            self.taken += 1;
            let at_start = self.line.is_empty() && self.error.is_none();
            let character = match self.telnet.filter(*byte, at_start) {
                TelnetByte::Character(character) => character,
                TelnetByte::Nothing => continue,
                TelnetByte::Broken(character) => {
                    self.fail(LineError::BadCharacter);
                    character
                }
            };
            if character == b'\n' {
                return Some(self.end_line());
            }
            self.add(character);
        }
        self.input.clear();
        self.taken = 0;
        None
    }

    /// Has lines that were taken, and not used, be returned again before all others.
    pub fn put_back(&mut self, lines: VecDeque<Result<Vec<u8>, LineError>>) {
        self.put_back = lines;
    }

    /// Returns whether no byte is held: neither of a complete line nor of an unfinished one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending_len() == 0
    }

    /// Returns the number of bytes that no returned line covers.
    ///
    /// Bytes of a line that is dropped, and Telnet commands that are already removed, do not count.
    #[must_use]
    pub fn pending_len(&self) -> usize {
        let put_back: usize =
            self.put_back.iter().map(|line| line.as_ref().map_or(1, |line| line.len() + 1)).sum();
        let line = self.line.len() + usize::from(self.after_return);
        self.input.len() - self.taken + line + put_back
    }

    /// Drops everything, for example what was sent in the clear before a TLS handshake.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn add(&mut self, character: u8) {
        if self.after_return || character == 0 {
            self.fail(LineError::BadCharacter);
        }
        self.after_return = character == b'\r';
        if self.after_return || self.error.is_some() {
            return;
        }
        if self.line.len() == LINE_MAX {
            self.fail(LineError::TooLong);
        } else {
            self.line.push(character);
        }
    }

    fn fail(&mut self, error: LineError) {
        self.error.get_or_insert(error);
        self.line = Vec::new();
    }

    fn end_line(&mut self) -> Result<Vec<u8>, LineError> {
        self.after_return = false;
        let line = std::mem::take(&mut self.line);
        self.error.take().map_or(Ok(line), Err)
    }
}

#[cfg(test)]
mod tests;
