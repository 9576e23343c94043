//! What the status page shows, as of one moment.

use relais_cluster::MasterState;
use relais_proto::{Lsn, SlaveId, SlaveReport};

use super::curves::{CURVES, DrawnCurve};
use super::rates::Rates;
use crate::status::{Report, SlaveRow, lag};

/// A slave with all that is known about it.
#[derive(Debug, Clone)]
pub(super) struct SlaveView {
    pub report: SlaveReport,
    /// Its cells in `ftpmaster status`.
    pub row: SlaveRow,
    /// Age of the oldest change that it lacks, in seconds; none as for [`lag`].
    pub lag_seconds: Option<u64>,
    /// Its program and version; none without a link.
    pub agent: Option<String>,
    pub rates: Rates,
}

/// The cluster with all its slaves.
#[derive(Debug, Clone)]
pub(super) struct ClusterView {
    /// The report of `ftpmaster status`.
    pub report: Report,
    pub slaves: Vec<SlaveView>,
    /// The slave whose curves are shown; none for those of the cluster.
    pub selected: Option<SlaveId>,
    pub curves: [DrawnCurve; CURVES.len()],
    /// Seconds since the start of the master.
    pub uptime_seconds: u64,
    /// When the certificate of the master ends, in seconds since 1970; none if that is unknown.
    pub certificate_expiry: Option<u64>,
}

/// Returns the age of the oldest change that a slave lacks, in seconds; none as for [`lag`].
pub(in crate::http) fn lag_seconds(
    order: &MasterState,
    slave: &SlaveReport,
    latest: Lsn,
    now_ms: u64,
) -> Option<u64> {
    lag(slave, latest)?;
    let oldest_ms = order.time_after(slave.lsn).unwrap_or(now_ms);
    Some(now_ms.saturating_sub(oldest_ms) / 1000)
}
