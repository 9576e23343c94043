//! Writes the content of an answer after its head.

use std::fs::File;
use std::io;
use std::ops::Range;

use relais_http::ChunkedEncoder;
use relais_transfer::{SendOutcome, read_full};

use crate::answer::Framing;
use crate::sender::Sender;

/// Most bytes that are gathered before they are sent.
const GATHERED: usize = 32 * 1024;
/// Files up to this length are copied, so that they leave in one packet with the head.
const SMALL_FILE: u64 = 16 * 1024;

/// Writes the content of one answer.
///
/// The head and short pieces are gathered and leave together, at the latest with
/// [`Self::flush`] or at the end.
pub struct BodyWriter<'a> {
    sender: Sender<'a>,
    /// Bytes to send first, from the head on.
    gathered: Vec<u8>,
    framing: Framing,
    /// Content that will become a chunk.
    chunk: Vec<u8>,
}

impl<'a> BodyWriter<'a> {
    pub(crate) fn new(sender: Sender<'a>, head: Vec<u8>, framing: Framing) -> Self {
        Self { sender, gathered: head, framing, chunk: Vec::new() }
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// Errors of the socket; [`io::ErrorKind::InvalidData`] for more bytes than were announced.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.framing {
            Framing::Sized(left) => {
                *left = left.checked_sub(bytes.len() as u64).ok_or_else(more_than_announced)?;
                self.push(bytes)
            }
            Framing::UntilClose => self.push(bytes),
            Framing::Chunked => {
                if self.chunk.len() + bytes.len() > GATHERED {
                    self.end_chunk()?;
                }
                if bytes.len() > GATHERED {
                    return self.push_chunk(bytes);
                }
                self.chunk.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    /// Sends a range of a file, without a copy if that is possible.
    ///
    /// It returns the number of sent bytes, and what has ended it. The caller may go on with the
    /// rest from elsewhere.
    ///
    /// # Errors
    /// As [`Self::write`]; errors of the file are outcomes.
    pub fn send_file(&mut self, file: &File, range: Range<u64>) -> io::Result<(u64, SendOutcome)> {
        let length = range.end.saturating_sub(range.start);
        let Framing::Sized(left) = &mut self.framing else { return self.copy_file(file, range) };
        if length <= SMALL_FILE {
            return self.copy_file(file, range);
        }
        if *left < length {
            return Err(more_than_announced());
        }
        self.sender.send(&self.gathered, true)?;
        self.gathered.clear();
        let (sent, outcome) = self.sender.send_file(file, range)?;
        *left -= sent;
        Ok((sent, outcome))
    }

    /// Sends a range of a file, which has to be there.
    ///
    /// # Errors
    /// As [`Self::write`], and errors of the file.
    pub fn write_file(&mut self, file: &File, range: Range<u64>) -> io::Result<()> {
        match self.send_file(file, range)?.1 {
            SendOutcome::Whole => Ok(()),
            SendOutcome::Short => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file is shorter than its size was",
            )),
            SendOutcome::Unreadable(e) => Err(e),
        }
    }

    /// Sends what was gathered, so that the client has it at once.
    ///
    /// # Errors
    /// Errors of the socket.
    pub fn flush(&mut self) -> io::Result<()> {
        self.end_chunk()?;
        self.sender.send(&self.gathered, false)?;
        self.gathered.clear();
        Ok(())
    }

    /// Ends the content.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        match self.framing {
            Framing::Sized(0) | Framing::UntilClose => {}
            Framing::Sized(_) => {
                const SHORT: &str = "the content is shorter than announced";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, SHORT));
            }
            Framing::Chunked => {
                self.end_chunk()?;
                self.push(ChunkedEncoder::END)?;
            }
        }
        self.flush()
    }

    fn copy_file(&mut self, file: &File, range: Range<u64>) -> io::Result<(u64, SendOutcome)> {
        let next = |at| usize::try_from(range.end - at).map_or(GATHERED, |left| left.min(GATHERED));
        let mut at = range.start.min(range.end);
        let mut buffer = vec![0; next(at)];
        while at < range.end {
            let want = next(at);
            match read_full(file, &mut buffer[..want], at) {
                Ok(0) => return Ok((at - range.start, SendOutcome::Short)),
                Ok(got) => {
                    self.write(&buffer[..got])?;
                    at += got as u64;
                }
                Err(e) => return Ok((at - range.start, SendOutcome::Unreadable(e))),
            }
        }
        Ok((at - range.start, SendOutcome::Whole))
    }

    fn end_chunk(&mut self) -> io::Result<()> {
        let chunk = std::mem::take(&mut self.chunk);
        if chunk.is_empty() { Ok(()) } else { self.push_chunk(&chunk) }
    }

    fn push_chunk(&mut self, data: &[u8]) -> io::Result<()> {
        self.push(&ChunkedEncoder::head(data.len()))?;
        self.push(data)?;
        self.push(ChunkedEncoder::DATA_END)
    }

    fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.gathered.len() + bytes.len() > GATHERED {
            self.sender.send(&self.gathered, true)?;
            self.gathered.clear();
        }
        if bytes.len() > GATHERED {
            return self.sender.send(bytes, false);
        }
        self.gathered.extend_from_slice(bytes);
        Ok(())
    }
}

impl io::Write for BodyWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        BodyWriter::write(self, bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        BodyWriter::flush(self)
    }
}

fn more_than_announced() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the content is longer than announced")
}
