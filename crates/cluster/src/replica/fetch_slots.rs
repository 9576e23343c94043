//! Slots for the fetches that run at once.
//!
//! Contents up to [`PIPELINED`] share connections, on which the requests follow each other without
//! a wait. So their number is limited by what a line holds, by bytes. Each larger content occupies
//! a connection. The largest ones have a few slots of their own, so smaller ones never wait behind
//! them, and smaller ones do not use those slots.

use std::collections::BTreeMap;

use relais_proto::{FolderId, Lsn};

use crate::message_budget::{LARGE, PIPELINED};

/// Number of classes: pipelined contents, those below [`LARGE`], and the rest.
pub(super) const CLASSES: usize = 3;
/// Concurrent fetches in each class.
const SLOTS: [usize; CLASSES] = [512, 6, 2];
/// Bytes of pipelined contents that are under way, above which no further one starts.
const PIPELINED_BYTES: u64 = 16 * 1024 * 1024;

/// Returns the class of slots for a content.
pub(super) fn class_of(size: u64) -> usize {
    if size <= PIPELINED { 0 } else { 1 + usize::from(size >= LARGE) }
}

/// The fetches that are under way; see the module.
#[derive(Debug, Clone, Default)]
pub(super) struct FetchSlots {
    /// Holder and size of each content that is being fetched.
    fetches: BTreeMap<Lsn, (FolderId, u64)>,
    used: [usize; CLASSES],
    pipelined_bytes: u64,
    busy: BTreeMap<FolderId, usize>,
}

impl FetchSlots {
    /// Returns whether the content is being fetched.
    pub fn has(&self, put: Lsn) -> bool {
        self.fetches.contains_key(&put)
    }

    /// Returns whether another fetch of a class can begin.
    pub fn is_free(&self, class: usize) -> bool {
        self.used[class] < SLOTS[class] && (class > 0 || self.pipelined_bytes < PIPELINED_BYTES)
    }

    /// Returns the number of fetches from a holder.
    pub fn busy(&self, holder: FolderId) -> usize {
        self.busy.get(&holder).copied().unwrap_or_default()
    }

    /// Records the start of a fetch.
    pub fn begin(&mut self, put: Lsn, from: FolderId, size: u64) {
        self.end(put);
        self.fetches.insert(put, (from, size));
        self.used[class_of(size)] += 1;
        *self.busy.entry(from).or_default() += 1;
        if class_of(size) == 0 {
            self.pipelined_bytes += size;
        }
    }

    /// Records the end of a fetch. Returns whether it was under way.
    pub fn end(&mut self, put: Lsn) -> bool {
        let Some((from, size)) = self.fetches.remove(&put) else { return false };
        self.used[class_of(size)] -= 1;
        if class_of(size) == 0 {
            self.pipelined_bytes -= size;
        }
        if let Some(busy) = self.busy.get_mut(&from) {
            *busy -= 1;
            if *busy == 0 {
                self.busy.remove(&from);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(number: u64) -> Lsn {
        Lsn { epoch: 1, number }
    }

    #[test]
    fn pipelined_contents_are_limited_by_bytes() {
        let (mut slots, from) = (FetchSlots::default(), FolderId([1; 16]));
        let fits = PIPELINED_BYTES / PIPELINED;
        for number in 0..fits {
            assert!(slots.is_free(0), "{number}");
            slots.begin(put(number), from, PIPELINED);
        }
        assert!(!slots.is_free(0) && slots.is_free(1) && slots.is_free(2));
        assert_eq!(slots.busy(from) as u64, fits);
        assert!(slots.end(put(0)) && !slots.end(put(0)));
        assert!(slots.is_free(0));
    }

    #[test]
    fn each_class_has_its_own_slots() {
        let (mut slots, from) = (FetchSlots::default(), FolderId([1; 16]));
        for (class, size) in [(0, 0), (1, PIPELINED + 1), (2, LARGE)] {
            for number in 0..SLOTS[class] as u64 {
                assert!(slots.is_free(class));
                slots.begin(put(number + 10_000 * class as u64), from, size);
            }
            assert!(!slots.is_free(class));
        }
        for number in 0..SLOTS[0] as u64 {
            slots.end(put(number));
        }
        assert!(slots.is_free(0) && !slots.is_free(1) && !slots.is_free(2));
        assert_eq!(slots.busy(from), SLOTS[1] + SLOTS[2]);
    }
}
