//! `/-/metrics`: the metrics of a slave, for Prometheus.
//!
//! Clients on this host may read them. Others need the token of `--metrics-token-file`, or an
//! account with the rights `admin`.

use log::warn;
use parking_lot::Mutex;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet, prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use relais_auth::{MetricsToken, Rights};
use relais_http::{RequestHead, Status, accept};
use relais_proto::{SESSIONS_BY_PROTOCOL, metric};
use relais_storage::{CatalogReader, CatalogStore};

use super::answer::Answer;
use super::request::CheckedRequest;
use crate::host::WorkerHost;
use crate::transfer_counters::{SECONDS, SIZES, TransferTotals};

/// The media type of OpenMetrics 1.0.
const OPEN_METRICS: &str = "application/openmetrics-text";
const OPEN_METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Fields that a proxy adds. A proxy on this host must not open the metrics to its clients.
const PROXY_FIELDS: [&str; 3] = ["forwarded", "x-forwarded-for", "via"];

/// Names and values of labels.
type Labels = Vec<(&'static str, String)>;

/// The gauges of the catalogue, the pool and the disk.
const GAUGES: [(&str, &str, &str); 15] = [
    ("relais_files", "Files in the catalogue", metric::FILES),
    ("relais_folders", "Folders in the catalogue", metric::FOLDERS),
    ("relais_content_bytes", "Bytes of all files", metric::BYTES),
    ("relais_unhashed_files", "Files without a known digest", metric::UNHASHED),
    ("relais_missing_files", "Files without their content", metric::MISSING),
    ("relais_slave_lag_bytes", "Bytes of the missing contents", metric::MISSING_BYTES),
    ("relais_unapplied_changes", "Paths where the disk refused a change", metric::UNAPPLIED),
    ("relais_damaged_files", "Damaged files that are not repaired yet", metric::DAMAGED),
    ("relais_unfinished_uploads", "Unfinished uploads", metric::UPLOADS),
    ("relais_unfinished_upload_bytes", "Bytes of unfinished uploads", metric::UPLOAD_BYTES),
    ("relais_waiting_sessions", "Sessions that wait for a slot", metric::WAITING),
    ("relais_workers", "Worker processes that are alive", metric::WORKERS),
    ("relais_active_transfers", "Downloads and uploads that are under way", metric::TRANSFERS),
    ("relais_disk_free_bytes", "Free space for files", metric::DISK_FREE),
    ("relais_disk_size_bytes", "Size of the file system of the folder", metric::DISK_SIZE),
];
/// The counters beside those of transfers.
const COUNTERS: [(&str, &str, &str); 5] = [
    ("relais_resumes", "Transfers that continued an earlier one", metric::RESUMES),
    ("relais_failovers", "Transfers that continued that of a failed server", metric::FAILOVERS),
    ("relais_scrub_bad", "Files whose content was found damaged", metric::SCRUB_BAD),
    ("relais_quarantined", "Files that were quarantined", metric::QUARANTINED),
    ("relais_rescans", "Rescans of the folder", metric::RESCANS),
];

/// The metrics of a slave.
pub struct MetricsPage {
    host: WorkerHost,
    token: Option<MetricsToken>,
    reader: Mutex<CatalogReader>,
}

impl MetricsPage {
    /// Makes the page of a worker.
    #[must_use]
    pub fn new(host: WorkerHost, token: Option<MetricsToken>) -> Self {
        let reader = Mutex::new(CatalogReader::new(&host.context.own.folder));
        Self { host, token, reader }
    }

    /// Whether the client of a request may read the metrics without an account.
    #[must_use]
    pub fn is_open_to(&self, request: &CheckedRequest) -> bool {
        let has_token = || {
            let sent = self.token.as_ref().zip(request.head.headers.get("authorization"));
            sent.is_some_and(|(token, field)| token.is_in(field))
        };
        // Any client could add the fields of a proxy, but they only take access away.
        let is_proxied = PROXY_FIELDS.iter().any(|field| request.head.headers.has(field));
        let is_local = request.client.address.ip().to_canonical().is_loopback() && !is_proxied;
        is_local || has_token()
    }

    /// Answers a request of a user, who needs the rights `admin`.
    #[must_use]
    pub fn answer_user(&self, head: &RequestHead, rights: Rights) -> Answer {
        if rights.is_admin() {
            return self.answer(head);
        }
        const TEXT: &str = "from other hosts the metrics need the token of the server, or a user \
                            with the rights admin";
        Answer::error(head, Status::FORBIDDEN, TEXT)
    }

    /// Answers with the metrics, in the text format 0.0.4, or OpenMetrics by `Accept`.
    #[must_use]
    pub fn answer(&self, head: &RequestHead) -> Answer {
        match self.render(head) {
            Ok((media_type, text)) => Answer::with_body(Status::OK, media_type, text.into_bytes()),
            Err(why) => Answer::error(head, Status::INTERNAL_SERVER_ERROR, why),
        }
    }

    fn render(&self, head: &RequestHead) -> Result<(&'static str, String), &'static str> {
        let registry = self.registry()?;
        let mut text = String::new();
        let offers = ["text/plain", OPEN_METRICS];
        let is_open = accept::prefers(head.headers.get("accept"), &offers) == Some(1);
        let (media_type, encoded) = if is_open {
            (OPEN_METRICS_TYPE, text::encode(&mut text, &registry))
        } else {
            (prometheus_text::CONTENT_TYPE, prometheus_text::encode(&mut text, &registry))
        };
        encoded.map_err(|_| "the metrics cannot be encoded")?;
        Ok((media_type, text))
    }

    fn registry(&self) -> Result<Registry, &'static str> {
        let metrics = self.reader.lock().ask(CatalogStore::metrics).map_err(|e| {
            warn!("cannot read the catalogue: {e}");
            "the catalogue cannot be read"
        })?;
        let metrics = self.host.context.with_own_metrics(metrics);
        let mut registry = Registry::default();
        let build: Family<Labels, Gauge> = Family::default();
        let version = ("version", env!("CARGO_PKG_VERSION").to_owned());
        build.get_or_create(&vec![version, ("role", "slave".to_owned())]).set(1);
        registry.register("relais_build_info", "Version of the program", build);
        for (name, help, metric) in GAUGES {
            let gauge: Gauge = Gauge::default();
            gauge.set(signed(metrics.get(metric)));
            registry.register(name, help, gauge);
        }
        for (name, help, metric) in COUNTERS {
            let counter: Counter = Counter::default();
            counter.inc_by(metrics.get(metric));
            registry.register(name, help, counter);
        }
        let sessions: Family<Labels, Gauge> = Family::default();
        for (protocol, metric) in SESSIONS_BY_PROTOCOL {
            let labels = vec![("protocol", protocol.to_owned())];
            sessions.get_or_create(&labels).set(signed(metrics.get(metric)));
        }
        registry.register("relais_sessions", "Open sessions by protocol", sessions);
        if let expiry @ 1.. = metrics.get(metric::CERTIFICATE_EXPIRY) {
            let gauge: Gauge = Gauge::default();
            gauge.set(signed(expiry));
            let help = "End of the certificate's validity since 1970";
            registry.register(metric::CERTIFICATE_EXPIRY, help, gauge);
        }
        let totals: Vec<TransferTotals> = self.host.scoreboard().transfers.totals().collect();
        let bytes: Family<Labels, Counter> = Family::default();
        for total in &totals {
            bytes.get_or_create(&labels(total)).inc_by(total.bytes);
        }
        registry.register(
            "relais_transfer_bytes",
            "Bytes of contents that were transferred",
            bytes,
        );
        let times = totals.iter().map(|total| {
            let buckets = buckets(&SECONDS, &total.by_time);
            CountedHistogram { labels: labels(total), sum: total.seconds, buckets }
        });
        let times = CountedHistograms(times.collect());
        registry.register("relais_transfer_seconds", "Time of transfers", times);
        let sizes = totals.iter().map(|total| {
            #[allow(clippy::cast_precision_loss, reason = "a sum is for averages")]
            let sum = total.ended_bytes as f64;
            let buckets = buckets(&SIZES, &total.by_size);
            CountedHistogram { labels: labels(total), sum, buckets }
        });
        let sizes = CountedHistograms(sizes.collect());
        registry.register("relais_transfer_size_bytes", "Size of transfers", sizes);
        Ok(registry)
    }
}

/// Values above the highest one of a gauge become that one.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn labels(total: &TransferTotals) -> Labels {
    vec![("protocol", total.protocol.to_owned()), ("direction", total.direction.to_owned())]
}

/// Adds the upper bounds to the numbers of transfers in buckets.
fn buckets(bounds: &[f64], counts: &[u64]) -> Vec<(f64, u64)> {
    bounds.iter().copied().chain([f64::INFINITY]).zip(counts.iter().copied()).collect()
}

/// A histogram whose values were counted elsewhere.
#[derive(Debug)]
struct CountedHistogram {
    labels: Labels,
    sum: f64,
    /// Upper bound and number of values of each bucket.
    buckets: Vec<(f64, u64)>,
}

/// The histograms of one name.
#[derive(Debug)]
struct CountedHistograms(Vec<CountedHistogram>);

impl EncodeMetric for CountedHistograms {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        for CountedHistogram { labels, sum, buckets } in &self.0 {
            let count = buckets.iter().map(|(_, count)| count).sum();
            let mut encoder = encoder.encode_family(labels)?;
            encoder.encode_histogram::<NoLabelSet>(*sum, count, buckets, None)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}
