//! One direction of a line: which bytes pass, and where a fault strikes.

use relais_proto::{FrameType, HEADER_LEN};

use super::{Fault, Shared};

/// One direction: decides what passes, and where a fault strikes.
pub trait Way {
    /// Moves bytes to `out`; how many of `input` were taken, and the fault behind them.
    fn pass(&mut self, shared: &Shared, input: &[u8], out: &mut Vec<u8>) -> (usize, Option<Fault>);
    fn struck(&mut self, fault: Fault);
    fn throttled(&self) -> bool;
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

#[derive(Default)]
pub struct Up(Raw);

impl Way for Up {
    fn pass(&mut self, shared: &Shared, input: &[u8], out: &mut Vec<u8>) -> (usize, Option<Fault>) {
        let (taken, fault) = self.0.until(&mut shared.lock().up_fault, input.len());
        out.extend_from_slice(&input[..taken]);
        if let Some(first) = out.first_mut().filter(|_| std::mem::take(&mut self.0.flip)) {
            *first ^= 1;
        }
        (taken, fault)
    }

    fn struck(&mut self, fault: Fault) {
        self.0.flip = fault == Fault::FlipBit;
    }

    fn throttled(&self) -> bool {
        false
    }
}

/// From the server: knows which bytes are content.
#[derive(Default)]
pub struct Down {
    raw: Raw,
    /// The header of the frame that comes; it is held until it is whole.
    head: Vec<u8>,
    /// How much of it went out all the same, because a fault struck inside it.
    head_sent: usize,
    left: usize,
    block: bool,
    content: u64,
    flip_content: bool,
    from_raw: bool,
}

impl Down {
    /// Passes a whole header on and takes its length.
    fn open_frame(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head[self.head_sent..]);
        self.head.clear();
        self.head_sent = 0;
    }

    fn parse_head(&mut self) -> u8 {
        self.left = u32::from_be_bytes(self.head[..4].try_into().unwrap()) as usize;
        self.block = self.head[4] == FrameType::Block.number();
        self.head[4]
    }

    fn payload(&mut self, shared: &Shared, input: &[u8], out: &mut Vec<u8>) -> (usize, Option<Fault>) {
        let mut len = self.left.min(input.len());
        let mut fault = None;
        if self.block {
            let mut state = shared.lock();
            if let Some((at, kind)) = state.content_fault
                && self.content <= at
                && self.content + len as u64 > at
            {
                len = usize::try_from(at - self.content).unwrap();
                state.content_fault = None;
                fault = Some(kind);
            }
            state.content += len as u64;
            self.content += len as u64;
        }
        let start = out.len();
        out.extend_from_slice(&input[..len]);
        if self.block && self.flip_content && len > 0 {
            self.flip_content = false;
            out[start] ^= 1;
        }
        self.left -= len;
        (len, fault)
    }

    /// Passes frames on; the fault at a byte of content, if it strikes.
    fn frames(&mut self, shared: &Shared, input: &[u8], out: &mut Vec<u8>) -> (usize, Option<Fault>) {
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
            let here = self.block || kind == FrameType::End.number();
            if let Some((_, fault)) = state.content_fault.filter(|(n, _)| here && *n == self.content) {
                // Before the header, so that nothing of the frame passes. A bit is turned inside content.
                state.content_fault = None;
                return (at, Some(fault));
            }
            drop(state);
            self.open_frame(out);
        }
        (at, None)
    }
}

impl Way for Down {
    fn pass(&mut self, shared: &Shared, input: &[u8], out: &mut Vec<u8>) -> (usize, Option<Fault>) {
        let (mut taken, mut fault) = self.raw.until(&mut shared.lock().down_fault, input.len());
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

    fn throttled(&self) -> bool {
        true
    }
}
