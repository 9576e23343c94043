//! The body of a request.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use relais_http::{RequestError, Status};
use relais_net::MinimumThroughput;
use relais_os::SplicePipe;

use crate::body_state::{BodyState, Rest};
use crate::connection::HttpConnection;
use crate::error::WebError;
use crate::input::{is_transient, wait_for_input};
use crate::limits;

/// Bytes that one read takes of a body in chunks.
const CHUNKED_INPUT: usize = 64 * 1024;
/// Longest wait before the throughput is checked.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// Reads the body of the current request of a connection.
///
/// The first read sends `100 Continue` if the client waits for it (RFC 9110, section 10.1.1). A
/// body that comes below the minimum throughput of all transfers ends with status 408.
#[derive(Debug)]
pub struct Body<'a> {
    connection: &'a mut HttpConnection,
}

impl Body<'_> {
    /// Returns the number of bytes that are left; none for a body in chunks.
    #[must_use]
    pub fn left(&self) -> Option<u64> {
        match self.connection.body.rest {
            Rest::Nothing => Some(0),
            Rest::Sized(left) => Some(left),
            Rest::Chunked(..) => None,
        }
    }

    /// Reads some bytes; 0 at the end of the body.
    ///
    /// # Errors
    /// [`WebError::Request`] for malformed chunks or a client that is too slow;
    /// [`io::ErrorKind::UnexpectedEof`] if the connection ends before the body.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, WebError> {
        let result = self.connection.read_body(buffer);
        self.end_after(result)
    }

    /// Has the connection closed after an error.
    fn end_after(&mut self, result: Result<usize, WebError>) -> Result<usize, WebError> {
        if result.is_err() {
            self.connection.rules.keep = false;
            self.connection.body = BodyState::default();
        }
        result
    }

    /// Whether the rest of the body can go to a pipe by [`Self::read_into`].
    #[must_use]
    pub fn can_be_spliced(&self) -> bool {
        let HttpConnection { stream, input, body, .. } = &*self.connection;
        matches!(body.rest, Rest::Sized(_)) && input.is_empty() && !stream.is_encrypted()
    }

    /// Moves some bytes to `pipe` without a copy; returns their number, 0 at the end of the body.
    ///
    /// # Errors
    /// As [`Self::read`]; [`io::ErrorKind::Unsupported`] unless [`Self::can_be_spliced`].
    pub fn read_into(&mut self, pipe: &mut SplicePipe) -> Result<usize, WebError> {
        if matches!(self.connection.body.rest, Rest::Nothing) {
            return Ok(0);
        }
        if !self.can_be_spliced() {
            return Err(io::Error::from(io::ErrorKind::Unsupported).into());
        }
        let result = self.connection.splice_body(pipe);
        self.end_after(result)
    }

    /// Reads the whole body.
    ///
    /// # Errors
    /// As [`Self::read`]; status 413 for more than `most` bytes.
    pub fn read_all(&mut self, most: usize) -> Result<Vec<u8>, WebError> {
        const LONG: RequestError =
            RequestError::new(Status::CONTENT_TOO_LARGE, "the body of the request is too long");
        if self.left().is_some_and(|left| left > most as u64) {
            return Err(LONG.into());
        }
        let mut bytes = Vec::new();
        let mut buffer = [0; 8 * 1024];
        loop {
            let got = self.read(&mut buffer)?;
            if got == 0 {
                return Ok(bytes);
            }
            if bytes.len() + got > most {
                return Err(LONG.into());
            }
            bytes.extend_from_slice(&buffer[..got]);
        }
    }
}

impl HttpConnection {
    /// Returns the body of the current request.
    pub fn body(&mut self) -> Body<'_> {
        Body { connection: self }
    }

    fn read_body(&mut self, buffer: &mut [u8]) -> Result<usize, WebError> {
        if buffer.is_empty() || matches!(self.body.rest, Rest::Nothing) {
            return Ok(0);
        }
        if std::mem::take(&mut self.body.expects_continue) && self.input.is_empty() {
            self.send_continue()?;
        }
        let now = Instant::now();
        let mut throughput = self.body.throughput.take();
        let result = match &self.body.rest {
            Rest::Nothing => Ok(0),
            Rest::Sized(left) => self.read_sized(
                *left,
                buffer,
                throughput.get_or_insert_with(|| MinimumThroughput::new(now)),
            ),
            Rest::Chunked(..) => self.read_chunked(
                buffer,
                throughput.get_or_insert_with(|| MinimumThroughput::new(now)),
            ),
        };
        self.body.throughput = throughput;
        result
    }

    fn read_sized(
        &mut self,
        left: u64,
        buffer: &mut [u8],
        throughput: &mut MinimumThroughput,
    ) -> Result<usize, WebError> {
        let most = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let buffer = &mut buffer[..most];
        let got = if self.input.is_empty() {
            self.receive(throughput, |connection| (&*connection.stream).read(buffer))?
        } else {
            (&mut self.input.rest()).read(buffer).inspect(|got| self.input.consume(*got))?
        };
        self.body.rest = Rest::sized(left - got as u64);
        Ok(got)
    }

    fn splice_body(&mut self, pipe: &mut SplicePipe) -> Result<usize, WebError> {
        let Rest::Sized(left) = self.body.rest else { return Ok(0) };
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let mut throughput = self.body.throughput.take();
        let got = self.receive(
            throughput.get_or_insert_with(|| MinimumThroughput::new(Instant::now())),
            |connection| {
                let stream = &connection.stream;
                pipe.fill(|to, room| Ok(stream.receive_into(to, most.min(room))?))
            },
        );
        self.body.throughput = throughput;
        let got = got?;
        self.body.rest = Rest::sized(left - got as u64);
        Ok(got)
    }

    fn read_chunked(
        &mut self,
        buffer: &mut [u8],
        throughput: &mut MinimumThroughput,
    ) -> Result<usize, WebError> {
        loop {
            let Rest::Chunked(decoder, data) = &mut self.body.rest else { return Ok(0) };
            if *data > 0 {
                let got = (*data).min(buffer.len());
                buffer[..got].copy_from_slice(&self.input.rest()[..got]);
                *data -= got;
                self.input.consume(got);
                return Ok(got);
            }
            let progress = decoder.decode(self.input.rest())?;
            *data = progress.data;
            self.input.consume(progress.skip);
            if progress.has_ended {
                self.body.rest = Rest::Nothing;
                return Ok(0);
            }
            if progress.data == 0 {
                self.receive(throughput, |connection| {
                    connection.input.fill(&connection.stream, CHUNKED_INPUT)
                })?;
            }
        }
    }

    /// Receives by `read`, with the minimum throughput.
    fn receive(
        &mut self,
        throughput: &mut MinimumThroughput,
        mut read: impl FnMut(&mut Self) -> io::Result<usize>,
    ) -> Result<usize, WebError> {
        const SLOW: RequestError =
            RequestError::new(Status::REQUEST_TIMEOUT, "the body of the request comes too slowly");
        loop {
            let got = match read(self) {
                Ok(0) => {
                    const CUT: &str = "the connection ended before the body of the request";
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, CUT).into());
                }
                Ok(got) => got,
                Err(e) if is_transient(&e) => {
                    wait_for_input(&self.stream, Instant::now() + CHECK_EVERY)?;
                    0
                }
                Err(e) => return Err(e.into()),
            };
            throughput.moved(got as u64, Instant::now()).map_err(|_| SLOW)?;
            if got > 0 {
                return Ok(got);
            }
        }
    }

    /// Drops the rest of the body; false if it is too long or takes too long.
    pub(crate) fn drop_body(&mut self) -> Result<bool, WebError> {
        let mut buffer = [0; 16 * 1024];
        let until = Instant::now() + limits::DISCARD_TIME;
        let mut dropped = 0;
        while !matches!(self.body.rest, Rest::Nothing) {
            if !self.body.can_be_dropped() || dropped > limits::DISCARD || Instant::now() > until {
                return Ok(false);
            }
            match self.body().read(&mut buffer) {
                Ok(got) => dropped += got as u64,
                // It was answered already.
                Err(WebError::Request(_)) => return Ok(false),
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }
}
