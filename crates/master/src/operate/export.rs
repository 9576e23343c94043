//! `ftpmaster export`: prints the journal as lines of JSON, oldest change first.
//!
//! The field names are a stable interface.

use std::fmt::{Display, Write};

use jiff::Timestamp;
use relais_proto::{Change, FileTime, LogEntry, PropertyChange, is_unsafe_char};
use serde_json::Value;

use super::session::{OperationResult, OperatorSession, try_order};
use crate::json_object::JsonObject;

/// Prints all changes that are in the journal at the start.
pub(super) fn export(session: &mut OperatorSession<'_>) -> OperationResult {
    for entry in try_order(session.core, |engine| engine.journal())? {
        let entry = entry.map_err(|error| error.to_string())?;
        session.line(line(&entry).map_err(|error| error.to_string())?);
        if session.is_gone {
            return Err("the operator has disconnected".to_owned());
        }
    }
    Ok(String::new())
}

/// One change. The time is null if it is out of range; other fields are left out then.
fn line(numbered: &LogEntry) -> Result<String, serde_json::Error> {
    let text = |value: &dyn Display| Some(Value::from(value.to_string()));
    let time = |time: FileTime| text_of(time).map(Value::from);
    let (kind, fields) = match &numbered.change {
        Change::Put { path, size, digest, mtime, mode } => (
            "put",
            vec![
                ("path", text(path)),
                ("size", Some((*size).into())),
                ("digest", text(digest)),
                ("mtime", time(*mtime)),
                ("mode", text(mode)),
            ],
        ),
        Change::MakeFolder { path, mode } => {
            ("mkdir", vec![("path", text(path)), ("mode", text(mode))])
        }
        Change::SetAttributes { path, attributes } => {
            let mode = attributes.mode.and_then(|mode| text(&mode));
            let fields = vec![
                ("path", text(path)),
                ("mtime", attributes.mtime.and_then(time)),
                ("mode", mode),
            ];
            ("attributes", fields)
        }
        Change::Remove { path, recursive } => {
            ("rm", vec![("path", text(path)), ("recursive", Some((*recursive).into()))])
        }
        Change::Move { from, to } => ("mv", vec![("path", text(from)), ("to", text(to))]),
        Change::SetProperties { path, changes } => {
            let name = |change: &PropertyChange| {
                Value::from(format!("{{{}}}{}", change.name.namespace, change.name.local))
            };
            let (set, removed): (Vec<_>, Vec<_>) =
                changes.iter().partition(|change| change.value.is_some());
            let names = |changes: Vec<&PropertyChange>| {
                Some(Value::from(changes.into_iter().map(name).collect::<Vec<_>>()))
            };
            (
                "properties",
                vec![("path", text(path)), ("set", names(set)), ("removed", names(removed))],
            )
        }
        Change::Lock { path, lock } => (
            "lock",
            vec![
                ("path", text(path)),
                ("token", text(&lock.token)),
                ("user", text(&lock.user)),
                ("exclusive", Some(lock.exclusive.into())),
                ("deep", Some(lock.deep.into())),
                ("seconds", Some(lock.seconds.into())),
            ],
        ),
        Change::Unlock { path, token } => {
            ("unlock", vec![("path", text(path)), ("token", text(token))])
        }
        Change::RecordSha256 { put, hashes } => {
            ("sha256", vec![("of", text(put)), ("sha256", text(&hashes.sha256))])
        }
        Change::Withdraw { of } => ("withdraw", vec![("of", text(of))]),
    };
    let made = i64::try_from(numbered.time_ms)
        .ok()
        .and_then(|time| Timestamp::from_millisecond(time).ok());
    let mut line = vec![
        ("number", numbered.version.to_string().into()),
        ("id", numbered.id.to_string().into()),
        ("time", made.map(|time| time.to_string()).into()),
        ("kind", kind.into()),
    ];
    line.extend(fields.into_iter().filter_map(|(name, value)| Some((name, value?))));
    serde_json::to_string(&JsonObject(line)).map(|text| harmless(&text))
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
    use relais_proto::{
        ChangeId, ContentHashes, Digest, FileTime, LockRequest, LockToken, Lsn, Mode, PropertyName,
        Sha256, TreePath,
    };

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
        let property = |local: &str, value: Option<&str>| PropertyChange {
            name: PropertyName { namespace: "DAV:".into(), local: local.into() },
            value: value.map(str::to_owned),
        };
        let token = LockToken([3; 16]);
        let lock = LockRequest {
            token,
            user: "ann".into(),
            owner: "<o/>".into(),
            exclusive: true,
            deep: false,
            seconds: 60,
        };
        let hashes =
            ContentHashes { sha256: Sha256([4; 32]), piece_size: 1 << 20, pieces: Vec::new() };
        let shown = "03".repeat(16);
        let locked = format!(
            r#""kind":"lock","path":"/a","token":"{shown}","user":"ann","exclusive":true,{}"#,
            r#""deep":false,"seconds":60}"#
        );
        let unlocked = format!(r#""kind":"unlock","path":"/a","token":"{shown}"}}"#);
        let hashed = format!(r#""kind":"sha256","of":"1-7","sha256":"{}"}}"#, "04".repeat(32));
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
                Change::SetProperties {
                    path: path("a"),
                    changes: vec![property("x", Some("v")), property("y", None)],
                },
                r#""kind":"properties","path":"/a","set":["{DAV:}x"],"removed":["{DAV:}y"]}"#,
            ),
            (Change::Lock { path: path("a"), lock }, locked.as_str()),
            (Change::Unlock { path: path("a"), token }, unlocked.as_str()),
            (Change::RecordSha256 { put: Lsn { epoch: 1, number: 7 }, hashes }, hashed.as_str()),
            (
                Change::Withdraw { of: Lsn { epoch: 1, number: 7 } },
                r#""kind":"withdraw","of":"1-7"}"#,
            ),
        ] {
            assert_eq!(text(change), format!("{head}{wanted}"));
        }
    }
}
