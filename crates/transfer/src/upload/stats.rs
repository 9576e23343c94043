//! Counts what goes wrong, so that no server can keep an upload going for ever.
//!
//! Bytes that went out prove nothing: a server can take them again and again. Only what a server says
//! that it has, more than any said before, counts as coming forward.

use crate::retry::{Attempts, MOST_DAMAGED};

#[derive(Debug, Default)]
pub(super) struct UploadStats {
    /// The most that a server had.
    best: u64,
    /// By how much that grew since a connection was lost last.
    gained: u64,
    attempts: Attempts,
    restarts: u32,
}

impl UploadStats {
    /// A server has `offset` bytes.
    pub(super) fn has(&mut self, offset: u64) {
        self.gained += offset.saturating_sub(self.best);
        self.best = self.best.max(offset);
    }

    /// A connection was lost; says whether to go on.
    pub(super) fn lost(&mut self) -> bool {
        self.attempts.lost(std::mem::take(&mut self.gained))
    }

    /// A server broke the protocol; says whether to go on.
    pub(super) fn violated(&mut self) -> bool {
        self.attempts.violated()
    }

    /// What arrived is not what was sent; how often that was, where it may begin again.
    pub(super) fn restarted(&mut self) -> Option<u32> {
        (self.best, self.gained) = (0, 0);
        self.restarts += 1;
        (self.restarts <= MOST_DAMAGED).then_some(self.restarts)
    }
}

#[cfg(test)]
mod tests {
    use relais_proto::limits;

    use super::*;

    #[test]
    fn only_what_a_server_has_counts() {
        let mut stats = UploadStats::default();
        assert!((0..4).all(|_| stats.lost()));
        // One byte more than any had before, and it begins anew.
        stats.has(1);
        assert!(stats.lost());
        assert!((0..4).all(|_| {
            stats.has(1);
            stats.lost()
        }));
        assert!(!stats.lost());
    }

    #[test]
    fn a_slow_way_forward_ends_and_a_good_one_does_not() {
        let mut poor = UploadStats::default();
        let steps = (1..1000).take_while(|at| {
            poor.has(*at);
            poor.lost()
        });
        assert!(steps.count() < 100);
        let mut good = UploadStats::default();
        assert!((1..1000).all(|n| {
            good.has(n * limits::RATE_FLOOR);
            good.lost()
        }));
    }
}
