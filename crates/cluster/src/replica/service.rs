//! Rule for the service state of a slave.

use std::time::Duration;

/// Content that is missing for a shorter time does not count against a slave.
pub const YOUNG: Duration = Duration::from_secs(10);
/// A slave is behind if it has not applied a known change within this time.
pub const BEHIND: Duration = Duration::from_secs(2);

/// Facts that decide whether a slave is in service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceReadiness {
    /// Whether the slave is linked and receives changes.
    pub following: bool,
    /// Time since the notice of the oldest unapplied change.
    pub behind: Duration,
    /// Whether the slave has held all content that existed at its join.
    pub whole: bool,
    /// Bytes that are missing for longer than [`YOUNG`].
    pub old_missing_bytes: u64,
    /// Bytes of all content in the tree.
    pub bytes: u64,
}

/// Returns whether a slave may get sessions.
///
/// Heartbeats and draining are checked by the master.
#[must_use]
pub fn in_service(readiness: &ServiceReadiness) -> bool {
    readiness.following
        && readiness.whole
        && readiness.behind < BEHIND
        && readiness.old_missing_bytes <= readiness.bytes / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_condition_counts() {
        let fit = ServiceReadiness {
            following: true,
            behind: Duration::ZERO,
            whole: true,
            old_missing_bytes: 10,
            bytes: 1000,
        };
        assert!(in_service(&fit));
        for unfit in [
            ServiceReadiness { following: false, ..fit },
            ServiceReadiness { behind: BEHIND, ..fit },
            ServiceReadiness { whole: false, ..fit },
            ServiceReadiness { old_missing_bytes: 11, ..fit },
        ] {
            assert!(!in_service(&unfit), "{unfit:?}");
        }
        assert!(
            in_service(&ServiceReadiness { old_missing_bytes: 0, bytes: 0, ..fit }),
            "an empty tree"
        );
    }
}
