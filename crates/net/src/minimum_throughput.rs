//! The slowest that a transfer may be. Pure: the caller passes the time.

use std::io;
use std::time::{Duration, Instant};

use relais_proto::limits;

/// Watches that a transfer moves at least [`limits::RATE_FLOOR`] bytes in each
/// [`limits::RATE_WINDOW`], so that a peer that takes or gives a byte a second
/// does not hold a session for ever.
#[derive(Debug)]
pub struct MinimumThroughput {
    window: Duration,
    floor: u64,
    since: Instant,
    moved: u64,
}

impl MinimumThroughput {
    /// Begins to watch at `now`.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { window: limits::RATE_WINDOW, floor: limits::RATE_FLOOR, since: now, moved: 0 }
    }

    /// Counts bytes that moved. Whenever enough have come together, a new window begins: a
    /// transfer that stalls has one window from there, however fast it was before.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] where a window ended with too few bytes in it.
    pub fn moved(&mut self, bytes: u64, now: Instant) -> io::Result<()> {
        self.moved = self.moved.saturating_add(bytes);
        if self.moved >= self.floor {
            (self.since, self.moved) = (now, 0);
        } else if now.duration_since(self.since) >= self.window {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the transfer is too slow"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trickle_is_ended_and_a_slow_line_is_not() {
        let start = Instant::now();
        let second = |n| start + Duration::from_secs(n);
        let mut trickle = MinimumThroughput::new(start);
        assert!((1..30).all(|n| trickle.moved(1, second(n)).is_ok()));
        assert_eq!(trickle.moved(1, second(30)).unwrap_err().kind(), io::ErrorKind::TimedOut);

        let mut slow = MinimumThroughput::new(start);
        assert!((1..600).all(|n| slow.moved(1100, second(n)).is_ok()));

        let mut stalled = MinimumThroughput::new(start);
        stalled.moved(1 << 30, second(1)).unwrap();
        assert!((2..31).all(|n| stalled.moved(0, second(n)).is_ok()));
        assert!(stalled.moved(0, second(31)).is_err());
    }
}
