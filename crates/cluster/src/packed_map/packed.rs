//! How keys and values become bytes: short numbers, and paths as differences.

use std::str;

use relais_proto::{Digest, FileContent, FileTime, Lsn, Mode, TreeEntry, TreePath};

/// A value in compact form.
pub trait Packed: Sized {
    /// Appends the value.
    fn pack(&self, to: &mut Vec<u8>);

    /// Reads what [`Self::pack`] has written.
    fn unpack(from: &mut &[u8]) -> Self;
}

/// A key in compact form. The default is the smallest key.
pub trait PackedKey: Ord + Clone + Default {
    /// Appends what differs from the smaller key `before`.
    fn pack_after(&self, before: &Self, to: &mut Vec<u8>);

    /// Replaces the key by the next one.
    fn unpack_after(&mut self, from: &mut &[u8]);
}

/// Appends a number: seven bits in each byte, the lowest first (LEB128).
pub(super) fn put_number(mut number: u64, to: &mut Vec<u8>) {
    while number >= 0x80 {
        to.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    to.push(number.to_le_bytes()[0]);
}

/// Reads what [`put_number`] has written.
#[inline]
pub(super) fn take_number(from: &mut &[u8]) -> u64 {
    // Most numbers have one byte.
    if let Some((byte, rest)) = from.split_first()
        && *byte < 0x80
    {
        *from = rest;
        return u64::from(*byte);
    }
    take_long_number(from)
}

fn take_long_number(from: &mut &[u8]) -> u64 {
    let (mut number, mut shift) = (0, 0);
    while let Some((byte, rest)) = from.split_first() {
        *from = rest;
        number |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    number
}

/// Takes bytes whose number [`put_number`] has written.
pub(super) fn take_bytes<'a>(from: &mut &'a [u8], length: u64) -> &'a [u8] {
    let length = usize::try_from(length).unwrap_or(usize::MAX).min(from.len());
    let (taken, rest) = from.split_at(length);
    *from = rest;
    taken
}

fn put_signed(number: i64, to: &mut Vec<u8>) {
    // The sign goes into the lowest bit, so that numbers near zero are short.
    put_number((number << 1 ^ number >> 63).cast_unsigned(), to);
}

fn take_signed(from: &mut &[u8]) -> i64 {
    let number = take_number(from);
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

fn put_lsn(lsn: Lsn, to: &mut Vec<u8>) {
    put_number(lsn.epoch.into(), to);
    put_number(lsn.number, to);
}

fn take_lsn(from: &mut &[u8]) -> Lsn {
    let epoch = u32::try_from(take_number(from)).unwrap_or(u32::MAX);
    Lsn { epoch, number: take_number(from) }
}

impl Packed for () {
    fn pack(&self, _: &mut Vec<u8>) {}

    fn unpack(_: &mut &[u8]) -> Self {}
}

impl Packed for u32 {
    fn pack(&self, to: &mut Vec<u8>) {
        put_number((*self).into(), to);
    }

    fn unpack(from: &mut &[u8]) -> Self {
        Self::try_from(take_number(from)).unwrap_or(Self::MAX)
    }
}

/// Returns the text that the end of a path was.
fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap_or_default()
}

impl Packed for TreePath {
    fn pack(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(self.as_str().as_bytes());
    }

    fn unpack(from: &mut &[u8]) -> Self {
        let mut path = Self::root();
        path.replace_end(0, text(from));
        path
    }
}

impl PackedKey for TreePath {
    fn pack_after(&self, before: &Self, to: &mut Vec<u8>) {
        let shared = self.shared_with(before);
        let own = &self.as_str().as_bytes()[shared..];
        put_number(shared as u64, to);
        put_number(own.len() as u64, to);
        to.extend_from_slice(own);
    }

    fn unpack_after(&mut self, from: &mut &[u8]) {
        let shared = usize::try_from(take_number(from)).unwrap_or(usize::MAX);
        let length = take_number(from);
        self.replace_end(shared, text(take_bytes(from, length)));
    }
}

impl PackedKey for Lsn {
    fn pack_after(&self, before: &Self, to: &mut Vec<u8>) {
        let epochs = self.epoch.saturating_sub(before.epoch);
        put_number(epochs.into(), to);
        let base = if epochs == 0 { before.number } else { 0 };
        put_number(self.number.saturating_sub(base), to);
    }

    fn unpack_after(&mut self, from: &mut &[u8]) {
        let epochs = u32::try_from(take_number(from)).unwrap_or(u32::MAX);
        let base = if epochs == 0 { self.number } else { 0 };
        self.epoch = self.epoch.saturating_add(epochs);
        self.number = base.saturating_add(take_number(from));
    }
}

/// The entry is a file.
const FILE: u8 = 1;
/// The last change to the path is the put of its content.
const UNCHANGED: u8 = 2;

impl Packed for TreeEntry {
    fn pack(&self, to: &mut Vec<u8>) {
        let is_unchanged = self.content.is_some_and(|content| content.put == self.version);
        let flags = if self.content.is_some() { FILE } else { 0 };
        to.push(if is_unchanged { flags | UNCHANGED } else { flags });
        put_number(self.mode.bits().into(), to);
        put_lsn(self.version, to);
        let Some(FileContent { put, digest, size, mtime }) = &self.content else { return };
        if !is_unchanged {
            put_lsn(*put, to);
        }
        to.extend_from_slice(&digest.0);
        put_number(*size, to);
        put_signed(mtime.seconds, to);
        put_number(mtime.nanos.into(), to);
    }

    fn unpack(from: &mut &[u8]) -> Self {
        let flags = take_bytes(from, 1).first().copied().unwrap_or_default();
        let mode = Mode::new(u32::try_from(take_number(from)).unwrap_or_default());
        let version = take_lsn(from);
        if flags & FILE == 0 {
            return Self { version, mode, content: None };
        }
        let put = if flags & UNCHANGED == 0 { take_lsn(from) } else { version };
        let mut digest = Digest([0; 32]);
        digest.0.copy_from_slice(take_bytes(from, 32));
        let (size, seconds) = (take_number(from), take_signed(from));
        let nanos = u32::try_from(take_number(from)).unwrap_or_default();
        let mtime = FileTime { seconds, nanos };
        Self { version, mode, content: Some(FileContent { put, digest, size, mtime }) }
    }
}
