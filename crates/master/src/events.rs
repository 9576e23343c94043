//! The latest events of the cluster: each is a line of the log that is also kept for the web page.
//!
//! All threads record events. The lock is held for a push alone.

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use log::Level;
use parking_lot::Mutex;

/// Most events that are kept.
pub(crate) const EVENTS: usize = 200;
/// Most characters of a kept text.
const TEXT_MAX: usize = 400;

/// An event that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its number: the time in microseconds since 1970, but always above that of the event before.
    ///
    /// So numbers also rise over a restart of the master.
    pub number: u64,
    /// Seconds since 1970.
    pub seconds: i64,
    pub level: Level,
    pub text: String,
}

/// The events that are kept, oldest first.
#[derive(Debug, Default)]
pub(crate) struct EventLog(Mutex<VecDeque<Event>>);

impl EventLog {
    /// Logs a text and keeps it as an event.
    pub fn record(&self, level: Level, text: String) {
        log::log!(level, "{text}");
        self.keep(level, &text);
    }

    /// Keeps a text that is in the log already.
    pub fn keep(&self, level: Level, text: &str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut events = self.0.lock();
        let after = events.back().map_or(0, |last| last.number.saturating_add(1));
        let number = u64::try_from(now.as_micros()).unwrap_or(u64::MAX).max(after);
        if events.len() >= EVENTS {
            events.pop_front();
        }
        let text = text.chars().take(TEXT_MAX).collect();
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        events.push_back(Event { number, seconds, level, text });
    }

    /// Returns the events after the one with this number, oldest first.
    pub fn after(&self, number: u64) -> Vec<Event> {
        let events = self.0.lock();
        let begin = events.partition_point(|event| event.number <= number);
        events.iter().skip(begin).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_events_are_kept_in_order() {
        let log = EventLog::default();
        (0..EVENTS + 10).for_each(|n| log.record(Level::Debug, n.to_string()));
        let all = log.after(0);
        assert_eq!((all.len(), all[0].text.as_str()), (EVENTS, "10"));
        assert!(all.is_sorted_by(|one, next| one.number < next.number));
        let last = &all[EVENTS - 3..];
        assert_eq!(log.after(all[EVENTS - 4].number), last);
        assert!(log.after(last[2].number).is_empty());
    }

    #[test]
    fn a_kept_text_is_bounded() {
        let log = EventLog::default();
        log.record(Level::Debug, "ü".repeat(TEXT_MAX + 1));
        assert_eq!(log.after(0)[0].text, "ü".repeat(TEXT_MAX));
    }
}
