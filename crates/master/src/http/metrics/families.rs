//! The metrics of a master with their names, as of one moment.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use relais_cluster::ConnectionAddrs;
use relais_proto::{SESSIONS_BY_PROTOCOL, SlaveReport, SlaveState, metric};

use crate::http::site::HttpSite;
use crate::http::status::lag_seconds;
use crate::status::lag;

/// Names and values of labels.
type Labels = Vec<(&'static str, String)>;

/// A metric for each slave, from its last heartbeat.
const OF_SLAVES: [(&str, &str, &str); 13] = [
    ("relais_slave_waiting_sessions", "Sessions that wait for a slot", metric::WAITING),
    ("relais_slave_workers", "Worker processes of a slave that are alive", metric::WORKERS),
    ("relais_slave_files", "Files in the catalogue of a slave", metric::FILES),
    ("relais_slave_folders", "Folders in the catalogue of a slave", metric::FOLDERS),
    ("relais_slave_content_bytes", "Bytes of all files of a slave", metric::BYTES),
    ("relais_missing_files", "Files whose content a slave lacks", metric::MISSING),
    ("relais_slave_lag_bytes", "Bytes of the contents that a slave lacks", metric::MISSING_BYTES),
    ("relais_unapplied_changes", "Paths where the disk refused a change", metric::UNAPPLIED),
    ("relais_damaged_files", "Damaged files that are not repaired yet", metric::DAMAGED),
    ("relais_unfinished_uploads", "Unfinished uploads of a slave", metric::UPLOADS),
    ("relais_active_transfers", "Downloads and uploads that are under way", metric::TRANSFERS),
    ("relais_slave_disk_free_bytes", "Free space for files of a slave", metric::DISK_FREE),
    ("relais_slave_disk_size_bytes", "Size of the file system of a slave", metric::DISK_SIZE),
];
/// A counter for each slave, from its last heartbeat.
const COUNTED_BY_SLAVES: [(&str, &str, &str); 5] = [
    ("relais_slave_sent_bytes", "Bytes of contents that a slave has sent", metric::SENT_BYTES),
    ("relais_slave_received_bytes", "Bytes that a slave has received", metric::RECEIVED_BYTES),
    ("relais_resumes", "Transfers that continued an earlier one", metric::RESUMES),
    ("relais_failovers", "Transfers that continued that of a failed server", metric::FAILOVERS),
    ("relais_scrub_bad", "Files whose content was found damaged", metric::SCRUB_BAD),
];

/// The registry that is being filled.
pub(super) struct Families(Registry);

impl Families {
    /// Takes all metrics.
    pub fn of(site: &HttpSite) -> Self {
        let mut families = Self(Registry::default());
        families.add_master(site);
        families.add_slaves(site);
        families
    }

    pub fn into_registry(self) -> Registry {
        self.0
    }

    fn add_master(&mut self, site: &HttpSite) {
        let order = site.core.order_status.get();
        let version = ("version", env!("CARGO_PKG_VERSION").to_owned());
        let build = vec![version, ("role", "master".to_owned())];
        self.gauges("relais_build_info", "Version of the program", [(build, 1)]);
        let leads = i64::from(order.halted.is_none());
        self.gauge("relais_leader", "Whether the master takes changes", leads);
        self.gauge("relais_epoch", "Epoch of the last change", order.lsn.epoch.into());
        let changes: Counter = Counter::default();
        changes.inc_by(order.lsn.number);
        self.0.register("relais_changes", "Changes that were numbered in this epoch", changes);
        let lost = "Contents that no slave is known to hold";
        self.gauge("relais_lost_contents", lost, signed(order.lost));
        let (removals, most) = order.removals;
        self.gauge("relais_removal_records", "Records of removed contents", signed(removals));
        self.gauge("relais_removal_records_limit", "Highest number of them", signed(most));
        let requests: Family<Labels, Counter> = Family::default();
        for (code, count) in site.answered() {
            requests.get_or_create(&vec![("code", code.to_string())]).inc_by(count);
        }
        self.0.register("relais_http_requests", "Requests by HTTP, by status", requests);
    }

    fn add_slaves(&mut self, site: &HttpSite) {
        let here = std::net::IpAddr::from(std::net::Ipv4Addr::LOCALHOST);
        let reports = site.core.reports(ConnectionAddrs::new(here, here));
        let latest = site.core.order_status.lsn();
        let of = |value: &dyn Fn(&SlaveReport) -> Option<i64>| -> Vec<(Labels, i64)> {
            let values = reports.iter().map(|report| (labels(report), value(report)));
            values.filter_map(|(labels, value)| Some((labels, value?))).collect()
        };
        let is_up = |report: &SlaveReport| report.state == SlaveState::InService;
        let up = of(&|report| Some(i64::from(is_up(report))));
        self.gauges("relais_slave_up", "Whether a slave is in service", up);
        let all =
            [SlaveState::InService, SlaveState::CatchingUp, SlaveState::Draining, SlaveState::Down];
        let states = reports.iter().flat_map(|report| {
            all.map(|state| {
                let mut labels = labels(report);
                labels.push(("state", state.text().to_owned()));
                (labels, i64::from(report.state == state))
            })
        });
        self.gauges("relais_slave_state", "1 for the state of a slave", states);
        let behind = of(&|report| lag(report, latest).map(signed));
        self.gauges("relais_slave_lag_changes", "Changes that a slave lacks", behind);
        let (view, now_ms) = (site.view.get(), site.core.time_ms());
        let since = of(&|report| lag_seconds(view.state(), report, latest, now_ms).map(signed));
        drop(view);
        let help = "Age of the oldest change that a slave lacks";
        self.gauges("relais_slave_lag_seconds", help, since);
        let silence = of(&|report| report.silence_ms().map(|ms| signed(ms / 1000)));
        let help = "Time since the last heartbeat of a slave";
        self.gauges("relais_slave_silence_seconds", help, silence);
        for (name, help, metric) in OF_SLAVES {
            self.gauges(name, help, of(&|report| Some(signed(report.metrics.get(metric)))));
        }
        for (name, help, metric) in COUNTED_BY_SLAVES {
            let family: Family<Labels, Counter> = Family::default();
            for report in &reports {
                family.get_or_create(&labels(report)).inc_by(report.metrics.get(metric));
            }
            self.0.register(name, help, family);
        }
        let sessions = reports.iter().flat_map(|report| {
            SESSIONS_BY_PROTOCOL.map(|(protocol, metric)| {
                let mut labels = labels(report);
                labels.push(("protocol", protocol.to_owned()));
                (labels, signed(report.metrics.get(metric)))
            })
        });
        self.gauges("relais_sessions", "Open sessions of a slave by protocol", sessions);
        let expiry = of(&|report| {
            let expiry = report.metrics.get(metric::CERTIFICATE_EXPIRY);
            (expiry > 0).then(|| signed(expiry))
        });
        let help = "End of the validity of a slave's certificate since 1970";
        self.gauges(metric::CERTIFICATE_EXPIRY, help, expiry);
    }

    fn gauge(&mut self, name: &str, help: &str, value: i64) {
        let gauge: Gauge = Gauge::default();
        gauge.set(value);
        self.0.register(name, help, gauge);
    }

    fn gauges(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, i64)>) {
        let family: Family<Labels, Gauge> = Family::default();
        for (labels, value) in values {
            family.get_or_create(&labels).set(value);
        }
        self.0.register(name, help, family);
    }
}

fn labels(report: &SlaveReport) -> Labels {
    vec![("slave", report.id.to_string())]
}

/// Values above the highest one of a gauge become that one.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
