//! The report as a table for terminals.

use std::fmt::Write;

use relais_proto::{Confinement, Lsn, SlaveReport, metric, pluralize, sanitize};

use super::report::{Report, SKIPPED, lag, shown_addr};

const HEADINGS: [&str; 10] = [
    "SLAVE", "ADDRESS", "STATE", "NUMBER", "LAG", "SESSIONS", "WORKERS", "FILES", "BYTES", "HEARD",
];
/// The first column of numbers, which are aligned to the right. Earlier columns hold text.
const NUMBERS_FROM: usize = 3;
/// Shown digits of an id, enough to distinguish slaves.
const ID_DIGITS: usize = 12;

/// Formats the report as lines of text.
#[must_use]
pub fn table(report: &Report) -> String {
    let mut out = format!("latest change: {}\n", report.lsn);
    // Writing to a String does not fail.
    if !report.halted.is_empty() {
        let _ = writeln!(out, "NO CHANGES ARE TAKEN: {}", sanitize(&report.halted));
    }
    if report.lost > 0 {
        let _ = writeln!(out, "lost: {} contents that no slave is known to hold", report.lost);
    }
    let _ =
        writeln!(out, "removal records: {} of at most {}", report.removals, report.removals_cap);
    if !report.slaves.is_empty() {
        let rows: Vec<_> = report.slaves.iter().map(|slave| row(slave, report.lsn)).collect();
        let widths: Vec<usize> = (0..HEADINGS.len())
            .map(|column| {
                rows.iter()
                    .map(|row| row[column].chars().count())
                    .fold(HEADINGS[column].len(), usize::max)
            })
            .collect();
        line(&mut out, &HEADINGS.map(str::to_owned), &widths);
        for (row, slave) in rows.iter().zip(&report.slaves) {
            line(&mut out, row, &widths);
            for remark in remarks(slave) {
                let _ = writeln!(out, "    {remark}");
            }
        }
    }
    if !report.has_service() {
        out.push_str("no slave is in service\n");
    }
    out
}

fn row(slave: &SlaveReport, latest: Lsn) -> [String; HEADINGS.len()] {
    let n = |name| slave.metrics.get(name);
    // The state of a slave is not known before it registers with this master.
    let known = |text: String| slave.silence_ms().map_or_else(|| "-".to_owned(), |_| text);
    let mut id = slave.id.to_string();
    id.truncate(ID_DIGITS);
    [
        id,
        shown_addr(slave).map_or_else(|| "-".to_owned(), |addr| addr.to_string()),
        slave.state.text().to_owned(),
        known(slave.lsn.number.to_string()),
        lag(slave, latest).map_or_else(|| "-".to_owned(), |lag| lag.to_string()),
        match n(metric::WAITING) {
            0 => n(metric::SESSIONS).to_string(),
            waiting => format!("{}+{waiting}", n(metric::SESSIONS)),
        },
        n(metric::WORKERS).to_string(),
        known(n(metric::FILES).to_string()),
        known(n(metric::BYTES).to_string()),
        known(format!("{}.{} s", slave.silent_ms / 1000, slave.silent_ms % 1000 / 100)),
    ]
}

fn line(out: &mut String, cells: &[String; HEADINGS.len()], widths: &[usize]) {
    let mut text = String::new();
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        // Writing to a String does not fail.
        let _ = if column < NUMBERS_FROM {
            write!(text, "{cell:<width$}  ")
        } else {
            write!(text, "{cell:>width$}  ")
        };
    }
    out.push_str(text.trim_end());
    out.push('\n');
}

/// The remarks on a slave, which are below its row.
fn remarks(slave: &SlaveReport) -> Vec<String> {
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

#[cfg(test)]
mod tests {
    use relais_proto::{FolderId, Lsn, Metrics, SlaveId, SlaveState};

    use super::*;

    #[test]
    fn the_table_shows_slaves_and_remarks() {
        let slave = SlaveReport {
            id: SlaveId([0xab; 16]),
            folder: FolderId([1; 16]),
            addrs: vec!["127.0.0.1:2122".parse().unwrap()],
            state: SlaveState::InService,
            lsn: Lsn { epoch: 1, number: 0 },
            metrics: Metrics::default()
                .with(metric::FILES, 7)
                .with(metric::SESSIONS, 3)
                .with(metric::WAITING, 2)
                .with(metric::MISSING, 4)
                .with(metric::HELD, 9)
                .with(metric::DAMAGED, 1)
                .with(metric::UPLOADS, 6)
                .with(metric::UPLOAD_BYTES, 7)
                .with(metric::UNAPPLIED, 6)
                .with(metric::SKIPPED_LINKS, 2)
                .with(metric::SKIPPED_NAMES, 1),
            last_error: "disk\nfull".to_owned(),
            silent_ms: 1_290,
        };
        let halted = Report {
            lsn: Lsn { epoch: 1, number: 0 },
            slaves: vec![slave.clone()],
            halted: "why".to_owned(),
            lost: 2,
            removals: 5,
            removals_cap: 8,
        };
        assert!(
            table(&halted)
                .starts_with("latest change: 1-0\nNO CHANGES ARE TAKEN: why\nlost: 2 contents")
        );
        let text = table(&Report {
            lsn: Lsn { epoch: 1, number: 0 },
            slaves: vec![slave],
            halted: String::new(),
            lost: 0,
            removals: 5,
            removals_cap: 8,
        });
        for part in [
            "latest change: 1-0\nremoval records: 5 of at most 8\n",
            "abababababab  127.0.0.1:2122  in-service",
            "3+2",
            "1.2 s",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(text.contains("unfinished uploads: 6, 7 bytes\n"), "{text}");
        assert!(
            text.contains("not there yet: 4 files")
                && text.contains("damaged files that are not repaired yet: 1\n")
                && text.contains("held back, because they are many: 9\n")
        );
        assert!(text.contains("because the disk refuses it: 6 paths"));
        assert!(text.contains("skipped: 2 links, 1 names that cannot be served\n"));
        assert!(text.contains("last error: disk\\u{a}full\n") && !text.contains("no slave"));
        assert!(
            table(&Report {
                lsn: Lsn::default(),
                slaves: vec![],
                halted: String::new(),
                lost: 0,
                removals: 0,
                removals_cap: 0,
            })
            .ends_with("no slave is in service\n")
        );
    }
}
