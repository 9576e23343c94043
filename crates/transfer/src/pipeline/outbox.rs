//! Outgoing data of a pipeline: batches of small frames, and content of puts.
//!
//! Nothing here blocks. A server that is sending reads no further until its answers are taken, so
//! two blocking sends would deadlock. A send therefore writes only what the socket accepts. The
//! caller then waits until the socket is writable or readable, and handles answers. That works for
//! any size of socket buffers and any number of puts.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::rc::Rc;
use std::time::Instant;

use relais_net::{MinimumThroughput, Socket};
use relais_proto::{FrameHeader, FrameType, HEADER_LEN, Request, limits};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};

use super::queue::{Load, PendingRequest};
use crate::error::Fault;

/// Bytes of frames that trigger a send, so the server is not idle while more are made.
pub(super) const BATCH: u64 = 64 * 1024;
/// Largest content that is copied between the frames; larger content is sent from its buffer.
const COPIED: usize = 16 * 1024;
/// Chunks in one system call.
const CHUNKS: usize = 16;
/// Length of the frame that ends a put.
const PUT_END: usize = HEADER_LEN + 32;

#[derive(Debug)]
enum Chunk {
    Frames(Vec<u8>),
    Content(Rc<Vec<u8>>),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Frames(bytes) => bytes,
            Self::Content(bytes) => bytes,
        }
    }
}

/// Frames and content that wait to be sent to one server.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    chunks: VecDeque<Chunk>,
    /// Sent bytes of the first chunk.
    done: usize,
    /// An empty buffer for reuse.
    spare: Vec<u8>,
    /// Bytes appended and bytes sent on this connection.
    queued: u64,
    sent: u64,
    /// Runs while the socket accepts nothing and no answer arrives.
    pace: Option<MinimumThroughput>,
}

impl Outbox {
    /// Appends the frames and the content of `item`.
    ///
    /// Returns false, and does nothing, if the frames exceed `room` bytes.
    pub fn append(&mut self, item: &mut PendingRequest, room: usize) -> bool {
        let mut frames = self.take_tail();
        let before = frames.len();
        item.request.encode(&mut frames);
        let request = frames.len() - before;
        item.load = match &item.upload {
            None => Load { frames: request, data: 0 },
            Some(upload) if upload.content.is_empty() => {
                Load { frames: request + PUT_END, data: 0 }
            }
            Some(upload) => {
                Load { frames: request + HEADER_LEN + PUT_END, data: upload.content.len() }
            }
        };
        if item.load.frames > room {
            frames.truncate(before);
            self.chunks.push_back(Chunk::Frames(frames));
            return false;
        }
        if let Some(upload) = &item.upload {
            frames = self.append_data(frames, &upload.content);
            Request::PutEnd { digest: upload.digest }.encode(&mut frames);
        }
        self.chunks.push_back(Chunk::Frames(frames));
        item.begins = self.queued;
        item.data_begins = item.begins + (request + HEADER_LEN) as u64;
        self.queued += (item.load.frames + item.load.data) as u64;
        item.ends = self.queued;
        true
    }

    /// Takes the last buffer, to be extended and put back.
    fn take_tail(&mut self) -> Vec<u8> {
        match self.chunks.pop_back() {
            // A partly sent buffer is not extended forever.
            Some(Chunk::Frames(bytes)) if (bytes.len() as u64) < BATCH => bytes,
            other => {
                self.chunks.extend(other);
                std::mem::take(&mut self.spare)
            }
        }
    }

    /// Appends a content frame to `frames`, unless the content is empty.
    ///
    /// The returned buffer takes the bytes that follow.
    fn append_data(&mut self, mut frames: Vec<u8>, content: &Rc<Vec<u8>>) -> Vec<u8> {
        if content.is_empty() {
            return frames;
        }
        let len = u32::try_from(content.len()).unwrap_or(u32::MAX);
        debug_assert!(
            len <= limits::BLOCK_MAX,
            "content over the cap was refused when it was asked"
        );
        frames.extend_from_slice(&FrameHeader { kind: FrameType::Data, len }.to_bytes());
        if content.len() <= COPIED {
            frames.extend_from_slice(content);
            return frames;
        }
        self.chunks.push_back(Chunk::Frames(frames));
        self.chunks.push_back(Chunk::Content(Rc::clone(content)));
        std::mem::take(&mut self.spare)
    }

    /// Returns the number of queued bytes.
    pub fn pending(&self) -> u64 {
        self.queued - self.sent
    }

    /// Returns the number of bytes sent on this connection.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Drops all data for the next connection.
    pub fn reset(&mut self) {
        *self = Self { spare: std::mem::take(&mut self.spare), ..Self::default() };
    }

    /// Records an answer: the server is alive although it accepts nothing.
    pub fn server_is_alive(&mut self) {
        self.pace = None;
    }

    /// Sends as much as the socket accepts without waiting.
    pub fn send(&mut self, to: &Socket) -> Result<(), Fault> {
        while self.pending() > 0 {
            let mut slices = [IoSlice::new(&[]); CHUNKS];
            let (mut count, mut offered) = (0, 0);
            for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
                let bytes = &chunk.bytes()[if count == 0 { self.done } else { 0 }..];
                *slice = IoSlice::new(bytes);
                (count, offered) = (count + 1, offered + bytes.len());
            }
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match sendmsg(to, &slices[..count], &mut SendAncillaryBuffer::default(), flags) {
                Ok(sent) => {
                    self.advance(sent);
                    if sent < offered {
                        return self.stalled(sent);
                    }
                }
                Err(Errno::AGAIN) => return self.stalled(0),
                Err(Errno::INTR) => {}
                Err(e) => return Err(std::io::Error::from(e).into()),
            }
        }
        self.pace = None;
        Ok(())
    }

    fn advance(&mut self, mut sent: usize) {
        self.sent += sent as u64;
        while let Some(chunk) = self.chunks.front() {
            let rest = chunk.bytes().len() - self.done;
            if sent < rest {
                self.done += sent;
                return;
            }
            sent -= rest;
            self.done = 0;
            if let Some(Chunk::Frames(mut bytes)) = self.chunks.pop_front() {
                bytes.clear();
                self.spare = bytes;
            }
        }
    }

    /// Handles a full socket after `sent` more bytes.
    fn stalled(&mut self, sent: usize) -> Result<(), Fault> {
        let now = Instant::now();
        Ok(self.pace.get_or_insert_with(|| MinimumThroughput::new(now)).moved(sent as u64, now)?)
    }
}

/// Waits until `stream` is writable or, with `reading`, readable; returns whether it is readable.
pub(super) fn wait(stream: &Socket, reading: bool) -> Result<bool, Fault> {
    let flags = if reading { PollFlags::OUT | PollFlags::IN } else { PollFlags::OUT };
    let mut fds = [PollFd::new(stream, flags)];
    let timeout = Timespec::try_from(limits::SILENCE).ok();
    match poll(&mut fds, timeout.as_ref()) {
        Ok(0) => Err(Fault::Lost("silent for too long".to_owned())),
        // A read reveals the error of a failed socket.
        Ok(_) => {
            Ok(reading
                && fds[0].revents().intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR))
        }
        Err(Errno::INTR) => Ok(false),
        Err(e) => Err(std::io::Error::from(e).into()),
    }
}
