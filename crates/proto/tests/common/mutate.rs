//! Makes hostile inputs out of good ones, by a seed: the same seed gives the
//! same inputs everywhere.

use relais_proto::limits;

/// Numbers at the edges of lengths, counts, offsets and sizes.
pub const EDGES: &[u64] = &[
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    limits::NAME_PART as u64,
    limits::NAME_PART as u64 + 1,
    limits::TEXT as u64 + 1,
    limits::PATH as u64,
    limits::PATH as u64 + 1,
    limits::TICKET as u64 + 1,
    0x7fff,
    0xffff,
    limits::CONTROL_FRAME as u64,
    limits::CONTROL_FRAME as u64 + 1,
    limits::BLOCK_MAX as u64,
    limits::BLOCK_MAX as u64 + 1,
    limits::PIECES,
    limits::PIECES + 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    limits::FILE_SIZE,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];

/// Characters that names and texts may trip over.
const PORTIONS: &[&[u8]] = &[
    b"/",
    b"..",
    b".",
    b"//",
    b"../",
    b".relais",
    b"\0",
    b"\n",
    b"\x1b[2J",
    b"\xff",
    b"\xc3",
    "é".as_bytes(),
    b"RELA",
];

/// A small generator of numbers (splitmix64), so that no crate decides what a seed means.
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 where `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end.max(1) as u64)).unwrap_or(0)
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }
}

/// Changes `input` in one to four places.
pub fn mutate(input: &mut Vec<u8>, others: &[Vec<u8>], chance: &mut Chance) {
    for _ in 0..=chance.below(4) {
        mutate_once(input, others, chance);
    }
}

fn mutate_once(input: &mut Vec<u8>, others: &[Vec<u8>], chance: &mut Chance) {
    let at = chance.below(input.len() + 1);
    match chance.below(9) {
        0 => change(input, at, |byte, chance| byte ^ (1 << chance.below(8)), chance),
        1 => change(input, at, |_, chance| chance.byte(), chance),
        2 => input.insert(at, chance.byte()),
        3 => remove(input, at, 1),
        4 => {
            let len = chance.below(input.len() + 1 - at);
            remove(input, at, len);
        }
        5 => input.truncate(at),
        6 => splice(input, at, others, chance),
        7 => overwrite(input, at, &edge(chance)),
        _ => {
            let portion = *chance.pick(PORTIONS);
            input.splice(at..at, portion.iter().copied());
        }
    }
}

fn change(input: &mut [u8], at: usize, how: impl Fn(u8, &mut Chance) -> u8, chance: &mut Chance) {
    if let Some(byte) = input.get_mut(at) {
        *byte = how(*byte, chance);
    }
}

fn remove(input: &mut Vec<u8>, at: usize, len: usize) {
    let end = (at + len).min(input.len());
    input.drain(at..end);
}

/// Puts the end of another input behind the beginning of this one.
fn splice(input: &mut Vec<u8>, at: usize, others: &[Vec<u8>], chance: &mut Chance) {
    let other = chance.pick(others);
    let from = chance.below(other.len() + 1);
    input.truncate(at);
    input.extend_from_slice(&other[from..]);
}

/// An edge in two, four or eight bytes; the low bytes where it is longer.
fn edge(chance: &mut Chance) -> Vec<u8> {
    let bytes = chance.pick(EDGES).to_be_bytes();
    let width = *chance.pick(&[2, 4, 8]);
    bytes[8 - width..].to_vec()
}

fn overwrite(input: &mut [u8], at: usize, with: &[u8]) {
    for (to, from) in input.iter_mut().skip(at).zip(with) {
        *to = *from;
    }
}
