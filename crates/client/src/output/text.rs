//! Formatting of numbers, times and names for people. Pure functions.

use std::borrow::Cow;
use std::time::Duration;

use relais_proto::{Confinement, FileTime, Mode, ServerRole, metric, pluralize};
use unicode_width::UnicodeWidthStr;

use crate::outcome::{
    BatchSummary, ListedEntry, ListedKind, MirrorStep, ServerStatus, StoredFile, TransferredFile,
    UnfinishedTransfer, timestamp,
};
use crate::sanitize::sanitize;

/// Spaces between two columns.
const GAP: usize = 2;

/// Formats a number of bytes in a suitable unit, such as `1.5 MiB`.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let unit = (bytes.ilog2() / 10) as usize;
    // Tenths in integers, rounded: exact for every u64.
    let tenths = (u128::from(bytes) * 10 + (1 << (10 * unit - 1))) >> (10 * unit);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit - 1])
}

/// Formats bytes per second.
pub fn rate(bytes: u64, time: Duration) -> String {
    let per_second = u128::from(bytes) * 1_000_000_000 / time.as_nanos().max(1);
    format!("{}/s", human_bytes(u64::try_from(per_second).unwrap_or(u64::MAX)))
}

/// Formats a time in seconds.
fn short_time(time: FileTime) -> String {
    text_or(timestamp(time).map(|time| time.strftime("%Y-%m-%d %H:%M:%SZ")), "?")
}

/// Formats the closing line of a file.
pub fn file(file: &TransferredFile) -> String {
    let TransferredFile { remote, local, bytes, time, slaves, resumed_from, stored, .. } = file;
    let (from, to, by) =
        if stored.is_some() { (local, remote, "to") } else { (remote, local, "from") };
    let resumed =
        if *resumed_from > 0 { format!(", resumed from {resumed_from}") } else { String::new() };
    let stored = stored.as_ref().map(|StoredFile { version, copies }| {
        format!(", version {version}, {copies} {}", if *copies == 1 { "copy" } else { "copies" })
    });
    format!(
        "{from} -> {to}: {bytes} bytes in {:.2} s ({}) {by} {}{resumed}, verified{}",
        time.as_secs_f64(),
        rate(bytes.saturating_sub(*resumed_from), *time),
        join_or(slaves, "no server"),
        stored.unwrap_or_default(),
    )
}

/// Formats the unfinished transfers.
pub fn transfers(transfers: &[UnfinishedTransfer], dropped: bool) -> String {
    if dropped {
        return format!("{} dropped", pluralize(transfers.len(), "unfinished transfer"));
    }
    if transfers.is_empty() {
        return "no transfer is unfinished".to_owned();
    }
    transfers.iter().map(transfer).collect::<Vec<_>>().join("\n")
}

fn transfer(transfer: &UnfinishedTransfer) -> String {
    let UnfinishedTransfer { direction, recursive, remote, local, bytes, size, since, host } =
        transfer;
    let recursive = if *recursive { " -r" } else { "" };
    let (from, to) = if *direction == "put" { (local, remote) } else { (remote, local) };
    let done = match (bytes, size) {
        (Some(bytes), Some(size)) if *direction == "put" => {
            format!(", at least {bytes} of {size} bytes sent")
        }
        (Some(bytes), Some(size)) => format!(", {bytes} of {size} bytes"),
        (Some(bytes), None) => format!(", {bytes} bytes"),
        (None, _) => String::new(),
    };
    let since = short_time(*since);
    sanitize(&format!("{direction}{recursive} {from} -> {to}{done}, at {host}, since {since}"))
        .into_owned()
}

/// Formats the totals of several files, or the steps of a dry run.
pub fn batch(several: &BatchSummary) -> String {
    let BatchSummary { files, folders, bytes, time, deleted, skipped, failed, .. } = several;
    let part = |n: usize, what: &str| if n > 0 { format!(", {n} {what}") } else { String::new() };
    let skipped = part(skipped.as_ref().map_or(0, Vec::len), "skipped");
    let is_unchanged = (*files, *folders, *deleted) == (0, 0, Some(0)) && failed.is_empty();
    match &several.planned {
        Some(steps) if !steps.is_empty() => {
            let line = |step: &MirrorStep| format!("{} {}", step.action, sanitize(&step.path));
            return steps.iter().map(line).collect::<Vec<_>>().join("\n");
        }
        None if !is_unchanged => {}
        _ => return format!("nothing to do{skipped}"),
    }
    let (files, failed) = (pluralize(*files, "file"), part(failed.len(), "failed"));
    let folders =
        if *folders > 0 { format!(", {}", pluralize(*folders, "folder")) } else { String::new() };
    let deleted = deleted.filter(|n| *n > 0).map(|n| format!(", {n} deleted")).unwrap_or_default();
    format!(
        "{files}{folders}, {bytes} bytes in {:.2} s ({}){deleted}{skipped}{failed}",
        time.as_secs_f64(),
        rate(*bytes, *time)
    )
}

/// Formats a name as `ls` shows it: a folder ends in `/`.
pub fn name(shown: &ListedEntry) -> String {
    let slash = if shown.kind == ListedKind::Folder && shown.name != "/" { "/" } else { "" };
    format!("{}{slash}", sanitize(&shown.name))
}

/// Formats a line of `ls -l`: kind, permission bits, size, time in UTC, name.
pub fn long(shown: &ListedEntry) -> String {
    let (kind, size) = match shown.kind {
        ListedKind::Folder => ("d", "-".to_owned()),
        ListedKind::File => ("-", shown.size.to_string()),
        ListedKind::Other => ("?", shown.size.to_string()),
    };
    let mode = letters(shown.mode);
    format!("{kind}{mode} {size:>14}  {}  {}", short_time(shown.mtime), name(shown))
}

/// Formats permission bits as `ls -l` does.
fn letters(mode: Mode) -> String {
    let letter =
        |at: u32| if mode.bits() & (1 << at) == 0 { '-' } else { ['x', 'w', 'r'][at as usize % 3] };
    (0..9).rev().map(letter).collect()
}

/// Formats all details that `stat` shows.
pub fn details(shown: &ListedEntry) -> String {
    let ListedEntry { mode, size, mtime, version, .. } = shown;
    let kind = match shown.kind {
        ListedKind::File => "file",
        ListedKind::Folder => "folder",
        ListedKind::Other => "other",
    };
    let is_file = shown.kind == ListedKind::File;
    let content = shown.content.as_ref().filter(|_| is_file);
    let holders = content.and_then(|content| content.holders.as_ref());
    let known = [
        ("kind", Some(kind.to_owned())),
        ("mode", Some(mode.to_string())),
        ("size", is_file.then(|| format!("{size} ({})", human_bytes(*size)))),
        ("changed", Some(text_or(timestamp(*mtime), "?"))),
        ("version", version.map(|version| version.to_string())),
        ("digest", content.map(|content| text_or(content.digest, "not known yet"))),
        ("holders", holders.filter(|all| !all.is_empty()).map(|all| all.join(", "))),
    ];
    let mut lines = shown_path(shown).into_owned();
    for (what, value) in known.into_iter().filter_map(|(what, value)| Some((what, value?))) {
        lines += &format!("\n  {what:<8} {value}");
    }
    lines
}

/// Formats a line as `b3sum` prints it.
pub fn digest(shown: &ListedEntry) -> String {
    let digest = shown.content.as_ref().and_then(|content| content.digest);
    format!("{}  {}", text_or(digest, "-"), shown_path(shown))
}

/// Returns the path of an entry, or its name in a listing.
fn shown_path(shown: &ListedEntry) -> Cow<'_, str> {
    sanitize(shown.path.as_deref().unwrap_or(&shown.name))
}

/// Formats a value, or what stands for a missing one.
fn text_or(value: Option<impl ToString>, missing: &str) -> String {
    value.map_or_else(|| missing.to_owned(), |value| value.to_string())
}

/// Joins words, or returns what stands for none.
fn join_or(words: &[impl AsRef<str>], none: &str) -> String {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    if words.is_empty() { none.to_owned() } else { words.join(", ") }
}

/// Formats the state of the current server.
pub fn status(state: &ServerStatus) -> String {
    let n = |name| state.metrics.get(name);
    let role = match state.role {
        ServerRole::Standalone => "standalone slave",
        ServerRole::Slave => "slave of a cluster",
        ServerRole::Master => "master",
    };
    let transport = state.authority.as_ref().map_or_else(
        || "not encrypted".to_owned(),
        |by| format!("encrypted (TLS 1.3), authority {by}"),
    );
    let confined = &state.confined;
    let mut lines = vec![
        format!("server    {} ({role}), reached through {}", state.server, state.host),
        format!("slave     {}", state.slave),
        format!("cluster   {}", state.cluster.as_deref().unwrap_or("-")),
        format!("transport {transport}"),
        format!("number    {}", state.number),
        format!(
            "holds     {}, {}, {}",
            pluralize(n(metric::FILES), "file"),
            pluralize(n(metric::FOLDERS), "folder"),
            human_bytes(n(metric::BYTES))
        ),
        format!("hashing   {} left", pluralize(n(metric::UNHASHED), "file")),
        format!("skipped   {}", skipped(&state.skipped)),
        format!("rescans   {}", n(metric::RESCANS)),
        format!("unapplied {}", n(metric::UNAPPLIED)),
        format!(
            "uploads   {} unfinished, {}",
            n(metric::UPLOADS),
            human_bytes(n(metric::UPLOAD_BYTES))
        ),
        format!(
            "sessions  {} open, {} waiting, {}",
            n(metric::SESSIONS),
            n(metric::WAITING),
            pluralize(n(metric::WORKERS), "worker")
        ),
        format!("confined  {}", join_or(confined, "not at all")),
    ];
    if !Confinement::FOLDER.names().iter().all(|name| confined.contains(name)) {
        lines.push(
            "warning   workers are not confined to the folder (Landlock is not in force)"
                .to_owned(),
        );
    }
    lines.extend(state.metrics.unknown().map(|(name, value)| format!("{name} {value}")));
    lines.extend(state.last_error.as_ref().map(|error| format!("error     {}", sanitize(error))));
    lines.join("\n")
}

fn skipped([_, counts @ ..]: &[(&str, u64); 6]) -> String {
    let shown = counts.iter().filter(|(_, count)| *count > 0).map(|(what, count)| match *what {
        "links" => pluralize(*count, "link"),
        "special" => format!("{} and the like", pluralize(*count, "device")),
        "mounts" => pluralize(*count, "mount point"),
        "names" => format!("{} that cannot be served", pluralize(*count, "name")),
        other => format!("{count} {other}"),
    });
    let named: Vec<String> = shown.collect();
    join_or(&named, "nothing")
}

/// Arranges names in columns, top to bottom, in lines of at most `width`.
pub fn columns(names: &[String], width: usize) -> Vec<String> {
    let widest = names.iter().map(|n| n.width()).max().unwrap_or(0) + GAP;
    let count = ((width + GAP) / widest).clamp(1, names.len().max(1));
    let rows = names.len().div_ceil(count);
    (0..rows)
        .map(|row| {
            let line: String = names
                .iter()
                .skip(row)
                .step_by(rows)
                .map(|name| format!("{name}{:pad$}", "", pad = widest - name.width()))
                .collect();
            line.trim_end().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::EntryContent;
    use relais_proto::Digest;

    fn shown(name: &str, kind: ListedKind) -> ListedEntry {
        ListedEntry {
            name: name.into(),
            path: None,
            kind,
            mode: Mode::new(0o644),
            size: 1536,
            mtime: FileTime { seconds: 86_399, nanos: 0 },
            version: None,
            content: None,
        }
    }

    #[test]
    fn bytes_are_rounded_to_a_unit() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1 << 20, "1.0 MiB"),
            (104_857_600, "100.0 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(human_bytes(bytes), text);
        }
        assert_eq!(rate(2048, Duration::from_secs(2)), "1.0 KiB/s");
        assert_eq!(rate(0, Duration::ZERO), "0 B/s");
    }

    #[test]
    fn times_are_in_utc() {
        let time =
            |seconds, nanos| timestamp(FileTime { seconds, nanos }).map(|time| time.to_string());
        assert_eq!(time(1_763_721_545, 0).unwrap(), "2025-11-21T10:39:05Z");
        assert_eq!(time(-1, 500_000_000).unwrap(), "1969-12-31T23:59:59.5Z");
        assert_eq!(time(i64::MAX, 0), None);
    }

    #[test]
    fn closing_line_of_a_download() {
        let mut file = TransferredFile {
            remote: "/big.bin".into(),
            local: "_CLIENTROOT/big.bin".into(),
            bytes: 104_857_600,
            time: Duration::from_millis(820),
            slaves: vec!["127.0.0.1:2122".into(), "127.0.0.1:2123".into()],
            resumed_from: 0,
            verified: true,
            stored: None,
        };
        assert_eq!(
            super::file(&file),
            "/big.bin -> _CLIENTROOT/big.bin: 104857600 bytes in 0.82 s (122.0 MiB/s) \
             from 127.0.0.1:2122, 127.0.0.1:2123, verified"
        );
        file.resumed_from = 41_943_040;
        assert!(super::file(&file).ends_with(", resumed from 41943040, verified"));
    }

    #[test]
    fn closing_lines_of_uploads_and_batches() {
        let sent = TransferredFile {
            remote: "/x".into(),
            local: "big.bin".into(),
            bytes: 2048,
            time: Duration::from_secs(1),
            slaves: vec!["127.0.0.1:2122".into()],
            resumed_from: 1024,
            verified: true,
            stored: Some(StoredFile {
                version: relais_proto::Lsn { epoch: 1, number: 42 },
                copies: 2,
            }),
        };
        assert_eq!(
            file(&sent),
            "big.bin -> /x: 2048 bytes in 1.00 s (1.0 KiB/s) to 127.0.0.1:2122, \
             resumed from 1024, verified, version 1-42, 2 copies"
        );
        let mut many = BatchSummary {
            files: 2,
            bytes: 2048,
            time: Duration::from_secs(2),
            ..BatchSummary::default()
        };
        assert_eq!(batch(&many), "2 files, 2048 bytes in 2.00 s (1.0 KiB/s)");
        (many.folders, many.skipped) = (3, Some(vec!["link".into()]));
        assert_eq!(batch(&many), "2 files, 3 folders, 2048 bytes in 2.00 s (1.0 KiB/s), 1 skipped");
    }

    #[test]
    fn listings_show_kind_size_and_time() {
        assert_eq!(
            long(&shown("a", ListedKind::File)),
            "-rw-r--r--           1536  1970-01-01 23:59:59Z  a"
        );
        assert_eq!(
            long(&shown("d", ListedKind::Folder)),
            "drw-r--r--              -  1970-01-01 23:59:59Z  d/"
        );
        assert_eq!(name(&shown("a\u{202e}b", ListedKind::File)), "a\\u{202e}b");
    }

    #[test]
    fn details_and_digests() {
        let content = Some(EntryContent {
            digest: Some(Digest([1; 32])),
            holders: Some(vec!["127.0.0.1:1".into()]),
        });
        let file =
            ListedEntry { path: Some("/x/a".into()), content, ..shown("a", ListedKind::File) };
        assert_eq!(digest(&file), format!("{}  /x/a", "01".repeat(32)));
        let text = details(&file);
        assert!(
            text.starts_with("/x/a\n  kind     file\n  mode     0644\n  size     1536 (1.5 KiB)\n"),
            "{text}"
        );
        assert!(text.ends_with("\n  holders  127.0.0.1:1"), "{text}");
        assert!(!details(&shown("d", ListedKind::Folder)).contains("digest"));
    }

    #[test]
    fn columns_fit_the_width() {
        let names: Vec<String> =
            ["a", "bb", "ccc", "d", "日本"].iter().map(|s| s.to_string()).collect();
        assert_eq!(columns(&names, 80), ["a     bb    ccc   d     日本"]);
        assert_eq!(columns(&names, 11), ["a     d", "bb    日本", "ccc"]);
        assert_eq!(columns(&names, 1), names);
        assert_eq!(columns(&[], 80), Vec::<String>::new());
    }
}
