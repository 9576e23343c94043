//! Iteration over the entries of a map.

use std::collections::{BTreeMap, btree_map};
use std::fmt;

use super::block::{Block, Cursor};
use super::packed::{Packed, PackedKey};

/// Entries in the order of their keys.
pub struct Iter<'a, K, V> {
    blocks: btree_map::Range<'a, K, Block<K, V>>,
    cursor: Cursor<'a, K>,
    /// How many entries are left, if all are iterated over.
    left: usize,
}

impl<K, V> fmt::Debug for Iter<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").field("left", &self.left).finish_non_exhaustive()
    }
}

impl<'a, K: PackedKey, V: Packed> Iter<'a, K, V> {
    pub(super) fn all(blocks: &'a BTreeMap<K, Block<K, V>>, len: usize) -> Self {
        Self { blocks: blocks.range(..), cursor: Cursor::new(&[]), left: len }
    }

    /// Starts in the block at `from` with the first key above `key`.
    pub(super) fn after(
        blocks: &'a BTreeMap<K, Block<K, V>>,
        from: Option<&K>,
        key: &K,
    ) -> impl Iterator<Item = (K, V)> + use<'a, K, V> {
        let blocks = match from {
            Some(from) => blocks.range(from.clone()..),
            None => blocks.range(..),
        };
        let key = key.clone();
        Self { blocks, cursor: Cursor::new(&[]), left: usize::MAX }
            .skip_while(move |(at, _)| *at <= key)
    }
}

impl<K: PackedKey, V: Packed> Iterator for Iter<'_, K, V> {
    type Item = (K, V);

    fn next(&mut self) -> Option<(K, V)> {
        while !self.cursor.advance() {
            self.cursor = self.blocks.next()?.1.cursor();
        }
        self.left = self.left.saturating_sub(1);
        Some((self.cursor.key.clone(), V::unpack(&mut { self.cursor.value })))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        if self.left == usize::MAX { (0, None) } else { (self.left, Some(self.left)) }
    }
}

impl<K: PackedKey, V: Packed> ExactSizeIterator for Iter<'_, K, V> {}
