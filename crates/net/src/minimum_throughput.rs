//! The minimum throughput of a transfer. Pure: the caller passes the time.

use std::io;
use std::time::Instant;

use relais_proto::limits;

/// Ends a transfer that moves fewer than [`limits::RATE_FLOOR`] bytes in a
/// [`limits::RATE_WINDOW`].
///
/// Without it a peer that sends or reads a byte a second would hold a session without end.
#[derive(Debug)]
pub struct MinimumThroughput {
    since: Instant,
    moved: u64,
}

impl MinimumThroughput {
    /// Starts the first window at `now`.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { since: now, moved: 0 }
    }

    /// Counts moved bytes. A new window starts as soon as the floor is reached.
    ///
    /// So a transfer that stalls has one window from there, however fast it was before.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] if a window ends below the floor.
    pub fn moved(&mut self, bytes: u64, now: Instant) -> io::Result<()> {
        self.moved = self.moved.saturating_add(bytes);
        if self.moved >= limits::RATE_FLOOR {
            (self.since, self.moved) = (now, 0);
        } else if now.duration_since(self.since) >= limits::RATE_WINDOW {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the transfer is too slow"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn ends_a_trickle_and_keeps_a_slow_transfer() {
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
