//! The output of `--json`: one object for each command on standard output.
//!
//! The names of the fields and their order are a contract with scripts. Listings are written entry
//! by entry, so their `ok` follows the entries. Harmful characters are escaped, so that they cannot
//! control a terminal.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use crate::outcome::{CommandOutcome, ListedEntry, failure_of};
use crate::sanitize::is_unsafe_char;
use crate::{Failure, Result};

/// The object of a command.
#[derive(Serialize)]
struct Object<'a> {
    command: &'a str,
    ok: bool,
    #[serde(flatten)]
    outcome: Option<&'a CommandOutcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a Failure>,
}

/// Writes the object of a command without listed entries, and a line end.
///
/// # Errors
/// Those of `out`.
pub fn object(
    out: &mut dyn Write,
    command: &str,
    result: &Result<CommandOutcome>,
) -> io::Result<()> {
    let failed = failure_of(result);
    let (outcome, error) = (result.as_ref().ok(), failed.as_ref());
    write(out, &Object { command, ok: error.is_none(), outcome, error })?;
    out.write_all(b"\n")
}

/// Begins the object of a command that lists entries.
///
/// # Errors
/// Those of `out`.
pub fn begin_entries(out: &mut dyn Write, command: &str) -> io::Result<()> {
    out.write_all(b"{\"command\":")?;
    write(out, &command)?;
    out.write_all(b",\"entries\":[")
}

/// Writes one entry, preceded by a comma unless it is the first.
///
/// # Errors
/// Those of `out`.
pub fn entry(out: &mut dyn Write, shown: &ListedEntry, first: bool) -> io::Result<()> {
    if !first {
        out.write_all(b",")?;
    }
    write(out, shown)
}

/// Ends the object of a command that lists entries.
///
/// # Errors
/// Those of `out`.
pub fn end_entries(out: &mut dyn Write, result: &Result<CommandOutcome>) -> io::Result<()> {
    out.write_all(b"]")?;
    if let Ok(CommandOutcome::Entries { failed }) = result
        && !failed.is_empty()
    {
        out.write_all(b",\"failed\":")?;
        write(out, failed)?;
    }
    match failure_of(result) {
        None => out.write_all(b",\"ok\":true}\n"),
        Some(failure) => {
            out.write_all(b",\"ok\":false,\"error\":")?;
            write(out, &failure)?;
            out.write_all(b"}\n")
        }
    }
}

fn write(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    value
        .serialize(&mut Serializer::with_formatter(out, EscapingFormatter))
        .map_err(io::Error::from)
}

/// Compact JSON that also escapes harmful characters which JSON allows.
struct EscapingFormatter;

impl Formatter for EscapingFormatter {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_unsafe_char(*c)) {
            writer.write_all(&rest.as_bytes()[..at])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &rest[at + c.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{BatchSummary, FailedName, ListedKind, StoredFile, TransferredFile};
    use relais_proto::{Digest, ErrorCode, FileTime, Lsn, Mode};
    use std::time::Duration;

    fn text(fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        fill(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn shown(name: &str) -> ListedEntry {
        ListedEntry {
            name: name.into(),
            path: None,
            kind: ListedKind::File,
            mode: Mode::new(0o644),
            size: 7,
            mtime: FileTime { seconds: 0, nanos: 500_000_000 },
            version: Some(Lsn { epoch: 1, number: 42 }),
            content: None,
        }
    }

    #[test]
    fn received_file_has_stable_json() {
        let file = TransferredFile {
            remote: "/big.bin".into(),
            local: "_CLIENTROOT/big.bin".into(),
            bytes: 10,
            time: Duration::from_millis(1500),
            slaves: vec!["127.0.0.1:2122".into()],
            resumed_from: 4,
            verified: true,
            stored: None,
        };
        assert_eq!(
            text(|out| object(out, "get", &Ok(CommandOutcome::File(file)))),
            "{\"command\":\"get\",\"ok\":true,\"remote\":\"/big.bin\",\
             \"local\":\"_CLIENTROOT/big.bin\",\"bytes\":10,\"seconds\":1.5,\
             \"slaves\":[\"127.0.0.1:2122\"],\"resumed_from\":4,\"verified\":true}\n"
        );
    }

    #[test]
    fn sent_file_and_changes_have_stable_json() {
        let version = Lsn { epoch: 1, number: 42 };
        let file = TransferredFile {
            remote: "/x".into(),
            local: "x".into(),
            bytes: 10,
            time: Duration::from_millis(1500),
            slaves: vec!["127.0.0.1:2122".into()],
            resumed_from: 0,
            verified: true,
            stored: Some(StoredFile { version, copies: 1 }),
        };
        assert_eq!(
            text(|out| object(out, "put", &Ok(CommandOutcome::File(file)))),
            "{\"command\":\"put\",\"ok\":true,\"remote\":\"/x\",\"local\":\"x\",\
             \"bytes\":10,\"seconds\":1.5,\
             \"slaves\":[\"127.0.0.1:2122\"],\"resumed_from\":0,\"verified\":true,\
             \"version\":\"1-42\",\"copies\":1}\n"
        );
        let changes = |several: bool| CommandOutcome::Changes {
            version: Some(version),
            failed: several.then(Vec::new),
        };
        let line = |outcome| text(|out| object(out, "rm", &Ok(outcome)));
        assert_eq!(line(changes(false)), "{\"command\":\"rm\",\"ok\":true,\"version\":\"1-42\"}\n");
        assert_eq!(
            line(changes(true)),
            "{\"command\":\"rm\",\"ok\":true,\"version\":\"1-42\",\"failed\":[]}\n"
        );
    }

    #[test]
    fn failures_have_stable_json() {
        let failure =
            Failure::new(ErrorCode::NotFound, "no \u{1b}[31m such\u{202e}\u{7f}\u{9b}\u{e0041}");
        assert_eq!(
            text(|out| object(out, "get", &Err(failure.clone()))),
            "{\"command\":\"get\",\"ok\":false,\"error\":{\"code\":\"not-found\",\
             \"message\":\"no \\u001b[31m such\\u202e\\u007f\\u009b\\udb40\\udc41\"}}\n"
        );
        let several = BatchSummary {
            files: 1,
            bytes: 5,
            failed: vec![FailedName { remote: "x".into(), failure }],
            ..BatchSummary::default()
        };
        let line = text(|out| object(out, "get", &Ok(CommandOutcome::Batch(several))));
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (value["ok"].as_bool(), value["files"].as_u64(), value["bytes"].as_u64()),
            (Some(false), Some(1), Some(5))
        );
        assert_eq!(
            (value["failed"][0]["remote"].as_str(), value["failed"][0]["error"]["code"].as_str()),
            (Some("x"), Some("not-found"))
        );
        assert_eq!(value["error"]["code"], "not-found");
    }

    #[test]
    fn entries_are_streamed_into_one_object() {
        let line = text(|out| {
            begin_entries(out, "ls")?;
            entry(out, &shown("a\"\u{85}"), true)?;
            entry(out, &shown("b"), false)?;
            end_entries(out, &Ok(CommandOutcome::Entries { failed: vec![] }))
        });
        assert!(!line.contains('\u{85}'));
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["ok"], true);
        assert_eq!(value["entries"][0]["name"], "a\"\u{85}");
        assert_eq!(
            value["entries"][1],
            serde_json::json!({
                "name": "b", "kind": "file", "mode": "0644", "size": 7,
                "mtime": "1970-01-01T00:00:00.5Z", "version": "1-42"
            })
        );
    }

    #[test]
    fn failed_listing_is_still_valid_json() {
        let line = text(|out| {
            begin_entries(out, "ls")?;
            entry(out, &shown("a"), true)?;
            end_entries(out, &Err(Failure::new(ErrorCode::Unreachable, "gone")))
        });
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&value["ok"], &value["error"]["code"]), (&false.into(), &"unreachable".into()));
    }

    #[test]
    fn unknown_digests_are_null() {
        use crate::outcome::EntryContent;
        let line = |content| text(|out| entry(out, &ListedEntry { content, ..shown("a") }, true));
        assert!(!line(None).contains("digest"));
        let unknown =
            line(Some(EntryContent { digest: None, holders: Some(vec!["127.0.0.1:1".into()]) }));
        assert!(unknown.contains("\"digest\":null,\"holders\":[\"127.0.0.1:1\"]"), "{unknown}");
        let known = line(Some(EntryContent { digest: Some(Digest([0xab; 32])), holders: None }));
        assert!(known.ends_with(&format!("\"digest\":\"{}\"}}", "ab".repeat(32))), "{known}");
    }
}
