//! The report as a table for terminals.

use std::fmt::Write;

use super::report::Report;
use super::rows::{HEADINGS, NO_SERVICE, SlaveRow, headlines, remarks};

/// The first column of numbers, which are aligned to the right. Earlier columns hold text.
const NUMBERS_FROM: usize = 3;

/// Formats the report as lines of text.
#[must_use]
pub fn table(report: &Report) -> String {
    let mut out = headlines(report).join("\n");
    out.push('\n');
    if !report.slaves.is_empty() {
        let rows: Vec<_> =
            report.slaves.iter().map(|slave| SlaveRow::new(slave, report.lsn)).collect();
        let widths: Vec<usize> = (0..HEADINGS.len())
            .map(|column| {
                rows.iter()
                    .map(|row| row.cells()[column].chars().count())
                    .fold(HEADINGS[column].len(), usize::max)
            })
            .collect();
        line(&mut out, &HEADINGS, &widths);
        for (row, slave) in rows.iter().zip(&report.slaves) {
            line(&mut out, &row.cells(), &widths);
            for remark in remarks(slave) {
                // Writing to a String does not fail.
                let _ = writeln!(out, "    {remark}");
            }
        }
    }
    if !report.has_service() {
        let _ = writeln!(out, "{NO_SERVICE}");
    }
    out
}

fn line(out: &mut String, cells: &[&str; HEADINGS.len()], widths: &[usize]) {
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

#[cfg(test)]
mod tests {
    use relais_proto::{FolderId, Lsn, Metrics, SlaveId, SlaveReport, SlaveState, metric};

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
