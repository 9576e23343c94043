//! The `.log`: round trips, hostile input, and concurrent writers.

use std::os::unix::fs::symlink;
use std::path::Path;

use proptest::prelude::*;
use relais_proto::{
    ChangeId, ClusterId, Digest, Expect, FileTime, Identity, Lsn, SlaveId, TreePath,
};
use relais_transfer::{Ranges, Resume};

use super::file::{TransferLog, parse_all};
use super::line::{LineError, format, parse};
use super::*;
use crate::Result;
use crate::origin::Origin;

fn entry(local: &str) -> TransferEntry {
    TransferEntry {
        remote: TreePath::new("dir/näme with % and space").unwrap(),
        local: local.to_owned(),
        origin: Origin {
            host: "box:2121".to_owned(),
            authority: Some(format!("SHA256:{}", "0c".repeat(32)).parse().unwrap()),
            cluster: ClusterId([0xab; 16]),
        },
        since: 1_795_000_000,
        task: TransferTask::Get(Some(Resume {
            size: 5_000_000,
            mtime: FileTime { seconds: -1, nanos: 7 },
            digest: Some(Digest([1; 32])),
            identity: Some(Identity([2; 16])),
            version: Some(Lsn { epoch: 1, number: 42 }),
            good: "0-1048576,2097152-2097153".parse().unwrap(),
        })),
    }
}

fn bare(local: &str) -> TransferEntry {
    TransferEntry { task: TransferTask::Get(None), ..entry(local) }
}

fn upload(local: &str) -> TransferEntry {
    let task = TransferTask::Put(UploadRecord {
        id: ChangeId([3; 16]),
        slave: Some(SlaveId([4; 16])),
        size: 7,
        identity: Identity([5; 16]),
        expect: Expect::Lsn(Lsn { epoch: 1, number: 42 }),
        sent: 3,
    });
    TransferEntry { task, ..entry(local) }
}

fn tree(local: &str, task: TransferTask) -> TransferEntry {
    TransferEntry { remote: TreePath::root(), task, ..entry(local) }
}

/// One entry of each kind.
fn all() -> Vec<TransferEntry> {
    vec![
        entry("some name"),
        bare("x"),
        upload("y"),
        tree("z", TransferTask::GetTree),
        tree("z", TransferTask::PutTree),
    ]
}

fn open(folder: &Path) -> TransferLog {
    TransferLog::open(folder).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn line_has_the_documented_format() {
    let text = format(&entry("a b"));
    let origin = format!("box:2121 SHA256:{} {}", "0c".repeat(32), "ab".repeat(16));
    let front = format!(
        "1 get dir/n%C3%A4me%20with%20%25%20and%20space a%20b {origin} 1795000000 \
         1-42 5000000 {} {} -1.000000007 0-1048576,2097152-2097153 ",
        "01".repeat(32),
        "02".repeat(16)
    );
    assert!(text.starts_with(&front) && text.len() == front.len() + 16, "{text}");
    assert_eq!(parse(text.as_bytes()).unwrap(), entry("a b"));
    let text = format(&bare("x"));
    assert!(text.contains(" - - - - - - "));
    assert_eq!(parse(text.as_bytes()).unwrap(), bare("x"));

    let names = format!("dir/n%C3%A4me%20with%20%25%20and%20space y {origin} 1795000000");
    let text = format(&upload("y"));
    let front = format!(
        "1 put {names} {} {} 7 {} 1-42 3 ",
        "03".repeat(16),
        "04".repeat(16),
        "05".repeat(16)
    );
    assert!(text.starts_with(&front) && text.len() == front.len() + 16, "{text}");
    for expect in [Expect::Any, Expect::Absent, Expect::Unnumbered] {
        let TransferTask::Put(known) = upload("y").task else { unreachable!() };
        let entry = TransferEntry {
            task: TransferTask::Put(UploadRecord { slave: None, expect, ..known }),
            ..upload("y")
        };
        assert_eq!(parse(format(&entry).as_bytes()).unwrap(), entry);
    }
    assert!(
        format(&tree(".", TransferTask::GetTree))
            .starts_with(&format!("1 get-r / . {origin} 1795000000 "))
    );
    assert!(
        format(&tree(".", TransferTask::PutTree))
            .starts_with(&format!("1 put-r / . {origin} 1795000000 "))
    );
}

#[test]
fn the_longest_line_fits() {
    let mut long = entry(&"\u{1}".repeat(4095));
    long.remote = TreePath::new(vec!["ä".repeat(127); 16].join("/")).unwrap();
    if let TransferTask::Get(Some(state)) = &mut long.task {
        (state.size, state.good) = (u64::MAX, Ranges::new());
        for i in 0..400 {
            state.good.insert(u64::MAX - 2000 + 4 * i..u64::MAX - 1999 + 4 * i);
        }
    }
    let text = format(&long);
    let TransferTask::Get(Some(state)) = parse(text.as_bytes()).unwrap().task else {
        panic!("{text}")
    };
    assert_eq!(state.good.len(), 256);
}

#[test]
fn checksum_detects_every_changed_byte() {
    for entry in all() {
        let line = format(&entry).into_bytes();
        for at in 0..line.len() {
            for change in 0..=255_u8 {
                let mut changed = line.clone();
                changed[at] = change;
                assert!(change == line[at] || parse(&changed).is_err(), "byte {at} as {change}");
                let mut longer = line.clone();
                longer.insert(at, change);
                assert!(parse(&longer).is_err(), "{change} before byte {at}");
            }
            let mut shorter = line.clone();
            shorter.remove(at);
            assert!(parse(&shorter).is_err(), "without byte {at}");
            assert!(parse(&line[..at]).is_err(), "cut at {at}");
        }
    }
}

/// Joins the fields and appends a valid checksum.
fn checked(fields: &[&str]) -> Vec<u8> {
    let front = fields.join(" ") + " ";
    let check = names::short_hash(front.as_bytes());
    (front + &check).into_bytes()
}

#[test]
fn every_field_is_checked_under_a_good_checksum() {
    let over = format!("/{}", "x".repeat(4095));
    let names: [(usize, &[&str]); 6] = [
        (
            2,
            &[
                "",
                "/",
                "..",
                "a/../b",
                "/a",
                ".relais/x",
                "%",
                "%4",
                "%zz",
                "%c3%a4",
                "%61",
                "a%00b",
                "%FF",
                &over,
            ],
        ),
        (3, &["", "a%00", "%ff", &over]),
        (6, &["", "-", "ab", "ABABABABABABABABABABABABABABABAB"]),
        (4, &["", "-", "box", "BOX:2121", "box.:2121", "box:0", "a/b:1", "%62ox:2121"]),
        (5, &["", "0", "SHA256:00", "SHA512:00"]),
        (7, &["", "-", "x", "-1", "+1", "01", "18446744073709551616"]),
    ];
    every_value_is_refused(&entry("local"), &names);
    every_value_is_refused(&upload("local"), &names);
    every_value_is_refused(
        &tree("local", TransferTask::PutTree),
        &names.map(|(at, values)| (at, if at == 2 { &values[2..] } else { values })),
    );
    every_value_is_refused(
        &entry("local"),
        &[
            (8, &["", "1", "1-", "01-2", "+1-2", "4294967296-1", "1-2-3"]),
            (9, &["", "-", "x", "18446744073709551616", "+5000000", "05000000", "2097152", "0"]),
            (10, &["", "0", "é"]),
            (11, &["", "0"]),
            (
                12,
                &[
                    "",
                    "-",
                    "0",
                    "0.",
                    "0.0",
                    "0.1000000000",
                    "+0.000000000",
                    "9223372036854775808.000000000",
                ],
            ),
            (
                13,
                &[
                    "",
                    "0-0",
                    "5-3",
                    "0-5000001",
                    "0-2,1-3",
                    "0-1,1-2",
                    "x",
                    "0-18446744073709551616",
                ],
            ),
        ],
    );
    every_value_is_refused(
        &upload("local"),
        &[
            (
                8,
                &[
                    "",
                    "-",
                    "0",
                    "0303030303030303030303030303030G",
                    "03030303030303030303030303030303 ",
                ],
            ),
            (9, &["", "0", "0404040404040404040404040404040404"]),
            (10, &["", "-", "x", "+7", "07", "9223372036854775808", "18446744073709551616"]),
            (11, &["", "-", "0", "ABABABABABABABABABABABABABABABAB"]),
            (13, &["", "-", "x", "+3", "03", "8"]),
            (12, &["", "-", "ANY", "any ", "1", "01-42", "1-+42", "4294967296-1"]),
        ],
    );
}

/// Checks that each bad value is refused, and so are one field more and one fewer.
fn every_value_is_refused(entry: &TransferEntry, bad: &[(usize, &[&str])]) {
    let text = format(entry);
    let mut fields: Vec<&str> = text.split(' ').collect();
    fields.pop();
    assert!(parse(&checked(&fields)).is_ok());
    for (at, values) in bad {
        for value in *values {
            let mut changed = fields.clone();
            changed[*at] = value;
            assert!(parse(&checked(&changed)).is_err(), "field {at} as {value:?}");
        }
    }
    assert_eq!(parse(&checked(&fields[..fields.len() - 1])), Err(LineError::Fields));
    fields.push("more");
    assert_eq!(parse(&checked(&fields)), Err(LineError::Fields));
}

#[test]
fn lines_of_other_versions_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(".log");
    let later = [
        &["2", "get", "a", "b"][..],
        &["1", "PUT", "x"],
        &["1", "", "x"],
        &["3", "anything"],
        &["1", "mirror"],
    ]
    .map(checked);
    let text: Vec<u8> = later.iter().flat_map(|line| [line, &b"\n"[..]].concat()).collect();
    std::fs::write(&path, &text).unwrap();
    let mut log = open(folder.path());
    let contents = log.read().unwrap();
    assert!(
        contents.entries.is_empty()
            && contents.bad.iter().all(|bad| matches!(bad.why, LineError::Unknown(_)))
    );
    assert_eq!(contents.unknown.len(), later.len());
    log.put(bare("a")).unwrap();
    log.remove(&[bare("a")]).unwrap();
    let left = std::fs::read(&path).unwrap();
    assert!(left.starts_with(b"# ") && left.ends_with(&text), "{}", String::from_utf8_lossy(&left));
    // A line that no version wrote is removed.
    std::fs::write(&path, "2 get a b 0123456789abcdef\nnonsense\n").unwrap();
    log.put(bare("a")).unwrap();
    log.remove(&[bare("a")]).unwrap();
    assert!(names(folder.path()).is_empty());
}

#[test]
fn bad_lines_are_reported_and_others_used() {
    let mut text = b"# comment\n\n".to_vec();
    for line in [
        format(&entry("a")),
        "nonsense".to_owned(),
        format(&entry("b")),
        format(&bare("a")),
        "x".repeat(50_000),
    ] {
        text.extend_from_slice(line.as_bytes());
        text.push(b'\n');
    }
    text.extend_from_slice(b"\xff\xfe");
    let contents = parse_all(&text);
    assert_eq!(contents.entries, [entry("a"), entry("b")]);
    let bad: Vec<(usize, LineError)> =
        contents.bad.into_iter().map(|bad| (bad.number, bad.why)).collect();
    assert_eq!(
        bad,
        [
            (4, LineError::Fields),
            (6, LineError::Twice),
            (7, LineError::TooLong),
            (8, LineError::NotUtf8)
        ]
    );
}

#[test]
fn a_huge_file_is_read_in_part() {
    let mut text = format!("{}\n", format(&entry("a"))).into_bytes();
    text.resize(3 << 20, b'#');
    let contents = parse_all(&text[..(1 << 20) + 1]);
    assert_eq!(contents.entries, [entry("a")]);
    assert_eq!(contents.bad.last().unwrap().why, LineError::FileTooLong);
    let many: String = (0..2000).map(|i| format!("{}\n", format(&bare(&i.to_string())))).collect();
    assert_eq!(parse_all(many.as_bytes()).entries.len(), 1000);
    assert!(parse_all(&b"x\n".repeat(500_000)).bad.len() <= 101);
}

#[test]
fn log_is_removed_with_its_last_entry() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = open(folder.path());
    assert!(log.read().unwrap().entries.is_empty());
    log.put(bare("a")).unwrap();
    log.put(entry("b")).unwrap();
    log.put(entry("a")).unwrap();
    assert_eq!(names(folder.path()), [".log"]);
    assert_eq!(open(folder.path()).read().unwrap().entries, [entry("a"), entry("b")]);
    for other in [
        Origin { cluster: ClusterId([1; 16]), ..entry("a").origin },
        Origin { host: "else:2121".to_owned(), ..entry("a").origin },
        Origin { authority: None, ..entry("a").origin },
    ] {
        log.remove(&[TransferEntry { origin: other, ..entry("a") }]).unwrap();
    }
    log.remove(&[upload("a")]).unwrap();
    assert_eq!(log.read().unwrap().entries.len(), 2);
    log.remove(&[bare("a")]).unwrap();
    assert_eq!(log.read().unwrap().entries, [entry("b")]);
    log.remove(&[entry("b")]).unwrap();
    log.remove(&[entry("b")]).unwrap();
    assert!(names(folder.path()).is_empty());
}

#[test]
fn download_key_is_local_upload_key_has_target() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = open(folder.path());
    let elsewhere =
        |entry: TransferEntry| TransferEntry { remote: TreePath::new("else").unwrap(), ..entry };
    log.put(entry("a")).unwrap();
    log.put(elsewhere(entry("a"))).unwrap();
    assert_eq!(log.read().unwrap().entries, [elsewhere(entry("a"))]);
    for entry in [
        upload("a"),
        elsewhere(upload("a")),
        upload("a"),
        tree("a", TransferTask::GetTree),
        tree("a", TransferTask::PutTree),
    ] {
        log.put(entry).unwrap();
    }
    assert_eq!(log.read().unwrap().entries.len(), 5);
    log.remove(&[elsewhere(upload("a"))]).unwrap();
    assert_eq!(log.read().unwrap().entries[1], upload("a"));
}

#[test]
fn concurrent_writers_lose_no_entries() {
    let folder = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let path = folder.path();
            scope.spawn(move || {
                let mut log = open(path);
                for i in 0..25 {
                    log.put(entry(&format!("{writer}-{i}"))).unwrap();
                    if i % 5 > 0 {
                        log.remove(&[bare(&format!("{writer}-{i}"))]).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(open(folder.path()).read().unwrap().entries.len(), 20);
    assert_eq!(names(folder.path()), [".log"]);
}

fn is_foreign<T>(result: &Result<T>) -> bool {
    result.as_ref().is_err_and(|failure| failure.message.contains("not a file of its own"))
}

#[test]
fn only_regular_files_are_used_as_log() {
    let folder = tempfile::tempdir().unwrap();
    let (path, victim) = (folder.path().join(".log"), folder.path().join("victim"));
    let refused = || TransferLog::open(folder.path());
    std::fs::write(&victim, "precious").unwrap();
    for target in [&victim, Path::new("nowhere"), Path::new("/dev/null")] {
        symlink(target, &path).unwrap();
        assert!(is_foreign(&refused()), "{target:?}");
        std::fs::remove_file(&path).unwrap();
    }
    std::fs::create_dir(&path).unwrap();
    assert!(is_foreign(&refused()));
    std::fs::remove_dir(&path).unwrap();
    // Conflicts that appear later, and links at the temporary name.
    let mut log = refused().unwrap();
    symlink(&victim, &path).unwrap();
    assert!(is_foreign(&log.put(entry("a"))));
    std::fs::remove_file(&path).unwrap();
    symlink(&victim, folder.path().join(".relais-log.new")).unwrap();
    log.put(entry("a")).unwrap();
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
    assert_eq!(names(folder.path()), [".log", "victim"]);
}

#[test]
fn part_names_are_short_and_reserved() {
    assert_eq!(part_name("x").len(), ".relais-0123456789abcdef.part".len());
    assert_ne!(part_name("x"), part_name("y"));
    let one = entry("x").origin;
    let lock = lock_name(&TreePath::new("a").unwrap(), "x", &one);
    let other = Origin { authority: None, ..one.clone() };
    assert_ne!(lock, lock_name(&TreePath::new("a").unwrap(), "x", &other));
    assert_ne!(lock, lock_name(&TreePath::new("ax").unwrap(), "", &one));
    for ours in
        [&lock, &part_name(&"x".repeat(255)), ".log", ".LOG", ".relais-log.new", ".Relais-x.part"]
    {
        assert!(is_reserved(ours), "{ours}");
    }
    for other in ["log", ".log2", ".relais-x", "x.part", ""] {
        assert!(!is_reserved(other), "{other}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_parsed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        parse_all(&bytes);
        parse(&bytes).ok();
    }

    #[test]
    fn arbitrary_fields_with_valid_checksum(
        fields in prop::collection::vec(
            "[ -~]{0,12}|1|get|put|get-r|-|[0-9]{1,20}|[0-9a-f]{32}|[0-9a-f]{64}|0-[0-9]{1,5}",
            3..12,
        ),
    ) {
        let fields: Vec<String> = fields.iter().map(|field| field.replace(' ', "")).collect();
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        let line = checked(&fields);
        if let Ok(entry) = parse(&line) {
            prop_assert_eq!(format(&entry).into_bytes(), line);
        }
    }

    #[test]
    fn entries_round_trip(
        local in "[^\0]{1,40}",
        size in any::<u64>(),
        seconds in any::<i64>(),
        nanos in 0..1_000_000_000_u32,
        cuts in prop::collection::btree_set(0..u64::MAX, 0..20),
    ) {
        let mut good = Ranges::new();
        let cuts: Vec<u64> = cuts.into_iter().filter(|cut| *cut < size).collect();
        for pair in cuts.chunks_exact(2) {
            good.insert(pair[0]..pair[1]);
        }
        let mtime = FileTime { seconds, nanos };
        let state = Resume { size, mtime, digest: None, identity: None, version: None, good };
        let entry = TransferEntry { task: TransferTask::Get(Some(state)), ..bare(&local) };
        prop_assert_eq!(parse(format(&entry).as_bytes()).unwrap(), entry);
    }
}
