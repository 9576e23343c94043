//! One direction of a proxied connection: which bytes pass, and where a fault strikes.

use relais_proto::{FrameType, HEADER_LEN};

use super::{Fault, ProxyShared};

/// The direction of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

impl Direction {
    fn content(self) -> FrameType {
        if self == Self::Up { FrameType::Data } else { FrameType::Block }
    }

    fn end(self) -> FrameType {
        if self == Self::Up { FrameType::PutEnd } else { FrameType::End }
    }
}

/// Decides which bytes of one direction pass, and where a fault strikes.
pub trait ByteFilter {
    /// Moves bytes to `out`. Returns how many of `input` were taken, and the fault after them.
    fn pass(
        &mut self,
        shared: &ProxyShared,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> (usize, Option<Fault>);
    fn struck(&mut self, fault: Fault);
    /// Returns the rate limit in bytes a second, if there is one.
    fn rate(&self, shared: &ProxyShared) -> Option<u64>;
}

/// Counts bytes up to a fault.
#[derive(Default)]
struct ByteCounter {
    passed: u64,
    flip: bool,
}

impl ByteCounter {
    /// Returns how many of `len` bytes pass before the armed fault, and the fault if it strikes.
    fn until(&mut self, armed: &mut Option<(u64, Fault)>, len: usize) -> (usize, Option<Fault>) {
        if let Some((at, fault)) = *armed
            && self.passed + len as u64 > at
            && self.passed <= at
        {
            *armed = None;
            let before = usize::try_from(at - self.passed).unwrap();
            self.passed = at;
            return (before, Some(fault));
        }
        self.passed += len as u64;
        (len, None)
    }
}

/// Parses frames to find the bytes of content, in either direction.
pub struct FrameFilter {
    direction: Direction,
    raw: ByteCounter,
    /// The header of the next frame; held back until it is complete.
    head: Vec<u8>,
    /// Bytes of the header that were sent because a fault struck inside it.
    head_sent: usize,
    left: usize,
    /// Number of frames whose header has passed.
    frames: u64,
    /// Whether the frame's payload is content.
    inside: bool,
    content: u64,
    flip_content: bool,
    from_raw: bool,
    /// Whether the connection is encrypted. Frames cannot be parsed then, and all bytes count as
    /// content.
    encrypted: Option<bool>,
}

impl FrameFilter {
    pub fn new(direction: Direction) -> Self {
        Self {
            direction,
            raw: ByteCounter::default(),
            head: Vec::new(),
            head_sent: 0,
            left: 0,
            frames: 0,
            inside: false,
            content: 0,
            flip_content: false,
            from_raw: false,
            encrypted: None,
        }
    }

    /// Forwards a complete header.
    fn open_frame(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head[self.head_sent..]);
        self.head.clear();
        self.head_sent = 0;
        self.frames += 1;
    }

    fn parse_head(&mut self) -> u8 {
        self.left = u32::from_be_bytes(self.head[..4].try_into().unwrap()) as usize;
        self.inside = self.head[4] == self.direction.content().number();
        self.head[4]
    }

    fn payload(
        &mut self,
        shared: &ProxyShared,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> (usize, Option<Fault>) {
        let mut len = self.left.min(input.len());
        let mut fault = None;
        if self.inside {
            let mut state = shared.lock();
            let lane = state.lane(self.direction);
            if let Some((at, kind)) = lane.content_fault
                && self.content <= at
                && self.content + len as u64 > at
            {
                len = usize::try_from(at - self.content).unwrap();
                lane.content_fault = None;
                fault = Some(kind);
            }
            lane.content += len as u64;
            self.content += len as u64;
        }
        let start = out.len();
        out.extend_from_slice(&input[..len]);
        if self.inside && self.flip_content && len > 0 {
            self.flip_content = false;
            out[start] ^= 1;
        }
        self.left -= len;
        (len, fault)
    }

    /// Forwards frames. Returns the bytes taken and the fault at a byte of content, if it strikes.
    fn frames(
        &mut self,
        shared: &ProxyShared,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> (usize, Option<Fault>) {
        // A TLS record begins with this byte; no frame of an allowed length does.
        if *self.encrypted.get_or_insert(input.first() == Some(&0x16)) {
            (self.left, self.inside) = (input.len(), true);
        }
        if self.head.len() == HEADER_LEN {
            self.open_frame(out);
        }
        let mut at = 0;
        while at < input.len() {
            if self.left > 0 {
                let (taken, fault) = self.payload(shared, &input[at..], out);
                at += taken;
                if fault.is_some() {
                    return (at, fault);
                }
                continue;
            }
            self.head.push(input[at]);
            at += 1;
            if self.head.len() < HEADER_LEN {
                continue;
            }
            let kind = self.parse_head();
            let mut state = shared.lock();
            let lane = state.lane(self.direction);
            let here = self.inside || kind == self.direction.end().number();
            if let Some((_, fault)) = lane.content_fault.filter(|(n, _)| here && *n == self.content)
            {
                // Before the header, so that no byte of the frame passes. A bit is flipped inside
                // content.
                lane.content_fault = None;
                return (at, Some(fault));
            }
            if let Some((_, fault)) = lane.frame_fault.take_if(|(n, _)| *n == self.frames) {
                return (at, Some(fault));
            }
            if let Some(fault) =
                lane.answer_fault.take_if(|_| kind == FrameType::Committed.number())
            {
                return (at, Some(fault));
            }
            drop(state);
            self.open_frame(out);
        }
        (at, None)
    }
}

impl ByteFilter for FrameFilter {
    fn pass(
        &mut self,
        shared: &ProxyShared,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> (usize, Option<Fault>) {
        let (mut taken, mut fault) =
            self.raw.until(&mut shared.lock().lane(self.direction).fault, input.len());
        self.from_raw = fault.is_some();
        if fault.is_none() || !input[..taken].is_empty() {
            let (by_frames, at_content) = self.frames(shared, &input[..taken], out);
            if at_content.is_some() {
                self.raw.passed -= (taken - by_frames) as u64;
                (taken, fault, self.from_raw) = (by_frames, at_content, false);
            }
        }
        if self.from_raw && self.head.len() < HEADER_LEN && self.left == 0 {
            // A fault inside a header: the received part of it passes.
            out.extend_from_slice(&self.head[self.head_sent..]);
            self.head_sent = self.head.len();
        }
        if let Some(first) = out.first_mut().filter(|_| std::mem::take(&mut self.raw.flip)) {
            *first ^= 1;
        }
        (taken, fault)
    }

    fn struck(&mut self, fault: Fault) {
        if fault == Fault::FlipBit {
            if self.from_raw { self.raw.flip = true } else { self.flip_content = true }
        }
    }

    fn rate(&self, shared: &ProxyShared) -> Option<u64> {
        shared.lock().lane(self.direction).rate
    }
}
