//! Whether a slave may have sessions: the rule, as a function of what speaks for and against it.

use std::time::Duration;

/// Content that came to be lacking more recently does not count against a slave.
pub const YOUNG: Duration = Duration::from_secs(10);
/// A slave that has not applied a change this long after it heard of it is behind.
pub const BEHIND: Duration = Duration::from_secs(2);

/// What speaks for and against sessions on a slave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceReadiness {
    /// Whether it is linked and is told changes.
    pub following: bool,
    /// How long ago it heard of the oldest change that it has not applied.
    pub behind: Duration,
    /// Whether it held, since it joined, all content that existed then.
    pub whole: bool,
    /// Bytes that it lacks for longer than [`YOUNG`].
    pub old_lacks: u64,
    /// Bytes of all content in the tree.
    pub bytes: u64,
}

/// Whether a slave may have sessions. That it answers heartbeats, and is not being drained, is for its master to see.
#[must_use]
pub fn in_service(readiness: &ServiceReadiness) -> bool {
    readiness.following
        && readiness.whole
        && readiness.behind < BEHIND
        && readiness.old_lacks <= readiness.bytes / 100
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
            old_lacks: 10,
            bytes: 1000,
        };
        assert!(in_service(&fit));
        for unfit in [
            ServiceReadiness { following: false, ..fit },
            ServiceReadiness { behind: BEHIND, ..fit },
            ServiceReadiness { whole: false, ..fit },
            ServiceReadiness { old_lacks: 11, ..fit },
        ] {
            assert!(!in_service(&unfit), "{unfit:?}");
        }
        assert!(in_service(&ServiceReadiness { old_lacks: 0, bytes: 0, ..fit }), "an empty tree");
    }
}
