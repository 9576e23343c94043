//! Rate limit for log lines that peers can trigger: one line per second, or longer, and kind.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time between two lines of one kind, unless another is given.
const PAUSE: Duration = Duration::from_secs(1);

/// Rate limiter for one kind of log line in one process.
#[derive(Debug)]
pub struct LogRateLimiter {
    pause: Duration,
    window: Mutex<Window>,
}

impl Default for LogRateLimiter {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Debug, Default)]
struct Window {
    last_line: Option<Instant>,
    suppressed: u64,
}

/// Number of suppressed lines since the last written one.
///
/// It is displayed after a line, and displays as nothing if it is 0.
#[derive(Debug, PartialEq, Eq)]
pub struct SuppressedLines(u64);

impl LogRateLimiter {
    /// Makes a limiter that allows its first line.
    #[must_use]
    pub const fn new() -> Self {
        Self::with_pause(PAUSE)
    }

    /// Makes a limiter that allows one line per `pause`.
    #[must_use]
    pub const fn with_pause(pause: Duration) -> Self {
        Self { pause, window: Mutex::new(Window { last_line: None, suppressed: 0 }) }
    }

    /// Returns the suffix of the line if it may be written now; counts the line otherwise.
    pub fn allow(&self, now: Instant) -> Option<SuppressedLines> {
        let mut state = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if state
            .last_line
            .is_some_and(|last_line| now.saturating_duration_since(last_line) < self.pause)
        {
            state.suppressed += 1;
            return None;
        }
        state.last_line = Some(now);
        Some(SuppressedLines(std::mem::take(&mut state.suppressed)))
    }
}

impl fmt::Display for SuppressedLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            n => write!(f, "; {n} more of the kind before"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_line_a_second_and_a_count() {
        let (limiter, began) = (LogRateLimiter::new(), Instant::now());
        let at = |ms| limiter.allow(began + Duration::from_millis(ms)).map(|kept| kept.to_string());
        assert_eq!(at(0).as_deref(), Some(""));
        assert!((1..1000).all(|ms| at(ms).is_none()));
        assert_eq!(at(1000).as_deref(), Some("; 999 more of the kind before"));
        assert_eq!(at(5000).as_deref(), Some(""));
    }
}
