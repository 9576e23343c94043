//! Bytes per second of a slave, from the counters in its heartbeats.

use std::collections::VecDeque;
use std::time::Duration;

/// Kept readings: those of the time between two points of a curve, and the one before.
const READINGS: usize = 11;

/// The counters of a slave at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reading {
    at: Duration,
    sent: u64,
    received: u64,
}

/// Bytes per second in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Rates {
    pub sent: u64,
    pub received: u64,
}

/// The latest readings of a slave's counters, oldest first.
#[derive(Debug, Default)]
pub(super) struct RateMeter(VecDeque<Reading>);

impl RateMeter {
    /// Adds a reading. Counters that have fallen are those of a slave that was restarted.
    pub fn read(&mut self, at: Duration, sent: u64, received: u64) {
        if self.0.back().is_some_and(|last| last.sent > sent || last.received > received) {
            self.0.clear();
        }
        if self.0.len() >= READINGS {
            self.0.pop_front();
        }
        self.0.push_back(Reading { at, sent, received });
    }

    /// Returns the rates over about this time before the last reading.
    pub fn over(&self, time: Duration) -> Rates {
        let Some(last) = self.0.back() else { return Rates::default() };
        let is_near = |reading: &&Reading| last.at.saturating_sub(reading.at) <= time;
        let first = self.0.iter().find(is_near).unwrap_or(last);
        let millis = last.at.saturating_sub(first.at).as_millis();
        let per_second = |bytes: u64| {
            let rate = (u128::from(bytes) * 1000).checked_div(millis).unwrap_or_default();
            u64::try_from(rate).unwrap_or(u64::MAX)
        };
        Rates {
            sent: per_second(last.sent.saturating_sub(first.sent)),
            received: per_second(last.received.saturating_sub(first.received)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_the_latest_seconds() {
        let mut meter = RateMeter::default();
        assert_eq!(meter.over(Duration::from_secs(3)), Rates::default());
        for second in 0..30 {
            meter.read(Duration::from_secs(second), second.saturating_sub(25) * 600, second * 2);
        }
        assert_eq!(meter.over(Duration::from_secs(3)), Rates { sent: 600, received: 2 });
        assert_eq!(meter.over(Duration::from_secs(10)), Rates { sent: 240, received: 2 });
        assert_eq!(meter.0.len(), READINGS);
    }

    #[test]
    fn a_restarted_slave_begins_at_zero() {
        let mut meter = RateMeter::default();
        meter.read(Duration::from_secs(1), 1_000_000, 0);
        meter.read(Duration::from_secs(2), 10, 0);
        assert_eq!(meter.over(Duration::from_secs(10)), Rates::default());
        meter.read(Duration::from_secs(3), 60, 5);
        assert_eq!(meter.over(Duration::from_secs(10)), Rates { sent: 50, received: 5 });
    }
}
