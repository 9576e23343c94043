//! Freshness: a session never sees less than it has seen, on any slave.
//!
//! A slave's catalogue writer shares two numbers with the sessions. `visible` is raised before the
//! rows of a batch are committed: a reader may see changes up to it. `applied` is raised after the
//! commit: each reader sees all changes up to it. A session reads once [`may_read`] is true for
//! the change that it has seen, and its answer then carries [`lsn_of_answer`], which it has seen
//! from then on.

use relais_proto::Lsn;

/// Returns whether a slave that has applied changes up to `applied` may serve a session that has
/// seen `seen`.
#[must_use]
pub fn may_read(seen: Lsn, applied: Lsn) -> bool {
    // The first change of a cluster is 1-1: there is nothing to wait for before it.
    seen <= applied || seen == (Lsn { epoch: 1, number: 0 })
}

/// Returns the latest change that may be part of what a session has read before the call.
#[must_use]
pub fn lsn_of_answer(visible: Lsn, applied: Lsn) -> Lsn {
    visible.max(applied)
}
