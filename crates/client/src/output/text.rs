//! Formatting of numbers, times and names for people. Pure functions.

use std::time::Duration;

use relais_proto::{Confinement, Counters, FileTime, Mode, ServerRole, pluralize};
use unicode_width::UnicodeWidthStr;

use crate::outcome::{
    BatchSummary, ListedEntry, ListedKind, MirrorResult, Received, Sent, ServerStatus,
    UnfinishedTransfer, UnfinishedTransfers,
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

/// Formats a time as RFC 3339 in UTC; none outside the years 1 to 9999.
pub fn rfc3339(time: FileTime) -> Option<String> {
    timestamp(time).map(|t| t.to_string())
}

fn timestamp(time: FileTime) -> Option<jiff::Timestamp> {
    jiff::Timestamp::new(time.seconds, i32::try_from(time.nanos).ok()?).ok()
}

/// Formats a time in UTC without fractions of a second.
fn short_time(time: FileTime) -> String {
    timestamp(time).map_or_else(|| "?".to_owned(), |t| t.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}

/// Formats the closing line of a fetched file.
pub fn received(file: &Received) -> String {
    let Received { remote, local, bytes, time, slaves, resumed_from } = file;
    let resumed =
        if *resumed_from > 0 { format!(", resumed from {resumed_from}") } else { String::new() };
    format!(
        "{remote} -> {local}: {bytes} bytes in {:.2} s ({}) from {}{resumed}, verified",
        time.as_secs_f64(),
        rate(bytes.saturating_sub(*resumed_from), *time),
        if slaves.is_empty() { "no server".to_owned() } else { slaves.join(", ") },
    )
}

/// Formats the closing line of a stored file.
pub fn sent(file: &Sent) -> String {
    let Sent { remote, local, bytes, time, slaves, resumed_from, version, copies } = file;
    let resumed =
        if *resumed_from > 0 { format!(", resumed from {resumed_from}") } else { String::new() };
    let copies = if *copies == 1 { ", 1 copy".to_owned() } else { format!(", {copies} copies") };
    format!(
        "{local} -> {remote}: {bytes} bytes in {:.2} s ({}) to {}{resumed}, verified, \
         version {version}{copies}",
        time.as_secs_f64(),
        rate(bytes.saturating_sub(*resumed_from), *time),
        if slaves.is_empty() { "no server".to_owned() } else { slaves.join(", ") },
    )
}

/// Formats the closing line of several files.
pub fn several(several: &BatchSummary) -> String {
    with_deleted(several, 0)
}

/// Formats the unfinished transfers, one line each, or the number of dropped ones.
pub fn transfers(transfers: &UnfinishedTransfers) -> Vec<String> {
    let count = transfers.transfers.len();
    if transfers.dropped {
        return vec![format!("{} dropped", pluralize(count, "unfinished transfer"))];
    }
    if count == 0 {
        return vec!["no transfer is unfinished".to_owned()];
    }
    transfers.transfers.iter().map(transfer).collect()
}

fn transfer(transfer: &UnfinishedTransfer) -> String {
    let UnfinishedTransfer { is_put, is_tree, remote, local, host, bytes, size, since } = transfer;
    let direction = if *is_put { "put" } else { "get" };
    let recursive = if *is_tree { " -r" } else { "" };
    let (from, to) = if *is_put { (local, remote) } else { (remote, local) };
    let done = match (bytes, size) {
        // The server may have more than was noted here; it tells at the resume.
        (Some(bytes), Some(size)) if *is_put => format!(", at least {bytes} of {size} bytes sent"),
        (Some(bytes), Some(size)) => format!(", {bytes} of {size} bytes"),
        (Some(bytes), None) => format!(", {bytes} bytes"),
        (None, _) => String::new(),
    };
    let since = short_time(seconds(*since));
    sanitize(&format!("{direction}{recursive} {from} -> {to}{done}, at {host}, since {since}"))
        .into_owned()
}

/// Converts seconds since 1970.
pub(super) fn seconds(seconds: u64) -> FileTime {
    FileTime { seconds: i64::try_from(seconds).unwrap_or(i64::MAX), nanos: 0 }
}

/// Formats the closing line of a mirror, or the steps of its dry run.
pub fn mirrored(mirrored: &MirrorResult) -> Vec<String> {
    match &mirrored.planned {
        Some(steps) if !steps.is_empty() => {
            steps.iter().map(|step| format!("{} {}", step.action, sanitize(&step.path))).collect()
        }
        None if !mirrored.is_unchanged() => vec![with_deleted(&mirrored.summary, mirrored.deleted)],
        _ => {
            let skipped = match mirrored.summary.skipped.len() {
                0 => String::new(),
                n => format!(", {n} skipped"),
            };
            vec![format!("nothing to do{skipped}")]
        }
    }
}

fn with_deleted(several: &BatchSummary, deleted: u64) -> String {
    let BatchSummary { files, folders, bytes, time, skipped, failed, .. } = several;
    let part = |n: u64, what: &str| if n > 0 { format!(", {n} {what}") } else { String::new() };
    let files = pluralize(*files, "file");
    let (folders, deleted, skipped, failed) = (
        if *folders > 0 { format!(", {}", pluralize(*folders, "folder")) } else { String::new() },
        part(deleted, "deleted"),
        part(skipped.len() as u64, "skipped"),
        part(failed.len() as u64, "failed"),
    );
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
    let kind = match shown.kind {
        ListedKind::File => "file",
        ListedKind::Folder => "folder",
        ListedKind::Other => "other",
    };
    let mut lines = vec![
        sanitize(shown.path.as_deref().unwrap_or(&shown.name)).into_owned(),
        format!("  kind     {kind}"),
        format!("  mode     {}", shown.mode),
    ];
    if shown.kind == ListedKind::File {
        lines.push(format!("  size     {} ({})", shown.size, human_bytes(shown.size)));
    }
    lines.push(format!("  changed  {}", rfc3339(shown.mtime).unwrap_or_else(|| "?".to_owned())));
    if let Some(version) = shown.version {
        lines.push(format!("  version  {version}"));
    }
    if let Some(content) = shown.content.as_ref().filter(|_| shown.kind == ListedKind::File) {
        lines.push(format!(
            "  digest   {}",
            content.digest.map_or_else(|| "not known yet".to_owned(), |d| d.to_string())
        ));
        if let Some(holders) = content.holders.as_ref().filter(|h| !h.is_empty()) {
            lines.push(format!("  holders  {}", holders.join(", ")));
        }
    }
    lines.join("\n")
}

/// Formats a line as `b3sum` prints it.
pub fn digest(shown: &ListedEntry) -> String {
    let digest = shown
        .content
        .as_ref()
        .and_then(|c| c.digest)
        .map_or_else(|| "-".to_owned(), |d| d.to_string());
    format!("{digest}  {}", sanitize(shown.path.as_deref().unwrap_or(&shown.name)))
}

/// Formats the state of the current server.
pub fn status(state: &ServerStatus) -> String {
    let (report, counters) = (&state.report, &state.report.counters);
    let role = match state.role {
        ServerRole::Standalone => "standalone slave",
        ServerRole::Slave => "slave of a cluster",
        ServerRole::Master => "master",
    };
    let mut lines = vec![
        format!("server    {} ({role}), reached through {}", state.server, state.host),
        format!("slave     {}", report.slave),
        format!("cluster   {}", state.cluster.map_or_else(|| "-".to_owned(), |c| c.to_string())),
        format!(
            "transport {}",
            state.authority.map_or_else(
                || "not encrypted".to_owned(),
                |by| format!("encrypted (TLS 1.3), authority {by}")
            )
        ),
        format!("number    {}", report.lsn),
        format!(
            "holds     {}, {}, {}",
            pluralize(counters.files, "file"),
            pluralize(counters.folders, "folder"),
            human_bytes(counters.bytes)
        ),
        format!("hashing   {} left", pluralize(counters.unhashed, "file")),
        format!("skipped   {}", skipped(counters)),
        format!("rescans   {}", counters.rescans),
        format!("unapplied {}", counters.unapplied),
        format!(
            "uploads   {} unfinished, {}",
            counters.uploads,
            human_bytes(counters.upload_bytes)
        ),
        format!(
            "sessions  {} open, {} waiting, {}",
            counters.sessions,
            counters.waiting,
            pluralize(counters.workers, "worker")
        ),
    ];
    let confined = counters.confinement.names();
    lines.push(format!(
        "confined  {}",
        if confined.is_empty() { "not at all".to_owned() } else { confined.join(", ") }
    ));
    if !counters.confinement.has(Confinement::FOLDER) {
        lines.push(
            "warning   workers are not confined to the folder (Landlock is not in force)"
                .to_owned(),
        );
    }
    if !report.last_error.is_empty() {
        lines.push(format!("error     {}", sanitize(&report.last_error)));
    }
    lines.join("\n")
}

fn skipped(counters: &Counters) -> String {
    let names = |count, noun| (count, pluralize(count, noun));
    let unserved = |count| format!("{} that cannot be served", pluralize(count, "name"));
    let special = format!("{} and the like", pluralize(counters.skipped_special, "device"));
    let kinds = [
        names(counters.skipped_links, "link"),
        (counters.skipped_special, special),
        names(counters.skipped_mounts, "mount point"),
        (counters.skipped_names, unserved(counters.skipped_names)),
        (counters.skipped_unreadable, format!("{} unreadable", counters.skipped_unreadable)),
    ];
    let named: Vec<String> =
        kinds.into_iter().filter(|(count, _)| *count > 0).map(|(_, text)| text).collect();
    if named.is_empty() { "nothing".to_owned() } else { named.join(", ") }
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
        let time = |seconds, nanos| rfc3339(FileTime { seconds, nanos });
        assert_eq!(time(1_763_721_545, 0).unwrap(), "2025-11-21T10:39:05Z");
        assert_eq!(time(-1, 500_000_000).unwrap(), "1969-12-31T23:59:59.5Z");
        assert_eq!(time(i64::MAX, 0), None);
    }

    #[test]
    fn closing_line_of_a_download() {
        let mut file = Received {
            remote: "/big.bin".into(),
            local: "_CLIENTROOT/big.bin".into(),
            bytes: 104_857_600,
            time: Duration::from_millis(820),
            slaves: vec!["127.0.0.1:2122".into(), "127.0.0.1:2123".into()],
            resumed_from: 0,
        };
        assert_eq!(
            received(&file),
            "/big.bin -> _CLIENTROOT/big.bin: 104857600 bytes in 0.82 s (122.0 MiB/s) \
             from 127.0.0.1:2122, 127.0.0.1:2123, verified"
        );
        file.resumed_from = 41_943_040;
        assert!(received(&file).ends_with(", resumed from 41943040, verified"));
    }

    #[test]
    fn closing_lines_of_uploads_and_batches() {
        let file = Sent {
            remote: "/x".into(),
            local: "big.bin".into(),
            bytes: 2048,
            time: Duration::from_secs(1),
            slaves: vec!["127.0.0.1:2122".into()],
            resumed_from: 1024,
            version: relais_proto::Lsn { epoch: 1, number: 42 },
            copies: 2,
        };
        assert_eq!(
            sent(&file),
            "big.bin -> /x: 2048 bytes in 1.00 s (1.0 KiB/s) to 127.0.0.1:2122, \
             resumed from 1024, verified, version 1-42, 2 copies"
        );
        let mut many = BatchSummary {
            files: 2,
            bytes: 2048,
            time: Duration::from_secs(2),
            ..BatchSummary::default()
        };
        assert_eq!(several(&many), "2 files, 2048 bytes in 2.00 s (1.0 KiB/s)");
        (many.folders, many.skipped) = (3, vec!["link".into()]);
        assert_eq!(
            several(&many),
            "2 files, 3 folders, 2048 bytes in 2.00 s (1.0 KiB/s), 1 skipped"
        );
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
