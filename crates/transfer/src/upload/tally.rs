//! Counts what goes wrong, so that no server can keep an upload going for ever.
//!
//! Bytes that went out prove nothing: a server can take them again and again. Only what a server says
//! that it has, more than any said before, counts as coming forward.

use relais_proto::limits;

/// Lost connections in a row after which no server had more than before. Each may cost the silence that a
/// server is granted, and nobody shall wait for more than half a minute.
const MOST_FRUITLESS: u32 = 5;
/// Lost connections in a row that each brought less than [`limits::RATE_FLOOR`].
const MOST_POOR: u32 = 32;
/// Times that servers broke the protocol before the upload gives up.
const MOST_VIOLATIONS: u32 = 3;
/// Times that it begins again because what arrived was damaged.
const MOST_RESTARTS: u32 = 3;

#[derive(Debug, Default)]
pub(super) struct Tally {
    /// The most that a server had.
    best: u64,
    /// By how much that grew since a connection was lost last.
    gained: u64,
    fruitless: u32,
    poor: u32,
    violations: u32,
    restarts: u32,
}

impl Tally {
    /// A server has `offset` bytes.
    pub(super) fn has(&mut self, offset: u64) {
        self.gained += offset.saturating_sub(self.best);
        self.best = self.best.max(offset);
    }

    /// A connection was lost; says whether to go on.
    pub(super) fn lost(&mut self) -> bool {
        let gained = std::mem::take(&mut self.gained);
        self.fruitless = if gained > 0 { 0 } else { self.fruitless + 1 };
        self.poor = if gained >= limits::RATE_FLOOR { 0 } else { self.poor + 1 };
        self.fruitless < MOST_FRUITLESS && self.poor < MOST_POOR
    }

    /// A server broke the protocol; says whether to go on.
    pub(super) fn violated(&mut self) -> bool {
        self.violations += 1;
        self.violations < MOST_VIOLATIONS
    }

    /// What arrived is not what was sent; how often that was, where it may begin again.
    pub(super) fn restarted(&mut self) -> Option<u32> {
        (self.best, self.gained) = (0, 0);
        self.restarts += 1;
        (self.restarts <= MOST_RESTARTS).then_some(self.restarts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_server_has_counts() {
        let mut tally = Tally::default();
        for _ in 1..MOST_FRUITLESS {
            assert!(tally.lost());
        }
        // One byte more than any had before, and it begins anew.
        tally.has(1);
        assert!(tally.lost());
        for _ in 1..MOST_FRUITLESS {
            tally.has(1);
            assert!(tally.lost());
        }
        assert!(!tally.lost());
    }

    #[test]
    fn a_slow_way_forward_ends_and_a_good_one_does_not() {
        let mut poor = Tally::default();
        assert!((1..u64::from(MOST_POOR)).all(|at| {
            poor.has(at);
            poor.lost()
        }));
        poor.has(MOST_POOR.into());
        assert!(!poor.lost());
        let mut good = Tally::default();
        assert!((1..1000).all(|n| {
            good.has(n * limits::RATE_FLOOR);
            good.lost()
        }));
    }
}
