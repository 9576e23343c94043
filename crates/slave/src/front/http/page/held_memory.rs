//! The memory that all pages of a worker hold for their entries, and its limit.
//!
//! A page holds entries to sort them, and until its client has read them. So a thousand clients of
//! a large folder would need a thousand times its memory.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Most bytes that the pages of a worker hold.
const MOST: usize = 64 << 20;
/// Bytes that each page may hold whatever the others do, so that small folders are always sorted.
const ALWAYS: usize = 64 << 10;

/// The bytes that all pages of this process hold beyond [`ALWAYS`].
static HELD: AtomicUsize = AtomicUsize::new(0);

/// The memory that one page holds; it is given back when this is dropped.
#[derive(Debug, Default)]
pub struct HeldMemory {
    own: usize,
    shared: usize,
}

impl HeldMemory {
    /// Counts memory that the page holds from now on; false if it should hold no more.
    pub fn hold(&mut self, bytes: usize) -> bool {
        self.own += bytes;
        let beyond = self.own.saturating_sub(ALWAYS).saturating_sub(self.shared);
        self.shared += beyond;
        HELD.fetch_add(beyond, Ordering::Relaxed) + beyond <= MOST || self.own <= ALWAYS
    }
}

impl Drop for HeldMemory {
    fn drop(&mut self) {
        HELD.fetch_sub(self.shared, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_share_a_limit_and_small_ones_always_fit() {
        let mut large = HeldMemory::default();
        assert!(large.hold(MOST));
        let mut next = HeldMemory::default();
        assert!(next.hold(ALWAYS));
        assert!(!next.hold(ALWAYS + 1));
        let mut small = HeldMemory::default();
        assert!(small.hold(ALWAYS / 2) && small.hold(ALWAYS / 2));
        drop((large, next));
        assert!(small.hold(MOST), "the memory was given back");
        drop(small);
        assert_eq!(HELD.load(Ordering::Relaxed), 0);
    }
}
