//! Reading the data of an upload from the connection.

use std::time::Instant;

use relais_net::{Connection, MinimumThroughput, ReadLimits};
use relais_proto::{FrameHeader, FrameType, Refusal, Request, WireError, limits};

use super::session::SessionKeepAlive;
use crate::changes::Proposal;
use crate::requests::Upload;
use crate::serving::{ServingContext, Session};

/// Bytes read at once.
const BUFFER: usize = 256 * 1024;
/// Bytes that a session reads ahead once it sends uploads: many small ones come with one call of the system.
const READ_AHEAD: usize = 64 * 1024;

/// Between the frames of an upload nobody may think for as long as between two requests.
const UPLOAD_LIMITS: ReadLimits = ReadLimits { idle: limits::FRAME_TIME, ..ReadLimits::SESSION };

/// Called before more bytes of an upload are waited for: answers to earlier requests, and signs of life, go out then.
pub type BeforeWait<'a> = &'a mut dyn FnMut(&mut Connection) -> Result<(), WireError>;

/// Takes uploads in, one after another, through one buffer.
#[derive(Default)]
pub struct UploadReceiver {
    buffer: Vec<u8>,
}

/// What came of an upload.
pub enum ReceivedUpload {
    /// All of it is staged.
    Whole(Box<Proposal>),
    /// It has failed.
    Refused {
        /// Why.
        refusal: Refusal,
        /// Whether all frames of it were read.
        ended: bool,
    },
}

impl UploadReceiver {
    /// Nothing is coming now: no memory is kept for it.
    pub fn free_buffer(&mut self) {
        self.buffer = Vec::new();
    }

    /// Reads the data of an upload up to its end, or until it has failed. `before_wait` is called before each wait.
    ///
    /// # Errors
    /// The connection's. What came of it stays staged, as long as somebody may go on with it.
    pub fn receive(
        &mut self,
        connection: &mut Connection,
        (serving, session): (&ServingContext, &Session),
        mut upload: Upload,
        before_wait: BeforeWait<'_>,
    ) -> Result<ReceivedUpload, WireError> {
        if self.buffer.is_empty() {
            self.buffer = vec![0; BUFFER];
            connection.read_further_ahead(READ_AHEAD);
        }
        let (name, stream) = (upload.name().clone(), connection.stream().clone());
        serving.uploads.begin(&name, &stream);
        connection.set_limits(UPLOAD_LIMITS);
        let result = self.receive_frames(connection, serving, &mut upload, before_wait);
        serving.uploads.end(&name, &stream);
        connection.set_limits(ReadLimits::SESSION);
        let digest = match result {
            Ok(Ok(digest)) => digest,
            Ok(Err(refusal)) => return Ok(ReceivedUpload::Refused { refusal, ended: false }),
            Err(e) => {
                upload.suspend(serving);
                return Err(e);
            }
        };
        let mut keepalive = SessionKeepAlive::hashing(connection, serving, session);
        Ok(match upload.finish(digest, serving, &mut keepalive) {
            Ok(proposal) => ReceivedUpload::Whole(Box::new(proposal)),
            Err(refusal) => ReceivedUpload::Refused { refusal, ended: true },
        })
    }

    /// The digest at the end.
    fn receive_frames(
        &mut self,
        connection: &mut Connection,
        serving: &ServingContext,
        upload: &mut Upload,
        before_wait: BeforeWait<'_>,
    ) -> Result<Result<relais_proto::Digest, Refusal>, WireError> {
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
                if let Err(refusal) = upload.write(&self.buffer[..some], serving) {
                    self.skip(connection, left)?;
                    return Ok(Err(refusal));
                }
            }
        }
    }

    /// Reads and drops the rest of an upload that was refused, so that the session can go on behind it.
    ///
    /// # Errors
    /// The connection's; [`WireError::OverCap`] where too much is still coming.
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

/// The header of the next frame of an upload: data, which is not empty, or its end.
fn next_frame(connection: &mut Connection) -> Result<FrameHeader, WireError> {
    let header = connection.read_header()?.ok_or(WireError::Truncated)?;
    match header.kind {
        FrameType::PutEnd => Ok(header),
        FrameType::Data if header.len > 0 => Ok(header),
        FrameType::Data => Err(WireError::BadValue { what: "length of data", value: 0 }),
        other => Err(WireError::Unexpected(other.number())),
    }
}
