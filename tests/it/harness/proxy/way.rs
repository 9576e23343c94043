//! One direction of a line: which bytes pass, and where a fault strikes.

use relais_proto::{FrameType, HEADER_LEN};

use super::{Fault, Shared};

/// Whose bytes they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The client's.
    Up,
    /// The server's.
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

/// One direction: decides what passes, and where a fault strikes.
pub trait Way {
    /// Moves bytes to `out`; how many of `input` were taken, and the fault behind them.
    fn pass(&mut self, shared: &Shared, input: &[u8], out: &mut Vec<u8>) -> (usize, Option<Fault>);
    fn struck(&mut self, fault: Fault);
    /// Bytes a second that pass this way, where it is slow.
    fn rate(&self, shared: &Shared) -> Option<u64>;
}

/// Counts bytes up to a fault; shared by both directions.
#[derive(Default)]
struct Raw {
    passed: u64,
    flip: bool,
}

impl Raw {
    /// How many of `len` bytes pass before the armed fault strikes, if it does.
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

/// Reads frames: knows which bytes are content, in either direction.
pub struct Frames {
    direction: Direction,
    raw: Raw,
    /// The header of the frame that comes; it is held until it is whole.
    head: Vec<u8>,
    /// How much of it went out all the same, because a fault struck inside it.
    head_sent: usize,
    left: usize,
    /// Whether the frame's payload is content.
    inside: bool,
    content: u64,
    flip_content: bool,
    from_raw: bool,
    /// Whether it is encrypted: then nobody knows frames, and all bytes count as content.
    encrypted: Option<bool>,
}

impl Frames {
    pub fn new(direction: Direction) -> Self {
        Self {
            direction,
            raw: Raw::default(),
            head: Vec::new(),
            head_sent: 0,
            left: 0,
            inside: false,
            content: 0,
            flip_content: false,
            from_raw: false,
            encrypted: None,
        }
    }

    /// Passes a whole header on and takes its length.
    fn open_frame(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head[self.head_sent..]);
        self.head.clear();
        self.head_sent = 0;
    }

    fn parse_head(&mut self) -> u8 {
        self.left = u32::from_be_bytes(self.head[..4].try_into().unwrap()) as usize;
        self.inside = self.head[4] == self.direction.content().number();
        self.head[4]
    }

    fn payload(
        &mut self,
        shared: &Shared,
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

    /// Passes frames on; the fault at a byte of content, if it strikes.
    fn frames(
        &mut self,
        shared: &Shared,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> (usize, Option<Fault>) {
        // How a TLS record begins, and no frame that is short enough.
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
                // Before the header, so that nothing of the frame passes. A bit is turned inside content.
                lane.content_fault = None;
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

impl Way for Frames {
    fn pass(&mut self, shared: &Shared, input: &[u8], out: &mut Vec<u8>) -> (usize, Option<Fault>) {
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
            // A fault inside a header: what came of it passes.
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

    fn rate(&self, shared: &Shared) -> Option<u64> {
        shared.lock().lane(self.direction).rate
    }
}
