//! `ftpmaster export`: prints the journal as lines of JSON, oldest change first.
//!
//! The field names are a stable interface.

use std::fmt::Write;

use jiff::Timestamp;
use relais_proto::{Change, FileTime, LogEntry, is_unsafe_char};
use serde::Serialize;

use super::outcome::{OperationResult, OperatorOutput, try_order};
use crate::core::Core;

#[derive(Serialize)]
struct ExportLine {
    number: String,
    id: String,
    /// RFC 3339, UTC; null if the value is out of range.
    time: Option<String>,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recursive: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtime: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    of: Option<String>,
}

/// Prints all changes that are in the journal at the start.
pub(super) fn export(core: &Core, output: &mut OperatorOutput<'_>) -> OperationResult {
    let entries = try_order(core, |engine| engine.journal())?;
    for entry in entries {
        let entry = entry.map_err(|error| error.to_string())?;
        output.line(line(&entry).map_err(|error| error.to_string())?);
        if output.is_gone() {
            return Err("the operator has disconnected".to_owned());
        }
    }
    Ok(String::new())
}

/// One change.
fn line(numbered: &LogEntry) -> Result<String, serde_json::Error> {
    let time = i64::try_from(numbered.time_ms)
        .ok()
        .and_then(|time| Timestamp::from_millisecond(time).ok());
    let mut line = ExportLine {
        number: numbered.version.to_string(),
        id: numbered.id.to_string(),
        time: time.map(|time| time.to_string()),
        kind: "",
        path: None,
        to: None,
        recursive: None,
        size: None,
        digest: None,
        mtime: None,
        mode: None,
        of: None,
    };
    match &numbered.change {
        Change::Put { path, size, digest, mtime, mode } => {
            line.kind = "put";
            line.path = Some(path.to_string());
            line.size = Some(*size);
            line.digest = Some(digest.to_string());
            line.mtime = text_of(*mtime);
            line.mode = Some(mode.to_string());
        }
        Change::MakeFolder { path, mode } => {
            (line.kind, line.path, line.mode) =
                ("mkdir", Some(path.to_string()), Some(mode.to_string()))
        }
        Change::SetAttributes { path, attributes } => {
            (line.kind, line.path) = ("attributes", Some(path.to_string()));
            line.mode = attributes.mode.map(|mode| mode.to_string());
            line.mtime = attributes.mtime.and_then(text_of);
        }
        Change::Remove { path, recursive } => {
            (line.kind, line.path, line.recursive) =
                ("rm", Some(path.to_string()), Some(*recursive))
        }
        Change::Move { from, to } => {
            (line.kind, line.path, line.to) = ("mv", Some(from.to_string()), Some(to.to_string()))
        }
        Change::Withdraw { of } => (line.kind, line.of) = ("withdraw", Some(of.to_string())),
    }
    serde_json::to_string(&line).map(|text| harmless(&text))
}

/// Returns a time as RFC 3339 writes it; `None` outside of the years that it knows.
fn text_of(time: FileTime) -> Option<String> {
    let nanos = i32::try_from(time.nanos).ok()?;
    Timestamp::new(time.seconds, nanos).ok().map(|time| time.to_string())
}

/// Escapes characters that control a terminal. In JSON they occur only inside strings.
fn harmless(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if is_unsafe_char(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String does not fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use relais_proto::{ChangeId, Digest, FileTime, Lsn, Mode, TreePath};

    #[test]
    fn lines_have_the_documented_fields() {
        let path = |name: &str| TreePath::new(name).unwrap();
        let text = |change| {
            let version = Lsn { epoch: 1, number: 42 };
            line(&LogEntry { version, id: ChangeId([1; 16]), time_ms: 1_700_000_000_123, change })
                .unwrap()
        };
        let mtime = FileTime { seconds: 5, nanos: 0 };
        let put = text(Change::Put {
            path: path("a/b"),
            size: 3,
            digest: Digest([2; 32]),
            mtime,
            mode: Mode::new(0o644),
        });
        let head = format!(
            r#"{{"number":"1-42","id":"{}","time":"2023-11-14T22:13:20.123Z","#,
            "01".repeat(16)
        );
        let rest = format!(
            r#""digest":"{}","mtime":"1970-01-01T00:00:05Z","mode":"0644"}}"#,
            "02".repeat(32)
        );
        assert_eq!(put, format!(r#"{head}"kind":"put","path":"/a/b","size":3,{rest}"#));
        for (change, wanted) in [
            (
                Change::MakeFolder { path: path("a"), mode: Mode::new(0o755) },
                r#""kind":"mkdir","path":"/a","mode":"0755"}"#,
            ),
            (
                Change::SetAttributes {
                    path: path("a"),
                    attributes: relais_proto::Attributes::mode(Mode::new(0o600)),
                },
                r#""kind":"attributes","path":"/a","mode":"0600"}"#,
            ),
            (
                Change::Remove { path: path("a"), recursive: true },
                r#""kind":"rm","path":"/a","recursive":true}"#,
            ),
            (
                Change::Move { from: path("a"), to: path("b\u{202e}") },
                r#""kind":"mv","path":"/a","to":"/b\u202e"}"#,
            ),
            (
                Change::Withdraw { of: Lsn { epoch: 1, number: 7 } },
                r#""kind":"withdraw","of":"1-7"}"#,
            ),
        ] {
            assert_eq!(text(change), format!("{head}{wanted}"));
        }
    }
}
