//! The status report of a master. No input or output.

use std::net::SocketAddr;

use relais_proto::{Lsn, SlaveReport, SlaveState, metric};

/// The status report of a master.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The latest change.
    pub lsn: Lsn,
    /// All known slaves, in round-robin order.
    pub slaves: Vec<SlaveReport>,
    /// The reason why no changes are taken; empty if they are.
    pub halted: String,
    /// Contents that no slave is known to hold.
    pub lost: u64,
    /// The number of removal records.
    pub removals: u64,
    /// The cap on removal records.
    pub removals_cap: u64,
}

impl Report {
    /// Whether any slave is in service.
    #[must_use]
    pub fn has_service(&self) -> bool {
        self.slaves.iter().any(|slave| slave.state == SlaveState::InService)
    }

    /// Whether changes are taken, and each known slave is in service, or was taken out of service
    /// by an operator.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let missing = [SlaveState::Down, SlaveState::CatchingUp];
        self.halted.is_empty() && self.slaves.iter().all(|slave| !missing.contains(&slave.state))
    }
}

/// The kinds of names that a slave does not serve: the metric, the JSON field, and the remark.
pub(super) const SKIPPED: [(&str, &str, &str); 5] = [
    (metric::SKIPPED_LINKS, "links", "links"),
    (metric::SKIPPED_SPECIAL, "special", "devices, pipes and sockets"),
    (metric::SKIPPED_MOUNTS, "mounts", "mount points"),
    (metric::SKIPPED_NAMES, "names", "names that cannot be served"),
    (metric::SKIPPED_UNREADABLE, "unreadable", "unreadable"),
];

/// The address to show: the first known one.
pub(super) fn shown_addr(slave: &SlaveReport) -> Option<SocketAddr> {
    slave.addrs.first().copied()
}

/// The number of changes that the slave lacks.
///
/// None if it is in another epoch, or has not registered since the master's start.
pub(crate) fn lag(slave: &SlaveReport, latest: Lsn) -> Option<u64> {
    let none_yet = slave.lsn == Lsn::default();
    let is_known = slave.silence_ms().is_some();
    (is_known && (none_yet || slave.lsn.epoch == latest.epoch))
        .then(|| latest.number.saturating_sub(slave.lsn.number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_that_takes_no_changes_is_incomplete() {
        let taking = Report::default();
        assert!(taking.is_complete());
        assert!(
            !Report { halted: "the journal cannot be written".to_owned(), ..taking }.is_complete()
        );
    }
}
