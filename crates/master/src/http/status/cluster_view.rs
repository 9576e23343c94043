//! What the status page shows, as of one moment.

use relais_cluster::{ConnectionAddrs, MasterState};
use relais_proto::{DiskSpace, Lsn, SlaveReport};

use crate::http::site::HttpSite;
use crate::status::{Report, SlaveRow, lag};

/// A slave with all that is known about it.
#[derive(Debug, Clone)]
pub(super) struct SlaveView {
    pub report: SlaveReport,
    /// Its cells in `ftpmaster status`.
    pub row: SlaveRow,
    /// Age of the oldest change that it lacks, in seconds; none as for [`lag`].
    pub lag_seconds: Option<u64>,
    /// Space in its file system; none without a link.
    pub disk: Option<DiskSpace>,
    /// Its program and version; none without a link.
    pub agent: Option<String>,
}

/// The cluster with all its slaves.
#[derive(Debug, Clone)]
pub(super) struct ClusterView {
    /// The report of `ftpmaster status`.
    pub report: Report,
    pub slaves: Vec<SlaveView>,
    /// Seconds since the start of the master.
    pub uptime_seconds: u64,
}

impl ClusterView {
    /// Takes the present state, with addresses for a client at this viewpoint.
    pub fn new(site: &HttpSite, asker: ConnectionAddrs) -> Self {
        let core = &site.core;
        let report = core.report(asker);
        let linked = core.slaves.all();
        let view = |slave: &SlaveReport| {
            let link = linked.iter().rev().find(|linked| linked.slave == slave.id);
            SlaveView {
                report: slave.clone(),
                row: SlaveRow::new(slave, report.lsn),
                lag_seconds: None,
                disk: link.and_then(|link| Some(link.heartbeat.as_ref()?.disk)),
                agent: link.map(|link| link.agent.clone()),
            }
        };
        let mut slaves: Vec<SlaveView> = report.slaves.iter().map(view).collect();
        let (order, now_ms) = (site.view.get(), core.time_ms());
        for slave in &mut slaves {
            slave.lag_seconds = lag_seconds(order.state(), &slave.report, report.lsn, now_ms);
        }
        drop(order);
        Self { report, slaves, uptime_seconds: core.uptime().as_secs() }
    }
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
