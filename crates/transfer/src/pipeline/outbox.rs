//! Outgoing data of a pipeline: frames, and contents of puts.
//!
//! Nothing here blocks. A server that is sending reads no further until its answers are taken, so
//! two blocking sends would deadlock. A send therefore writes only what the socket accepts. The
//! caller then waits until the socket is writable or readable, and handles answers. That works for
//! any size of socket buffers and any number of puts.

use std::io::ErrorKind;
use std::time::Instant;

use relais_net::{MinimumThroughput, Stream};
use relais_proto::{FrameType, HEADER_LEN, Request, encode_frame, limits};
use rustix::event::PollFlags;
use rustix::net::SendFlags;

use super::queue::PendingRequest;
use crate::error::Fault;

/// Bytes that trigger a send, so the server is not idle while more are made.
pub(super) const BATCH: u64 = 64 * 1024;
/// Length of the frame that ends a put.
const PUT_END: usize = HEADER_LEN + 32;

/// Frames and content that wait to be sent to one server.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Bytes of this batch, and how many of them were sent.
    batch: Vec<u8>,
    done: usize,
    /// Bytes of earlier batches on this connection.
    earlier: u64,
    /// Runs while the socket accepts nothing and no answer arrives.
    pace: Option<MinimumThroughput>,
}

impl Outbox {
    /// Appends the frames and the content of `item`.
    ///
    /// Returns false, and does nothing, if the frames exceed `room` bytes.
    pub fn append(&mut self, item: &mut PendingRequest, room: usize) -> bool {
        let before = self.batch.len();
        item.request.encode(&mut self.batch);
        let request = self.batch.len() - before;
        let data = item.data();
        let ends = match (&item.upload, data) {
            (None, _) => 0,
            (Some(_), 0) => PUT_END,
            (Some(_), _) => HEADER_LEN + PUT_END,
        };
        item.frames = request + ends;
        if item.frames > room {
            self.batch.truncate(before);
            return false;
        }
        if let Some(upload) = &item.upload {
            if data > 0 {
                encode_frame(&mut self.batch, FrameType::Data, |out| {
                    out.extend_from_slice(&upload.content);
                });
            }
            Request::PutEnd { digest: upload.digest }.encode(&mut self.batch);
        }
        item.begins = self.earlier + before as u64;
        item.data_begins = item.begins + (request + HEADER_LEN) as u64;
        item.ends = self.earlier + self.batch.len() as u64;
        true
    }

    /// Returns the number of queued bytes.
    pub fn pending(&self) -> u64 {
        (self.batch.len() - self.done) as u64
    }

    /// Returns the number of bytes sent on this connection.
    pub fn sent(&self) -> u64 {
        self.earlier + self.done as u64
    }

    /// Drops all data for the next connection.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Records an answer: the server is alive although it accepts nothing.
    pub fn server_is_alive(&mut self) {
        self.pace = None;
    }

    /// Sends as much as the socket accepts without waiting.
    pub fn send(&mut self, to: &Stream) -> Result<(), Fault> {
        while self.pending() > 0 {
            let sent = match to.send(&self.batch[self.done..], SendFlags::DONTWAIT) {
                Ok(sent) => sent,
                Err(e) if e.kind() == ErrorKind::WouldBlock => 0,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(e.into()),
            };
            self.done += sent;
            if self.pending() > 0 {
                let now = Instant::now();
                let pace = self.pace.get_or_insert_with(|| MinimumThroughput::new(now));
                return Ok(pace.moved(sent as u64, now)?);
            }
        }
        self.earlier += std::mem::take(&mut self.done) as u64;
        self.batch.clear();
        self.pace = None;
        Ok(())
    }
}

/// Waits until `stream` is writable or, with `reading`, readable; returns whether it is readable.
pub(super) fn wait(stream: &Stream, reading: bool) -> Result<bool, Fault> {
    let flags = if reading { PollFlags::OUT | PollFlags::IN } else { PollFlags::OUT };
    let came = stream.poll(flags, Some(limits::SILENCE))?;
    if came.is_empty() {
        return Err(Fault::Lost("silent for too long".to_owned()));
    }
    // A read reveals the error of a failed socket.
    Ok(reading && came.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR))
}
