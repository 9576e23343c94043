//! Files that were removed or replaced: one that turns up again in a folder is an old copy, not a new file.

use std::collections::{HashMap, VecDeque};

use relais_proto::{Digest, TreePath, Version};

/// Path and digest of each file that went, until it is forgotten.
#[derive(Debug, Clone, Default)]
pub struct Removed {
    by: HashMap<(TreePath, Digest), Version>,
    /// Oldest first, with the time in milliseconds since 1970.
    order: VecDeque<(u64, TreePath, Digest)>,
}

impl Removed {
    /// The content went from the path with this change.
    pub fn note(&mut self, path: &TreePath, digest: Digest, version: Version, time_ms: u64) {
        let former = self.by.insert((path.clone(), digest), version);
        if former.is_none() {
            self.order.push_back((time_ms, path.clone(), digest));
        }
    }

    /// The change with which this content went from this path.
    #[must_use]
    pub fn find(&self, path: &TreePath, digest: Digest) -> Option<Version> {
        self.by.get(&(path.clone(), digest)).copied()
    }

    /// All of them, oldest first: when each went, its path and digest, and the change with which it went.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &TreePath, Digest, Version)> {
        self.order.iter().filter_map(|(time, path, digest)| {
            Some((*time, path, *digest, self.find(path, *digest)?))
        })
    }

    /// Forgets what went before a time.
    pub fn forget(&mut self, before_ms: u64) {
        while self.order.front().is_some_and(|(time, ..)| *time < before_ms) {
            if let Some((_, path, digest)) = self.order.pop_front() {
                self.by.remove(&(path, digest));
            }
        }
    }

    /// How many are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by.is_empty()
    }
}
