//! Limits the failures of an upload, so no server can keep it running forever.
//!
//! Sent bytes prove nothing, because a server can accept them repeatedly. Only a server's report of
//! more bytes than any before counts as progress.

use crate::retry::{Attempts, MAX_DAMAGED};

#[derive(Debug, Default)]
pub(super) struct UploadStats {
    /// Highest number of bytes that a server has reported.
    best: u64,
    /// Growth of that number since the last lost connection.
    gained: u64,
    attempts: Attempts,
    restarts: u32,
}

impl UploadStats {
    /// Records that a server has `offset` bytes.
    pub(super) fn has(&mut self, offset: u64) {
        self.gained += offset.saturating_sub(self.best);
        self.best = self.best.max(offset);
    }

    /// Records a lost connection; returns whether to continue.
    pub(super) fn lost(&mut self) -> bool {
        self.attempts.lost(std::mem::take(&mut self.gained))
    }

    /// Records a protocol violation; returns whether to continue.
    pub(super) fn violated(&mut self) -> bool {
        self.attempts.violated()
    }

    /// Records damaged bytes; returns how often that was, if a restart is allowed.
    pub(super) fn restarted(&mut self) -> Option<u32> {
        (self.best, self.gained) = (0, 0);
        self.restarts += 1;
        (self.restarts <= MAX_DAMAGED).then_some(self.restarts)
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
        // One more byte than any server had before resets the counter.
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
