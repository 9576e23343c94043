//! The output of `status --json`. The field names are a stable interface.

use relais_proto::{Lsn, SlaveReport, sanitize};
use serde::Serialize;

use super::Report;
use super::ask::{lag, shown_addr};

#[derive(Serialize)]
struct StatusJson {
    epoch: u32,
    number: u64,
    slaves: Vec<SlaveJson>,
    /// The reason why no changes are taken; null if they are.
    halted: Option<String>,
    /// Contents that no slave is known to hold.
    lost: u64,
    /// Removal records, and their cap.
    removals: u64,
    removals_cap: u64,
}

#[derive(Serialize)]
struct SlaveJson {
    id: String,
    /// Null if it has no address for the operator.
    addr: Option<String>,
    state: &'static str,
    number: u64,
    /// Changes that it lacks; null if it is in another epoch.
    lag: Option<u64>,
    sessions: u32,
    waiting: u32,
    workers: u32,
    /// The mechanisms that confine all its workers.
    confined: Vec<&'static str>,
    files: u64,
    folders: u64,
    bytes: u64,
    unhashed: u64,
    /// Files whose content it lacks, and their bytes.
    lacking: u64,
    lacking_bytes: u64,
    /// Files that it has quarantined since its start.
    set_aside: u64,
    /// Local removals that it holds back.
    held: u64,
    /// Damaged files that are not repaired yet.
    damaged: u64,
    /// Unfinished uploads, and their bytes.
    uploads: u64,
    upload_bytes: u64,
    /// PathListing at which its disk refuses the change.
    unapplied: u64,
    skipped: SkippedJson,
    rescans: u64,
    folder: String,
    epoch: u32,
    /// Null if there was none.
    last_error: Option<String>,
    /// Null if it has not registered since the master's start.
    silent_ms: Option<u64>,
}

#[derive(Serialize)]
struct SkippedJson {
    links: u64,
    special: u64,
    mounts: u64,
    names: u64,
    unreadable: u64,
}

/// Formats the report as one line of JSON.
///
/// # Errors
/// Errors of the serializer.
pub fn json(report: &Report) -> Result<String, serde_json::Error> {
    let slaves = report.slaves.iter().map(|slave| entry(slave, report.lsn)).collect();
    let halted = (!report.halted.is_empty()).then(|| sanitize(&report.halted).into_owned());
    serde_json::to_string(&StatusJson {
        epoch: report.lsn.epoch,
        number: report.lsn.number,
        slaves,
        halted,
        lost: report.lost,
        removals: report.removals,
        removals_cap: report.removals_cap,
    })
}

fn entry(slave: &SlaveReport, latest: Lsn) -> SlaveJson {
    let counters = &slave.counters;
    SlaveJson {
        id: slave.id.to_string(),
        addr: shown_addr(slave).map(|addr| addr.to_string()),
        state: slave.state.text(),
        number: slave.lsn.number,
        lag: lag(slave, latest),
        sessions: counters.sessions,
        waiting: counters.waiting,
        workers: counters.workers,
        confined: counters.confinement.names(),
        files: counters.files,
        folders: counters.folders,
        bytes: counters.bytes,
        unhashed: counters.unhashed,
        lacking: counters.lacking,
        lacking_bytes: counters.lacking_bytes,
        set_aside: counters.set_aside,
        held: counters.held,
        damaged: counters.damaged,
        uploads: counters.uploads,
        upload_bytes: counters.upload_bytes,
        unapplied: counters.unapplied,
        skipped: SkippedJson {
            links: counters.skipped_links,
            special: counters.skipped_special,
            mounts: counters.skipped_mounts,
            names: counters.skipped_names,
            unreadable: counters.skipped_unreadable,
        },
        rescans: counters.rescans,
        folder: slave.folder.to_string(),
        epoch: slave.lsn.epoch,
        last_error: (!slave.last_error.is_empty())
            .then(|| sanitize(&slave.last_error).into_owned()),
        silent_ms: slave.silence_ms(),
    }
}

#[cfg(test)]
mod tests {
    use relais_proto::{Counters, FolderId, Lsn, SlaveId, SlaveState};

    use super::*;

    #[test]
    fn reports_have_the_documented_fields() {
        let slave = SlaveReport {
            id: SlaveId([0xab; 16]),
            folder: FolderId([1; 16]),
            addrs: vec!["127.0.0.1:2122".parse().unwrap()],
            state: SlaveState::InService,
            lsn: Lsn { epoch: 1, number: 40 },
            counters: Counters {
                sessions: 3,
                skipped_links: 2,
                lacking: 5,
                lacking_bytes: 6,
                set_aside: 7,
                held: 8,
                uploads: 9,
                upload_bytes: 10,
                unapplied: 11,
                ..Counters::default()
            },
            last_error: "bad\u{1b}[2J".to_owned(),
            silent_ms: 12,
        };
        let slaves = vec![SlaveReport { lsn: Lsn { epoch: 2, number: 1 }, ..slave.clone() }];
        let other = json(&Report {
            lsn: Lsn { epoch: 1, number: 42 },
            slaves,
            halted: "no\u{1b}".to_owned(),
            lost: 3,
            removals: 4,
            removals_cap: 5,
        })
        .unwrap();
        assert!(
            other.contains(r#""number":1,"lag":null,"#)
                && other
                    .ends_with(r#""halted":"no\\u{1b}","lost":3,"removals":4,"removals_cap":5}"#),
            "{other}"
        );
        let text = json(&Report {
            lsn: Lsn { epoch: 1, number: 42 },
            slaves: vec![slave],
            halted: String::new(),
            lost: 0,
            removals: 0,
            removals_cap: 0,
        })
        .unwrap();
        assert!(
            text.contains(r#""lacking":5,"lacking_bytes":6,"set_aside":7,"held":8,"damaged":0,"uploads":9,"upload_bytes":10,"unapplied":11,"#),
            "{text}"
        );
        assert!(text.starts_with(&format!(
            r#"{{"epoch":1,"number":42,"slaves":[{{"id":"{}","addr":"127.0.0.1:2122","state":"in-service","number":40,"lag":2,"sessions":3,"#,
            "ab".repeat(16)
        )));
        assert!(
            text.contains(
                r#""skipped":{"links":2,"special":0,"mounts":0,"names":0,"unreadable":0}"#
            )
        );
        assert!(!text.chars().any(char::is_control) && !text.contains("u001b"));
        assert_eq!(
            json(&Report {
                lsn: Lsn { epoch: 1, number: 0 },
                slaves: vec![],
                halted: String::new(),
                lost: 0,
                removals: 0,
                removals_cap: 0,
            })
            .unwrap(),
            r#"{"epoch":1,"number":0,"slaves":[],"halted":null,"lost":0,"removals":0,"removals_cap":0}"#
        );
    }
}
