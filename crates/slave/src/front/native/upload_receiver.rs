//! Receives the data of uploads from the connection.

use std::time::Instant;

use relais_engine::{PreparedChange, Upload};
use relais_net::{Connection, MinimumThroughput, ReadTimeouts};
use relais_proto::{Digest, FrameHeader, FrameType, Refusal, Request, WireError, limits};

use super::keep_alive::ConnectionKeepAlive;

/// Most bytes of one read.
const BUFFER: usize = 256 * 1024;
/// Bytes that a session reads ahead once it receives uploads, so that one call reads many small
/// ones.
const READ_AHEAD: usize = 64 * 1024;

/// Limits within an upload, where a client may not pause for as long as between requests.
const UPLOAD_LIMITS: ReadTimeouts =
    ReadTimeouts { idle: limits::FRAME_TIME, ..ReadTimeouts::SESSION };

/// Called before a wait for more bytes: it sends answers to earlier requests, and keep-alives.
pub type BeforeWait<'a> = &'a mut dyn FnMut(&mut Connection) -> Result<(), WireError>;

/// Receives uploads, one after another, through one buffer.
#[derive(Default)]
pub struct UploadReceiver {
    buffer: Vec<u8>,
}

/// The result of receiving an upload.
pub enum ReceivedUpload {
    /// All content is staged.
    Complete(Box<PreparedChange>),
    /// The upload has failed.
    Refused {
        /// The refusal for the client.
        refusal: Refusal,
        /// Whether all frames of it were read.
        ended: bool,
    },
}

impl UploadReceiver {
    /// Frees the buffer, because no upload follows at the moment.
    pub fn free_buffer(&mut self) {
        self.buffer = Vec::new();
    }

    /// Receives the data of an upload up to its end, or until it has failed.
    ///
    /// It calls `before_wait` before each wait.
    ///
    /// # Errors
    /// The connection's. What was received stays staged, as long as the upload can be resumed.
    pub fn receive(
        &mut self,
        connection: &mut Connection,
        mut upload: Upload,
        before_wait: BeforeWait<'_>,
    ) -> Result<ReceivedUpload, WireError> {
        if self.buffer.is_empty() {
            self.buffer = vec![0; BUFFER];
            connection.grow_read_ahead(READ_AHEAD);
        }
        connection.set_timeouts(UPLOAD_LIMITS);
        let result = self.receive_frames(connection, &mut upload, before_wait);
        connection.set_timeouts(ReadTimeouts::SESSION);
        let digest = match result? {
            Ok(digest) => digest,
            Err(refusal) => return Ok(ReceivedUpload::Refused { refusal, ended: false }),
        };
        Ok(match upload.finish(Some(digest), &mut ConnectionKeepAlive::new(connection)) {
            Ok(change) => ReceivedUpload::Complete(Box::new(change)),
            Err(refusal) => ReceivedUpload::Refused { refusal, ended: true },
        })
    }

    /// Receives the frames of an upload; returns the digest at its end.
    fn receive_frames(
        &mut self,
        connection: &mut Connection,
        upload: &mut Upload,
        before_wait: BeforeWait<'_>,
    ) -> Result<Result<Digest, Refusal>, WireError> {
        let mut throughput = MinimumThroughput::new(Instant::now());
        loop {
            if !connection.has_input() {
                before_wait(connection)?;
            }
            let header = next_frame(connection)?;
            if header.kind == FrameType::PutEnd {
                return match Request::decode(header.kind, connection.read_payload(header)?)? {
                    Request::PutEnd { digest } => Ok(Ok(digest)),
                    other => Err(WireError::Unexpected(other.frame_type().number())),
                };
            }
            let mut left = header.len as usize;
            while left > 0 {
                if !connection.has_input() {
                    before_wait(connection)?;
                }
                let some = connection.read_some_into(&mut self.buffer[..left.min(BUFFER)])?;
                left -= some;
                throughput.moved(some as u64, Instant::now())?;
                if let Err(refusal) = upload.write(&self.buffer[..some]) {
                    self.skip(connection, left)?;
                    return Ok(Err(refusal));
                }
            }
        }
    }

    /// Reads and discards the rest of a refused upload, so that the session can continue after it.
    ///
    /// # Errors
    /// The connection's; [`WireError::OverCap`] if the rest is too large.
    pub fn discard_rest(&mut self, connection: &mut Connection) -> Result<(), WireError> {
        let mut dropped = 0;
        loop {
            let header = next_frame(connection)?;
            if header.kind == FrameType::PutEnd {
                return connection.read_payload(header).map(drop);
            }
            dropped += u64::from(header.len);
            if dropped > limits::DISCARD {
                return Err(WireError::OverCap {
                    what: "rest of a refused upload",
                    len: dropped,
                    cap: limits::DISCARD,
                });
            }
            self.skip(connection, header.len as usize)?;
        }
    }

    fn skip(&mut self, connection: &mut Connection, mut left: usize) -> Result<(), WireError> {
        if self.buffer.is_empty() {
            self.buffer = vec![0; BUFFER];
        }
        while left > 0 {
            let some = left.min(BUFFER);
            connection.read_exact_into(&mut self.buffer[..some])?;
            left -= some;
        }
        Ok(())
    }
}

/// Reads the header of an upload's next frame: data, which must not be empty, or the end.
fn next_frame(connection: &mut Connection) -> Result<FrameHeader, WireError> {
    let header = connection.read_header()?.ok_or(WireError::Truncated)?;
    match header.kind {
        FrameType::PutEnd => Ok(header),
        FrameType::Data if header.len > 0 => Ok(header),
        FrameType::Data => Err(WireError::BadValue { what: "length of data", value: 0 }),
        other => Err(WireError::Unexpected(other.number())),
    }
}
