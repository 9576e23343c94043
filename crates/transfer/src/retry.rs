//! How often transfers try again, and how long a server may put them off: one policy for downloads, uploads and
//! pipelines.
//!
//! How long a server may be silent is [`limits::SILENCE`], for everything that is read from it or sent to it.

use std::time::Duration;

use relais_proto::limits;

/// The longest that a server may put off an answer with `Wait`.
pub(crate) const PATIENCE: Duration = limits::IDLE_TIME;
/// Times that servers broke the protocol before a transfer gives up.
const MOST_VIOLATIONS: u32 = 3;
/// Lost connections in a row that brought nothing. Each may cost the silence that a server is granted, and nobody shall wait for
/// more than half a minute.
const MOST_FRUITLESS: u32 = 5;
/// Lost connections in a row that each brought less than [`limits::RATE_FLOOR`]: a server that takes or sends a few bytes
/// and hangs, again and again, must not keep a transfer for ever.
const MOST_POOR: u32 = 32;
/// Times that the content may be replaced during one download.
pub(crate) const MOST_REPLACED: u32 = 5;
/// Times that one download finds content that does not have its digest.
pub(crate) const MOST_ROTTEN: u32 = 4;
/// Times that one upload begins again because what arrived was damaged.
pub(crate) const MOST_DAMAGED: u32 = 3;
/// Answers of no use, to one request of a pipeline, before the last one is handed out as a refusal.
pub(crate) const MOST_USELESS: u32 = 4;
/// Servers that a pipeline leaves because they can make no changes now, before their refusal is handed out.
pub(crate) const MOST_NO_CHANGES: u32 = 2;

/// Counts what goes wrong, so that no server can keep a transfer going for ever.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    fruitless: u32,
    poor: u32,
    violations: u32,
}

impl Attempts {
    /// A connection was lost that has brought the transfer forward by `gained` bytes; whether to go on.
    pub(crate) fn lost(&mut self, gained: u64) -> bool {
        self.fruitless = if gained > 0 { 0 } else { self.fruitless + 1 };
        self.poor = if gained >= limits::RATE_FLOOR { 0 } else { self.poor + 1 };
        self.fruitless < MOST_FRUITLESS && self.poor < MOST_POOR
    }

    /// A server broke the protocol; whether to go on.
    pub(crate) fn violated(&mut self) -> bool {
        self.violations += 1;
        self.violations < MOST_VIOLATIONS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_without_gain_end_and_each_gain_counts_anew() {
        let mut attempts = Attempts::default();
        for _ in 0..3 {
            assert!((1..MOST_FRUITLESS).all(|_| attempts.lost(0)));
            assert!(attempts.lost(limits::RATE_FLOOR));
        }
        assert!((1..MOST_FRUITLESS).all(|_| attempts.lost(0)) && !attempts.lost(0));
        let mut poor = Attempts::default();
        assert!((1..MOST_POOR).all(|_| poor.lost(1)) && !poor.lost(1));
        let mut bad = Attempts::default();
        assert!((1..MOST_VIOLATIONS).all(|_| bad.violated()) && !bad.violated());
    }
}
