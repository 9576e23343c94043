//! Bodies in chunks: the end of the body is marked, not known before.

use crate::limits;
use crate::request_error::RequestError;

/// Takes a chunked body apart (RFC 9112, section 7.1).
///
/// It holds at most [`limits::CHUNK_LINE`] bytes. Extensions of chunks and trailers are checked for
/// their length and dropped, which RFC 9112 sections 7.1.1 and 7.1.2 allow.
#[derive(Debug, Default)]
pub struct ChunkedDecoder {
    state: ChunkState,
    line: Vec<u8>,
    /// Bytes of trailers so far.
    trailers: usize,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum ChunkState {
    /// In the line with a chunk's size.
    #[default]
    Size,
    /// In the data of a chunk, with so many bytes to come.
    Data(u64),
    /// After the data of a chunk.
    DataEnd,
    /// In the trailer section.
    Trailers,
    /// Behind the body.
    Ended,
}

/// What [`ChunkedDecoder::decode`] has found at the beginning of its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkedProgress {
    /// Bytes to drop before the data.
    pub skip: usize,
    /// Bytes of data that follow these.
    pub data: usize,
    /// Whether the body has ended. What follows belongs to the next request.
    pub has_ended: bool,
}

const BAD_CHUNK: RequestError = RequestError::bad("a chunk of the body is malformed");
const LONG_LINE: RequestError = RequestError::bad("the line of a chunk is too long");
const LONG_TRAILERS: RequestError = RequestError::bad("the trailers of the body are too long");

impl ChunkedDecoder {
    /// Looks at `input`, of which the caller drops `skip + data` bytes after each call.
    ///
    /// Without data and end, more input is needed.
    ///
    /// # Errors
    /// Status 400. The connection must be closed after the answer.
    pub fn decode(&mut self, input: &[u8]) -> Result<ChunkedProgress, RequestError> {
        let mut at = 0;
        loop {
            match self.state {
                ChunkState::Data(left) => {
                    let here = (input.len() - at).min(usize::try_from(left).unwrap_or(usize::MAX));
                    if here > 0 {
                        let left = left - here as u64;
                        let more = ChunkState::Data(left);
                        self.state = if left == 0 { ChunkState::DataEnd } else { more };
                    }
                    return Ok(ChunkedProgress { skip: at, data: here, has_ended: false });
                }
                ChunkState::Ended => {
                    return Ok(ChunkedProgress { skip: at, data: 0, has_ended: true });
                }
                _ => {}
            }
            let Some(byte) = input.get(at) else {
                return Ok(ChunkedProgress { skip: at, data: 0, has_ended: false });
            };
            at += 1;
            self.take(*byte)?;
        }
    }

    /// Whether the whole body was decoded.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.state == ChunkState::Ended
    }

    /// Takes a byte of a line, and ends the line with CR LF.
    fn take(&mut self, byte: u8) -> Result<(), RequestError> {
        let after_return = self.line.last() == Some(&b'\r');
        if after_return != (byte == b'\n') {
            return Err(BAD_CHUNK);
        }
        if self.state == ChunkState::Trailers {
            self.trailers += 1;
            if self.trailers > limits::TRAILERS {
                return Err(LONG_TRAILERS);
            }
        }
        if !after_return {
            return self.push(byte);
        }
        let mut line = std::mem::take(&mut self.line);
        line.pop();
        self.state = match self.state {
            ChunkState::Size => match parse_size(&line)? {
                0 => ChunkState::Trailers,
                size => ChunkState::Data(size),
            },
            ChunkState::DataEnd if line.is_empty() => ChunkState::Size,
            ChunkState::Trailers if line.is_empty() => ChunkState::Ended,
            ChunkState::Trailers => ChunkState::Trailers,
            _ => return Err(BAD_CHUNK),
        };
        Ok(())
    }

    fn push(&mut self, byte: u8) -> Result<(), RequestError> {
        let is_text = byte == b'\r' || byte == b'\t' || !byte.is_ascii_control();
        let most = match self.state {
            // Only CR LF may follow the data.
            ChunkState::DataEnd => 1,
            // Their sum is limited.
            ChunkState::Trailers => limits::TRAILERS,
            _ => limits::CHUNK_LINE,
        };
        if !is_text || (self.state == ChunkState::DataEnd && byte != b'\r') {
            return Err(BAD_CHUNK);
        }
        if self.line.len() == most {
            return Err(LONG_LINE);
        }
        self.line.push(byte);
        Ok(())
    }
}

/// Parses the size of a chunk, before its extensions (RFC 9112, section 7.1.1).
fn parse_size(line: &[u8]) -> Result<u64, RequestError> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let rest = line[digits..].trim_ascii_start();
    if digits == 0 || digits > 16 || !(line.len() == digits || rest.starts_with(b";")) {
        return Err(BAD_CHUNK);
    }
    let text = std::str::from_utf8(&line[..digits]).map_err(|_| BAD_CHUNK)?;
    u64::from_str_radix(text, 16).map_err(|_| BAD_CHUNK)
}

/// Makes a chunked body (RFC 9112, section 7.1).
#[derive(Debug, Clone, Copy)]
pub struct ChunkedEncoder;

impl ChunkedEncoder {
    /// What marks the end of the body, without trailers.
    pub const END: &'static [u8] = b"0\r\n\r\n";
    /// What follows the data of each chunk.
    pub const DATA_END: &'static [u8] = b"\r\n";

    /// Returns what precedes the data of a chunk; `len` must not be 0, which would be the end.
    #[must_use]
    pub fn head(len: usize) -> Vec<u8> {
        debug_assert!(len > 0);
        format!("{len:x}\r\n").into_bytes()
    }
}

#[cfg(test)]
mod tests;
