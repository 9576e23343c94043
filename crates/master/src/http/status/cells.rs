//! The columns of the status page, and the texts of their cells.

use relais_proto::{FileTime, SESSIONS_BY_PROTOCOL, metric};
use relais_web::page::format;

use super::cluster_view::SlaveView;
use super::curves::rate;
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
    let (sent, received) = (rate(slave.rates.sent), rate(slave.rates.received));
    let size = n(metric::DISK_SIZE);
    let free = if size > 0 { format::size(n(metric::DISK_FREE)) } else { unknown() };
    let certificate = Some(n(metric::CERTIFICATE_EXPIRY)).filter(|expiry| *expiry > 0);
    let agent = slave.agent.clone().unwrap_or_else(unknown);
    vec![
        cell("slave", "Slave", row.id.clone(), row.addr.clone()),
        cell("state", "State", row.state.clone(), format!("heard {}", row.heard)),
        cell("number", "Number", row.number.clone(), String::new()),
        cell("lag", "Lag", row.lag.clone(), behind),
        cell("sessions", "Sessions", row.sessions.clone(), by_protocol(slave)),
        cell("transfers", "Transfers", n(metric::TRANSFERS).to_string(), String::new()),
        cell("rates", "Rates", format!("out {sent}"), format!("in {received}")),
        cell("files", "Files", row.files.clone(), format!("{} bytes", row.bytes)),
        cell("free", "Free disk", free, format!("of {}", format::size(size))),
        cell("version", "Version", agent, format!("workers {}", row.workers)),
        cell("certificate", "Certificate", until(certificate), String::new()),
    ]
}

/// Returns the open sessions by protocol, such as `native 2, http 1`.
fn by_protocol(slave: &SlaveView) -> String {
    let counts =
        SESSIONS_BY_PROTOCOL.map(|(name, metric)| (name, slave.report.metrics.get(metric)));
    let counts = counts.into_iter().filter(|(_, count)| *count > 0);
    counts.map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}

/// Returns a time in seconds since 1970, as text.
pub(super) fn until(seconds: Option<u64>) -> String {
    let seconds = seconds.and_then(|seconds| i64::try_from(seconds).ok());
    let time = seconds.and_then(|seconds| format::time(FileTime { seconds, nanos: 0 }));
    time.unwrap_or_else(unknown)
}
