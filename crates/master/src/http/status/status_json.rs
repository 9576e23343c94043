//! The status page as JSON: the fields of `ftpmaster status --json`, and what the page has beside.

use relais_proto::SlaveReport;
use serde::Serialize;

use super::cluster_view::ClusterView;
use super::event_item::EventItem;
use crate::events::Event;
use crate::status::{SlaveJson, StatusJson};

#[derive(Serialize)]
struct PageJson<'a> {
    #[serde(flatten)]
    status: StatusJson<PageSlaveJson<'a>>,
    master: MasterJson,
    /// Newest last.
    events: Vec<EventItem>,
}

#[derive(Serialize)]
struct PageSlaveJson<'a> {
    #[serde(flatten)]
    slave: SlaveJson<'a>,
    /// Age of the oldest change that it lacks; null as for `lag`.
    lag_seconds: Option<u64>,
    /// Program and version; null without a link.
    version: Option<&'a str>,
    sent_bytes_per_second: u64,
    received_bytes_per_second: u64,
}

#[derive(Serialize)]
struct MasterJson {
    version: &'static str,
    uptime_seconds: u64,
    /// Seconds since 1970; null if unknown.
    certificate_expiry: Option<u64>,
}

/// Formats a view as one line of JSON.
///
/// # Errors
/// Errors of the serializer.
pub(super) fn status_json(
    cluster: &ClusterView,
    events: &[Event],
) -> Result<String, serde_json::Error> {
    let extended = |report: &SlaveReport, slave| {
        let view = cluster.slaves.iter().find(|view| view.report.id == report.id);
        PageSlaveJson {
            slave,
            lag_seconds: view.and_then(|view| view.lag_seconds),
            version: view.and_then(|view| view.agent.as_deref()),
            sent_bytes_per_second: view.map_or(0, |view| view.rates.sent),
            received_bytes_per_second: view.map_or(0, |view| view.rates.received),
        }
    };
    let page = PageJson {
        status: StatusJson::new(&cluster.report, extended),
        master: MasterJson {
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: cluster.uptime_seconds,
            certificate_expiry: cluster.certificate_expiry,
        },
        events: events.iter().map(EventItem::new).collect(),
    };
    Ok(serde_json::to_string(&page)? + "\n")
}
