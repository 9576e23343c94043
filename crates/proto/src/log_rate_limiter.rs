//! What strangers can have logged as often as they like is told once a second.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time between two lines of one kind.
const PAUSE: Duration = Duration::from_secs(1);

/// One kind of line in the log of one process, which cannot be filled with it.
#[derive(Debug, Default)]
pub struct LogRateLimiter(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    last_line: Option<Instant>,
    suppressed: u64,
}

/// How many lines of the same kind were not written since the last one; shown behind a line, and as nothing where there were none.
#[derive(Debug, PartialEq, Eq)]
pub struct SuppressedLines(u64);

impl LogRateLimiter {
    /// Nothing was told.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(Window { last_line: None, suppressed: 0 }))
    }

    /// Whether a line is to be written now, and what is to stand behind it; otherwise it is counted.
    pub fn allow(&self, now: Instant) -> Option<SuppressedLines> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last_line.is_some_and(|last_line| now.saturating_duration_since(last_line) < PAUSE)
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
