//! The texts about a slave that a status report has, for terminals and for web pages.

use relais_proto::{Confinement, Lsn, SlaveReport, metric, pluralize, sanitize};

use super::report::{Report, SKIPPED, lag, shown_addr};

/// The columns of a slave, in the order of [`SlaveRow::cells`].
pub(crate) const HEADINGS: [&str; 10] = [
    "SLAVE", "ADDRESS", "STATE", "NUMBER", "LAG", "SESSIONS", "WORKERS", "FILES", "BYTES", "HEARD",
];
/// Shown digits of an id, enough to distinguish slaves.
const ID_DIGITS: usize = 12;
/// The line of a cluster that serves no client.
pub(crate) const NO_SERVICE: &str = "no slave is in service";

/// Returns the lines about the whole cluster.
pub(crate) fn headlines(report: &Report) -> Vec<String> {
    let mut lines = vec![format!("latest change: {}", report.lsn)];
    if !report.halted.is_empty() {
        lines.push(format!("NO CHANGES ARE TAKEN: {}", sanitize(&report.halted)));
    }
    if report.lost > 0 {
        lines.push(format!("lost: {} contents that no slave is known to hold", report.lost));
    }
    lines.push(format!("removal records: {} of at most {}", report.removals, report.removals_cap));
    lines
}

/// The cells of a slave, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SlaveRow {
    pub id: String,
    pub addr: String,
    pub state: String,
    pub number: String,
    pub lag: String,
    pub sessions: String,
    pub workers: String,
    pub files: String,
    pub bytes: String,
    pub heard: String,
}

impl SlaveRow {
    /// Makes the cells of a slave; `latest` is the latest change of the cluster.
    pub fn new(slave: &SlaveReport, latest: Lsn) -> Self {
        let n = |name| slave.metrics.get(name);
        // The state of a slave is not known before it registers with this master.
        let known = |text: String| slave.silence_ms().map_or_else(unknown, |_| text);
        let mut id = slave.id.to_string();
        id.truncate(ID_DIGITS);
        Self {
            id,
            addr: shown_addr(slave).map_or_else(unknown, |addr| addr.to_string()),
            state: slave.state.text().to_owned(),
            number: known(slave.lsn.number.to_string()),
            lag: lag(slave, latest).map_or_else(unknown, |lag| lag.to_string()),
            sessions: match n(metric::WAITING) {
                0 => n(metric::SESSIONS).to_string(),
                waiting => format!("{}+{waiting}", n(metric::SESSIONS)),
            },
            workers: n(metric::WORKERS).to_string(),
            files: known(n(metric::FILES).to_string()),
            bytes: known(n(metric::BYTES).to_string()),
            heard: known(format!("{}.{} s", slave.silent_ms / 1000, slave.silent_ms % 1000 / 100)),
        }
    }

    /// Returns the cells in the order of [`HEADINGS`].
    pub fn cells(&self) -> [&str; HEADINGS.len()] {
        [
            &self.id,
            &self.addr,
            &self.state,
            &self.number,
            &self.lag,
            &self.sessions,
            &self.workers,
            &self.files,
            &self.bytes,
            &self.heard,
        ]
    }
}

/// The text of a value that is not known.
pub(crate) fn unknown() -> String {
    "-".to_owned()
}

/// The remarks on a slave, which are below its row.
pub(crate) fn remarks(slave: &SlaveReport) -> Vec<String> {
    let n = |name| slave.metrics.get(name);
    let skipped: Vec<String> = SKIPPED
        .iter()
        .filter(|(name, ..)| n(name) > 0)
        .map(|(name, _, what)| format!("{} {what}", n(name)))
        .collect();
    let plain = |name, what: &str| (n(name), format!("{what}: {}", n(name)));
    let (missing, unapplied) = (n(metric::MISSING), n(metric::UNAPPLIED));
    let (uploads, upload_bytes) = (n(metric::UPLOADS), n(metric::UPLOAD_BYTES));
    let counted = [
        (
            missing,
            format!(
                "content that is not there yet: {}, {} bytes",
                pluralize(missing, "file"),
                n(metric::MISSING_BYTES)
            ),
        ),
        plain(metric::DAMAGED, "damaged files that are not repaired yet"),
        (
            unapplied,
            format!(
                "not applied here, because the disk refuses it: {}; `ftpmaster diff` names them",
                pluralize(unapplied, "path")
            ),
        ),
        plain(metric::QUARANTINED, "quarantined in .relais/conflicts"),
        (uploads, format!("unfinished uploads: {uploads}, {upload_bytes} bytes")),
        plain(metric::HELD, "local removals held back, because they are many"),
        (slave.metrics.skipped(), format!("skipped: {}", skipped.join(", "))),
        plain(metric::UNHASHED, "digests still to be computed"),
        plain(metric::RESCANS, "rescans after lost events"),
    ];
    let counted = counted.into_iter().filter(|(count, _)| *count > 0);
    let mut remarks: Vec<String> = counted.map(|(_, text)| text).collect();
    remarks.extend(slave.metrics.unknown().map(|(name, value)| format!("{name}: {value}")));
    if n(metric::WORKERS) > 0 {
        let confinement = slave.metrics.confinement();
        let names = confinement.names().join(", ");
        let names = if names.is_empty() { "nothing" } else { &names };
        remarks.push(format!("workers are confined by: {names}"));
        if !confinement.has(Confinement::FOLDER) {
            remarks.push(
                "WARNING: workers are not confined to the folder \
                 (Landlock is not in force on that host)"
                    .to_owned(),
            );
        }
    }
    if !slave.last_error.is_empty() {
        remarks.push(format!("last error: {}", sanitize(&slave.last_error)));
    }
    remarks
}
