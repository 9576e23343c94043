//! The output of `status --json`. The field names are a stable interface.

use std::collections::BTreeMap;

use relais_proto::{Lsn, SlaveReport, sanitize};
use serde::Serialize;

use super::report::{Report, SKIPPED, lag, shown_addr};
use crate::json_object::JsonObject;

/// The fields of a report, with slaves of a type that has the fields of [`SlaveJson`].
#[derive(Serialize)]
pub(crate) struct StatusJson<S> {
    epoch: u32,
    number: u64,
    slaves: Vec<S>,
    /// The reason why no changes are taken; null if they are.
    halted: Option<String>,
    /// Contents that no slave is known to hold.
    lost: u64,
    /// Removal records, and their cap.
    removals: u64,
    removals_cap: u64,
}

/// The fields of a slave.
#[derive(Serialize)]
pub(crate) struct SlaveJson<'a> {
    id: String,
    /// Null if it has no address for the operator.
    addr: Option<String>,
    state: &'static str,
    number: u64,
    /// Changes that it lacks; null if it is in another epoch.
    lag: Option<u64>,
    /// The mechanisms that confine all its workers.
    confined: Vec<&'static str>,
    /// All metrics but those below.
    #[serde(flatten)]
    metrics: BTreeMap<&'a str, u64>,
    skipped: JsonObject<u64>,
    folder: String,
    epoch: u32,
    /// Null if there was none.
    last_error: Option<String>,
    /// Null if it has not registered since the master's start.
    silent_ms: Option<u64>,
}

/// Formats the report as one line of JSON.
///
/// # Errors
/// Errors of the serializer.
pub fn json(report: &Report) -> Result<String, serde_json::Error> {
    serde_json::to_string(&StatusJson::new(report, |_, slave| slave))
}

impl<S> StatusJson<S> {
    /// Takes the fields of a report; `extend` makes the object of a slave from its fields.
    pub fn new<'a>(
        report: &'a Report,
        extend: impl Fn(&'a SlaveReport, SlaveJson<'a>) -> S,
    ) -> Self {
        let of = |slave: &'a SlaveReport| extend(slave, entry(slave, report.lsn));
        Self {
            epoch: report.lsn.epoch,
            number: report.lsn.number,
            slaves: report.slaves.iter().map(of).collect(),
            halted: text(&report.halted),
            lost: report.lost,
            removals: report.removals,
            removals_cap: report.removals_cap,
        }
    }
}

fn entry(slave: &SlaveReport, latest: Lsn) -> SlaveJson<'_> {
    let skipped = SKIPPED.map(|(metric, name, _)| (name, slave.metrics.get(metric)));
    SlaveJson {
        id: slave.id.to_string(),
        addr: shown_addr(slave).map(|addr| addr.to_string()),
        state: slave.state.text(),
        number: slave.lsn.number,
        lag: lag(slave, latest),
        confined: slave.metrics.confinement().names(),
        metrics: slave.metrics.fields(),
        skipped: JsonObject(skipped.into()),
        folder: slave.folder.to_string(),
        epoch: slave.lsn.epoch,
        last_error: text(&slave.last_error),
        silent_ms: slave.silence_ms(),
    }
}

/// A text of a peer without characters that control a terminal; none if it is empty.
fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| sanitize(text).into_owned())
}

#[cfg(test)]
mod tests {
    use relais_proto::{FolderId, Lsn, Metrics, SlaveId, SlaveState, metric};

    use super::*;

    #[test]
    fn reports_have_the_documented_fields() {
        let slave = SlaveReport {
            id: SlaveId([0xab; 16]),
            folder: FolderId([1; 16]),
            addrs: vec!["127.0.0.1:2122".parse().unwrap()],
            state: SlaveState::InService,
            lsn: Lsn { epoch: 1, number: 40 },
            metrics: Metrics::default()
                .with(metric::SESSIONS, 3)
                .with(metric::SKIPPED_LINKS, 2)
                .with(metric::MISSING, 5)
                .with(metric::MISSING_BYTES, 6)
                .with(metric::QUARANTINED, 7)
                .with(metric::HELD, 8)
                .with(metric::UPLOADS, 9)
                .with(metric::UPLOAD_BYTES, 10)
                .with(metric::UNAPPLIED, 11),
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
            text.contains(r#""files":0,"folders":0,"held":8,"missing":5,"missing_bytes":6,"#)
                && text.contains(r#""quarantined":7,"received_bytes":0,"rescans":0,"resumes":0,"#)
                && text.contains(r#""sent_bytes":0,"sessions":3,"sessions_ftp":0,"#)
                && text.contains(r#""unapplied":11,"unhashed":0,"upload_bytes":10,"uploads":9,"#),
            "{text}"
        );
        assert!(text.starts_with(&format!(
            concat!(
                r#"{{"epoch":1,"number":42,"slaves":[{{"id":"{}","addr":"127.0.0.1:2122","#,
                r#""state":"in-service","number":40,"lag":2,"confined":[],"active_transfers":0,"#
            ),
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
            concat!(
                r#"{"epoch":1,"number":0,"slaves":[],"halted":null,"lost":0,"#,
                r#""removals":0,"removals_cap":0}"#
            )
        );
    }
}
