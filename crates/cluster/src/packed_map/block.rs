//! A few entries of a map as bytes.
//!
//! Each entry is the difference of its key to the one before, the length of its value, and the
//! value. The first key is the difference to the default key.

use std::marker::PhantomData;
use std::sync::Arc;

use super::packed::{Packed, PackedKey, put_number, take_bytes, take_number};

/// The entries of a block, shared between clones of the map.
#[derive(Debug)]
pub(super) struct Block<K, V> {
    bytes: Arc<[u8]>,
    len: usize,
    kind: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Clone for Block<K, V> {
    fn clone(&self) -> Self {
        Self { bytes: Arc::clone(&self.bytes), len: self.len, kind: PhantomData }
    }
}

impl<K, V> Default for Block<K, V> {
    fn default() -> Self {
        Self { bytes: Arc::default(), len: 0, kind: PhantomData }
    }
}

/// Reads the entries of a block one after another.
#[derive(Debug)]
pub(super) struct Cursor<'a, K> {
    /// The key of the current entry; the default before the first one.
    pub key: K,
    /// The value of the current entry.
    pub value: &'a [u8],
    /// Where the current entry starts, and its value with the length.
    start: usize,
    value_at: usize,
    /// Where the next entry starts.
    end: usize,
    bytes: &'a [u8],
}

impl<'a, K: PackedKey> Cursor<'a, K> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { key: K::default(), value: &[], start: 0, value_at: 0, end: 0, bytes }
    }

    /// Moves to the next entry; returns false at the end.
    pub fn advance(&mut self) -> bool {
        let mut rest = self.bytes.get(self.end..).unwrap_or_default();
        if rest.is_empty() {
            return false;
        }
        self.start = self.end;
        self.key.unpack_after(&mut rest);
        self.value_at = self.bytes.len() - rest.len();
        let length = take_number(&mut rest);
        self.value = take_bytes(&mut rest, length);
        self.end = self.bytes.len() - rest.len();
        true
    }
}

/// The place of a key in a block.
struct Place<'a, K> {
    /// The key before the place.
    before: K,
    /// The entry at the place or after it; `None` at the end.
    next: Option<Cursor<'a, K>>,
    /// Where that entry starts.
    start: usize,
}

impl<K: PackedKey, V: Packed> Block<K, V> {
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns the number of bytes.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    pub fn cursor(&self) -> Cursor<'_, K> {
        Cursor::new(&self.bytes)
    }

    pub fn get(&self, key: &K) -> Option<V> {
        self.find(key).map(|mut value| V::unpack(&mut value))
    }

    pub fn contains(&self, key: &K) -> bool {
        self.find(key).is_some()
    }

    /// Returns the bytes of a value.
    fn find(&self, key: &K) -> Option<&[u8]> {
        let mut cursor = self.cursor();
        while cursor.advance() {
            if cursor.key >= *key {
                return (cursor.key == *key).then_some(cursor.value);
            }
        }
        None
    }

    /// Finds the first entry whose key is not below this one.
    fn place(&self, key: &K) -> Place<'_, K> {
        let (mut cursor, mut before) = (self.cursor(), K::default());
        while cursor.advance() {
            if cursor.key >= *key {
                return Place { before, start: cursor.start, next: Some(cursor) };
            }
            before.clone_from(&cursor.key);
        }
        Place { before, start: self.bytes.len(), next: None }
    }

    /// Sets the value of a key; returns the former one.
    pub fn insert(&mut self, key: &K, value: &V) -> Option<V> {
        let Place { before, next, start } = self.place(key);
        let mut bytes = self.copied(start);
        key.pack_after(&before, &mut bytes);
        put_value(value, &mut bytes);
        let mut former = None;
        if let Some(next) = next {
            if next.key == *key {
                former = Some(V::unpack(&mut { next.value }));
                bytes.extend_from_slice(&self.bytes[next.end..]);
            } else {
                next.key.pack_after(key, &mut bytes);
                bytes.extend_from_slice(&self.bytes[next.value_at..]);
            }
        }
        self.len += usize::from(former.is_none());
        self.bytes = bytes.into();
        former
    }

    /// Removes an entry; returns its value.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let Place { before, next, start } = self.place(key);
        let mut cursor = next.filter(|next| next.key == *key)?;
        let former = V::unpack(&mut { cursor.value });
        let mut bytes = self.copied(start);
        if cursor.advance() {
            cursor.key.pack_after(&before, &mut bytes);
            bytes.extend_from_slice(&self.bytes[cursor.value_at..]);
        }
        self.len -= 1;
        self.bytes = bytes.into();
        Some(former)
    }

    /// Splits a block that is too large, to which `inserted` was added last.
    ///
    /// Returns the second part with its first key. Where keys come in their order, the first part
    /// stays full.
    pub fn split(&mut self, inserted: &K) -> (K, Self) {
        let middle = if self.ends_with(inserted) { usize::MAX } else { self.bytes.len() / 2 };
        let (mut cursor, mut count) = (self.cursor(), 0);
        cursor.advance();
        // Each part gets an entry at least.
        while count == 0 || cursor.start < middle && cursor.end < self.bytes.len() {
            cursor.advance();
            count += 1;
        }
        let mut rest = Vec::new();
        cursor.key.pack_after(&K::default(), &mut rest);
        rest.extend_from_slice(&self.bytes[cursor.value_at..]);
        let second = Self { bytes: rest.into(), len: self.len - count, kind: PhantomData };
        let (first, key) = (self.bytes[..cursor.start].into(), cursor.key);
        self.bytes = first;
        self.len = count;
        (key, second)
    }

    fn ends_with(&self, key: &K) -> bool {
        let mut cursor = self.cursor();
        while cursor.advance() {}
        cursor.key == *key
    }

    /// Returns one block with the entries of this one and of the next one.
    pub fn joined(&self, next: &Self) -> Self {
        let mut last = self.cursor();
        while last.advance() {}
        let mut bytes = self.copied(self.bytes.len());
        let mut first = next.cursor();
        if first.advance() {
            first.key.pack_after(&last.key, &mut bytes);
            bytes.extend_from_slice(&next.bytes[first.value_at..]);
        }
        Self { bytes: bytes.into(), len: self.len + next.len, kind: PhantomData }
    }

    /// Returns a copy of the bytes up to here, with place for one more entry.
    fn copied(&self, upto: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.bytes.len() + 256);
        bytes.extend_from_slice(&self.bytes[..upto]);
        bytes
    }
}

fn put_value<V: Packed>(value: &V, to: &mut Vec<u8>) {
    let at = to.len();
    to.push(0);
    value.pack(to);
    let length = to.len() - at - 1;
    if let Ok(length) = u8::try_from(length)
        && length < 0x80
    {
        to[at] = length;
        return;
    }
    // A long value: its length does not fit into the byte that was left for it.
    let value = to.split_off(at + 1);
    to.truncate(at);
    put_number(length as u64, to);
    to.extend_from_slice(&value);
}
