//! Ordered maps in compact blocks, for tables with an entry for each file of the tree.
//!
//! A block holds a few entries as bytes; each key is stored as the difference to the one before it
//! (as in the sorted tables of LevelDB). An entry costs little more than its bytes, where a
//! `BTreeMap` with owned keys needs several times as much. Blocks are shared between clones, so a
//! clone costs one pointer for each block. Pure; it knows nothing of trees.

mod block;
mod iter;
mod packed;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use self::block::Block;
pub use self::iter::Iter;
pub use self::packed::{Packed, PackedKey};

/// Most bytes of a block with several entries: about 35 files of the tree.
///
/// A lookup reads half of a block on average. Smaller blocks need more memory for their own
/// administration, which is about 110 bytes.
const MOST: usize = 2048;
/// Most entries of a block, because a lookup and an insertion read one entry after another.
const MOST_ENTRIES: usize = 64;
/// A block with fewer bytes is joined with the next one, if both fit into one block.
const FEW: usize = MOST / 4;

/// An ordered map in compact blocks.
#[derive(Debug, Clone)]
pub struct PackedMap<K, V> {
    /// Blocks by a key that is at most their first one and above all keys before.
    blocks: BTreeMap<K, Block<K, V>>,
    len: usize,
}

impl<K, V> Default for PackedMap<K, V> {
    fn default() -> Self {
        Self { blocks: BTreeMap::new(), len: 0 }
    }
}

impl<K: PackedKey, V: Packed> PackedMap<K, V> {
    /// Returns the number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns a copy of the value.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<V> {
        self.block_of(key)?.1.get(key)
    }

    /// Returns whether there is a value for the key.
    #[must_use]
    pub fn contains_key(&self, key: &K) -> bool {
        self.block_of(key).is_some_and(|(_, block)| block.contains(key))
    }

    /// Sets the value of a key; returns the former one.
    pub fn insert(&mut self, key: &K, value: &V) -> Option<V> {
        // Smaller keys than all others go into the first block.
        let at = self.block_of(key).map_or_else(K::default, |(at, _)| at.clone());
        let block = self.blocks.entry(at).or_default();
        let former = block.insert(key, value);
        if former.is_none() {
            self.len += 1;
        }
        if block.size() > MOST && block.len() > 1 || block.len() > MOST_ENTRIES {
            let (first, rest) = block.split(key);
            self.blocks.insert(first, rest);
        }
        former
    }

    /// Removes an entry; returns its value.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let at = self.block_of(key)?.0.clone();
        let block = self.blocks.get_mut(&at)?;
        let former = block.remove(key)?;
        self.len -= 1;
        if block.size() < FEW && block.len() < MOST_ENTRIES / 4 {
            self.join(&at);
        }
        Some(former)
    }

    /// Iterates over all entries in the order of their keys.
    #[must_use]
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter::all(&self.blocks, self.len)
    }

    /// Iterates over the entries whose keys are above this one.
    pub fn after(&self, key: &K) -> impl Iterator<Item = (K, V)> + use<'_, K, V> {
        let from = self.block_of(key).map(|(at, _)| at);
        Iter::after(&self.blocks, from, key)
    }

    /// Returns the block whose keys may include this one.
    fn block_of(&self, key: &K) -> Option<(&K, &Block<K, V>)> {
        self.blocks.range(..=key).next_back()
    }

    /// Joins a small block with the next one; removes an empty block.
    fn join(&mut self, at: &K) {
        let Some(small) = self.blocks.get(at) else { return };
        if small.len() == 0 {
            self.blocks.remove(at);
            return;
        }
        let next = self.blocks.range((std::ops::Bound::Excluded(at), std::ops::Bound::Unbounded));
        let Some((next, other)) = next.into_iter().next() else { return };
        let is_small = small.size() + other.size() <= MOST - FEW;
        if is_small && small.len() + other.len() <= MOST_ENTRIES / 2 {
            let (next, joined) = (next.clone(), small.joined(other));
            self.blocks.remove(&next);
            self.blocks.insert(at.clone(), joined);
        }
    }
}

impl<K: PackedKey, V: Packed + PartialEq> PartialEq for PackedMap<K, V> {
    /// Compares entries, whatever the blocks are.
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<K: PackedKey, V: Packed + Eq> Eq for PackedMap<K, V> {}

impl<K: PackedKey, V: Packed> FromIterator<(K, V)> for PackedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::default();
        for (key, value) in entries {
            map.insert(&key, &value);
        }
        map
    }
}
