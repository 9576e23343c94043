//! The columns of the status page, and the texts of their cells.

use relais_proto::metric;
use relais_web::page::format;

use super::cluster_view::SlaveView;
use crate::status::unknown;

/// A cell of a slave's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cell {
    /// Its name in live updates.
    pub name: &'static str,
    /// The heading of its column.
    pub heading: &'static str,
    pub text: String,
    /// A second line; may be empty.
    pub note: String,
}

/// Returns the cells of a slave.
pub(super) fn cells(slave: &SlaveView) -> Vec<Cell> {
    let row = &slave.row;
    let n = |name| slave.report.metrics.get(name);
    let cell = |name, heading, text: String, note: String| Cell { name, heading, text, note };
    let seconds = slave.lag_seconds.map_or_else(unknown, |seconds| format!("{seconds} s"));
    let behind = format!("{}, {seconds}", format::size(n(metric::MISSING_BYTES)));
    let (free, size) = slave.disk.map_or_else(
        || (unknown(), String::new()),
        |disk| (format::size(disk.free), format!("of {}", format::size(disk.size))),
    );
    vec![
        cell("slave", "Slave", row.id.clone(), row.addr.clone()),
        cell("state", "State", row.state.clone(), format!("heard {}", row.heard)),
        cell("number", "Number", row.number.clone(), String::new()),
        cell("lag", "Lag", row.lag.clone(), behind),
        cell("sessions", "Sessions", row.sessions.clone(), format!("{} workers", row.workers)),
        cell("files", "Files", row.files.clone(), format!("{} bytes", row.bytes)),
        cell("free", "Free disk", free, size),
        cell("version", "Version", slave.agent.clone().unwrap_or_else(unknown), String::new()),
    ]
}
