//! Delays names that have just changed until they are quiet. Does no I/O: the caller passes the
//! time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use relais_proto::TreePath;

/// Time without a change after which a name is scanned.
pub const QUIET: Duration = Duration::from_secs(1);
/// Most names kept. More names cause a rescan.
const MOST_NAMES: usize = 100_000;

/// Changed names and the time of their last change.
#[derive(Debug, Default)]
pub struct Debounce {
    changed: HashMap<TreePath, Instant>,
    overflow: bool,
}

impl Debounce {
    /// Records a change of `path` and restarts its quiet time.
    pub fn restart(&mut self, path: TreePath, now: Instant) {
        if self.changed.len() < MOST_NAMES || self.changed.contains_key(&path) {
            self.changed.insert(path, now);
        } else {
            self.overflow = true;
        }
    }

    /// Schedules a scan of `path`. A path that waits already keeps its time.
    pub fn add(&mut self, path: TreePath, now: Instant) {
        if !self.changed.contains_key(&path) {
            self.restart(path, now);
        }
    }

    /// Returns whether `path` waits for its scan.
    pub fn contains(&self, path: &TreePath) -> bool {
        self.changed.contains_key(path)
    }

    /// Returns whether a name was dropped since the last call.
    pub fn take_overflow(&mut self) -> bool {
        std::mem::take(&mut self.overflow)
    }

    /// Removes and returns the names that have been quiet long enough.
    pub fn due(&mut self, now: Instant) -> Vec<TreePath> {
        let mut due: Vec<_> = self
            .changed
            .extract_if(|_, changed| now.saturating_duration_since(*changed) >= QUIET)
            .map(|(path, _)| path)
            .collect();
        due.sort_unstable();
        due
    }

    /// Returns the time when the next name is due.
    pub fn next(&self) -> Option<Instant> {
        self.changed.values().min().map(|changed| *changed + QUIET)
    }

    /// Removes all names, before a full scan.
    pub fn clear(&mut self) {
        self.changed.clear();
        self.overflow = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_due_after_a_quiet_second() {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let path = |name: &str| TreePath::new(name).unwrap();
        let mut debounce = Debounce::default();
        debounce.restart(path("a"), start);
        debounce.restart(path("b"), start + ms(500));
        debounce.restart(path("a"), start + ms(900));
        assert_eq!(debounce.next(), Some(start + ms(1500)));
        assert!(debounce.due(start + ms(1400)).is_empty());
        assert_eq!(debounce.due(start + ms(1500)), [path("b")]);
        assert_eq!(debounce.due(start + ms(1900)), [path("a")]);
        assert_eq!(debounce.next(), None);
    }

    #[test]
    fn overflow_is_reported_and_names_are_dropped() {
        let now = Instant::now();
        let mut debounce = Debounce::default();
        for n in 0..=MOST_NAMES {
            debounce.restart(TreePath::new(format!("{n}")).unwrap(), now);
        }
        assert!(debounce.take_overflow());
        assert!(!debounce.take_overflow());
        assert_eq!(debounce.due(now + QUIET).len(), MOST_NAMES);
    }
}
