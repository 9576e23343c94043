//! The measured rate of one stream. Pure: the caller passes the time.

use std::time::{Duration, Instant};

/// Length of a measurement.
const WINDOW: Duration = Duration::from_millis(100);
/// Bytes after which the first measurement ends early, so that fast lines have one soon.
const FIRST_WINDOW: u64 = 4 * 1024 * 1024;
/// Time without a completed measurement after which the open one counts.
const STALLED: Duration = Duration::from_millis(300);

/// Bytes per second of one stream.
#[derive(Debug)]
pub struct StreamRate {
    /// Mean of the measurements, later ones weighing more.
    mean: Option<u64>,
    since: Instant,
    bytes: u64,
}

impl StreamRate {
    pub fn new(now: Instant) -> Self {
        Self { mean: None, since: now, bytes: 0 }
    }

    /// Starts a measurement: the stream has waited for work until now.
    pub fn begin(&mut self, now: Instant) {
        (self.since, self.bytes) = (now, 0);
    }

    /// Counts received bytes.
    pub fn moved(&mut self, bytes: u64, now: Instant) {
        self.bytes += bytes;
        let time = now.duration_since(self.since);
        if time >= WINDOW || self.mean.is_none() && self.bytes >= FIRST_WINDOW {
            let rate = per_second(self.bytes, time);
            self.mean = Some(self.mean.map_or(rate, |mean| mean.midpoint(rate)));
            self.begin(now);
        }
    }

    /// Returns the bytes per second; `None` before the first measurement.
    ///
    /// The rate of a stream that receives nothing falls with the time.
    pub fn at(&self, now: Instant) -> Option<u64> {
        let time = now.duration_since(self.since);
        if time < STALLED {
            return self.mean;
        }
        let rate = per_second(self.bytes, time);
        Some(self.mean.map_or(rate, |mean| mean.min(rate)))
    }
}

/// Returns the rate of `bytes` in `time`.
pub fn per_second(bytes: u64, time: Duration) -> u64 {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
    bytes.saturating_mul(1_000_000) / micros
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_follow_the_line_and_fall_when_it_stalls() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut rate = StreamRate::new(start);
        rate.moved(1000, at(50));
        assert_eq!(rate.at(at(60)), None);
        rate.moved(1000, at(100));
        assert_eq!(rate.at(at(150)), Some(20_000));
        rate.moved(4000, at(200));
        assert_eq!(rate.at(at(200)), Some(30_000));
        assert_eq!(rate.at(at(2200)), Some(0));
        rate.begin(at(3000));
        assert_eq!(rate.at(at(3100)), Some(30_000));
        let mut fast = StreamRate::new(start);
        fast.moved(FIRST_WINDOW, at(4));
        assert_eq!(fast.at(at(4)), Some(FIRST_WINDOW * 250));
    }
}
