//! What is to be sent: many small frames together, and content that is put.
//!
//! Nothing here blocks. A server may be sending while we are, and reads no further until its answers are
//! taken: if both waited in a send, they would wait for ever. So a send takes what the socket has room
//! for, and whoever drives it then waits for the socket to be writable or readable, whichever comes
//! first, and takes answers in. That holds for any size of socket buffers and any number of puts.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::rc::Rc;
use std::time::Instant;

use relais_net::{MinimumThroughput, Socket};
use relais_proto::{FrameHeader, FrameType, HEADER_LEN, Request, limits};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};

use super::error::PipelineInterrupt;
use super::queue::{Load, PendingRequest};

/// Frames are sent once there are so many bytes of them, so that the server is not idle while more are made.
pub(super) const BATCH: u64 = 64 * 1024;
/// Content up to here is copied in between the frames; larger content is sent from where it lies.
const COPIED: usize = 16 * 1024;
/// Chunks in one call of the system.
const CHUNKS: usize = 16;
/// Bytes of the frame that ends a put.
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

/// Frames and content on their way to one server.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    chunks: VecDeque<Chunk>,
    /// Bytes of the first chunk that are sent.
    done: usize,
    /// An empty buffer, to be used again.
    spare: Vec<u8>,
    /// Bytes appended and bytes sent on this connection.
    queued: u64,
    sent: u64,
    /// Runs while the socket takes no more and nothing comes in.
    pace: Option<MinimumThroughput>,
}

impl Outbox {
    /// Appends the frames of `item`, and its content; false, and nothing done, where the frames
    /// would not fit into `room` bytes.
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

    /// The buffer at the end, to be put back there.
    fn take_tail(&mut self) -> Vec<u8> {
        match self.chunks.pop_back() {
            // One that is partly sent is not added to for ever.
            Some(Chunk::Frames(bytes)) if (bytes.len() as u64) < BATCH => bytes,
            other => {
                self.chunks.extend(other);
                std::mem::take(&mut self.spare)
            }
        }
    }

    /// Appends a frame of content to `frames`; empty content has none. What is behind it goes into what is returned.
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

    /// Bytes that are queued and not sent.
    pub fn pending(&self) -> u64 {
        self.queued - self.sent
    }

    /// Bytes sent on this connection.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Drops everything: the next connection begins.
    pub fn reset(&mut self) {
        *self = Self { spare: std::mem::take(&mut self.spare), ..Self::default() };
    }

    /// Something came in, so the server is there although it takes nothing.
    pub fn server_is_alive(&mut self) {
        self.pace = None;
    }

    /// Sends what the socket takes without waiting.
    pub fn send(&mut self, to: &Socket) -> Result<(), PipelineInterrupt> {
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
                Err(e) => return Err(PipelineInterrupt::Lost(std::io::Error::from(e).to_string())),
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

    /// The socket is full after `sent` bytes more.
    fn stalled(&mut self, sent: usize) -> Result<(), PipelineInterrupt> {
        let now = Instant::now();
        self.pace
            .get_or_insert_with(|| MinimumThroughput::new(now))
            .moved(sent as u64, now)
            .map_err(|e| PipelineInterrupt::Lost(e.to_string()))
    }
}

/// Waits until more can be sent on `stream`, or, with `reading`, something can be read; whether something can be read.
pub(super) fn wait(stream: &Socket, reading: bool) -> Result<bool, PipelineInterrupt> {
    let flags = if reading { PollFlags::OUT | PollFlags::IN } else { PollFlags::OUT };
    let mut fds = [PollFd::new(stream, flags)];
    let timeout = Timespec::try_from(limits::SILENCE).ok();
    match poll(&mut fds, timeout.as_ref()) {
        Ok(0) => {
            Err(PipelineInterrupt::Lost("nothing came in time, and nothing was taken".to_owned()))
        }
        // A failed socket is found out by reading from it.
        Ok(_) => {
            Ok(reading
                && fds[0].revents().intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR))
        }
        Err(Errno::INTR) => Ok(false),
        Err(e) => Err(PipelineInterrupt::Lost(std::io::Error::from(e).to_string())),
    }
}
