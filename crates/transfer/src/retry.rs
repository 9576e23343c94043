//! Retry policy of downloads, uploads and pipelines: attempts and patience with a server.
//!
//! [`limits::SILENCE`] is the permitted silence of a server, for all reads and writes.

use std::time::Duration;

use relais_proto::limits;

/// Longest time that a server may delay an answer with `Wait`.
pub(crate) const PATIENCE: Duration = limits::IDLE_TIME;
/// Protocol violations before a transfer gives up.
const MAX_VIOLATIONS: u32 = 3;
/// Lost connections in a row without any progress.
///
/// Each may last for the permitted silence, and a user should not wait for more than half a minute.
const MAX_FRUITLESS: u32 = 5;
/// Lost connections in a row with less progress than [`limits::RATE_FLOOR`] each.
///
/// The limit ends a transfer with a server that repeatedly moves a few bytes and hangs.
const MAX_SLOW: u32 = 32;
/// Replacements of the content during one download.
pub(crate) const MAX_REPLACEMENTS: u32 = 5;
/// Digest mismatches during one download.
pub(crate) const MAX_DIGEST_MISMATCHES: u32 = 4;
/// Restarts of one upload because the received bytes were damaged.
pub(crate) const MAX_DAMAGED: u32 = 3;
/// Useless answers to one request of a pipeline; the last one is returned as a refusal.
pub(crate) const MAX_USELESS: u32 = 4;
/// Servers that a pipeline leaves because they accept no changes, before it returns the refusal.
pub(crate) const MAX_NO_CHANGES: u32 = 2;

/// Counts failures, so that no server can keep a transfer running forever.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    fruitless: u32,
    poor: u32,
    violations: u32,
}

impl Attempts {
    /// Records a lost connection with `gained` bytes of progress; returns whether to continue.
    pub(crate) fn lost(&mut self, gained: u64) -> bool {
        self.fruitless = if gained > 0 { 0 } else { self.fruitless + 1 };
        self.poor = if gained >= limits::RATE_FLOOR { 0 } else { self.poor + 1 };
        self.fruitless < MAX_FRUITLESS && self.poor < MAX_SLOW
    }

    /// Records a protocol violation; returns whether to continue.
    pub(crate) fn violated(&mut self) -> bool {
        self.violations += 1;
        self.violations < MAX_VIOLATIONS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_without_gain_end_and_each_gain_counts_anew() {
        let mut attempts = Attempts::default();
        for _ in 0..3 {
            assert!((1..MAX_FRUITLESS).all(|_| attempts.lost(0)));
            assert!(attempts.lost(limits::RATE_FLOOR));
        }
        assert!((1..MAX_FRUITLESS).all(|_| attempts.lost(0)) && !attempts.lost(0));
        let mut poor = Attempts::default();
        assert!((1..MAX_SLOW).all(|_| poor.lost(1)) && !poor.lost(1));
        let mut bad = Attempts::default();
        assert!((1..MAX_VIOLATIONS).all(|_| bad.violated()) && !bad.violated());
    }
}
