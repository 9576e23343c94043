//! The `.log`: round trips, hostile input, and concurrent writers.

use std::os::unix::fs::symlink;
use std::path::Path;

use proptest::prelude::*;
use relais_proto::{
    ChangeId, ClusterId, Digest, Expect, FileTime, Identity, Lsn, SlaveId, TreePath,
};
use relais_transfer::{Ranges, Resume};

use super::file::{TransferLog, parse_all};
use super::line::{format, parse};
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
        task: TransferTask::Get(Some(DownloadRecord(Resume {
            size: 5_000_000,
            mtime: FileTime { seconds: -1, nanos: 7 },
            digest: Some(Digest([1; 32])),
            identity: Some(Identity([2; 16])),
            version: Some(Lsn { epoch: 1, number: 42 }),
            good: "0-1048576,2097152-2097153".parse().unwrap(),
        }))),
        signature: None,
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
    let origin = format!(
        r#""origin":{{"host":"box:2121","authority":"SHA256:{}","cluster":"{}"}}"#,
        "0c".repeat(32),
        "ab".repeat(16)
    );
    let front = |remote: &str, local: &str, task: &str| {
        format!(
            r#"2 {{"remote":"{remote}","local":"{local}",{origin},"since":1795000000,"task":{task}}} "#
        )
    };
    let check = |entry: TransferEntry, front: String| {
        let text = format(&entry);
        assert!(text.starts_with(&front) && text.len() == front.len() + 16, "{text}\n{front}");
        assert_eq!(parse(text.as_bytes()).unwrap().unwrap(), entry);
    };
    let name = "/dir/näme with % and space";
    let state = format!(
        r#"{{"get":{{"size":5000000,"mtime":{{"seconds":-1,"nanos":7}},"digest":"{}","identity":"{}","version":"1-42","good":"0-1048576,2097152-2097153"}}}}"#,
        "01".repeat(32),
        "02".repeat(16)
    );
    check(entry("a\nb"), front(name, r"a\nb", &state));
    check(bare("x"), front(name, "x", r#"{"get":null}"#));
    let state = |slave: &str, expect: &str| {
        format!(
            r#"{{"put":{{"id":"{}","slave":{slave},"size":7,"identity":"{}","expect":{expect},"sent":3}}}}"#,
            "03".repeat(16),
            "05".repeat(16)
        )
    };
    let slave = format!("\"{}\"", "04".repeat(16));
    check(upload("y"), front(name, "y", &state(&slave, r#"{"lsn":"1-42"}"#)));
    for (expect, text) in [
        (Expect::Any, r#""any""#),
        (Expect::Absent, r#""absent""#),
        (Expect::Unnumbered, r#""unnumbered""#),
    ] {
        let TransferTask::Put(known) = upload("y").task else { unreachable!() };
        let entry = TransferEntry {
            task: TransferTask::Put(UploadRecord { slave: None, expect, ..known }),
            ..upload("y")
        };
        check(entry, front(name, "y", &state("null", text)));
    }
    check(tree(".", TransferTask::GetTree), front("/", ".", r#""get-r""#));
    check(tree(".", TransferTask::PutTree), front("/", ".", r#""put-r""#));
}

#[test]
fn the_longest_line_fits() {
    let mut long = entry(&"\u{1}".repeat(4095));
    long.remote = TreePath::new(vec!["ä".repeat(127); 16].join("/")).unwrap();
    if let TransferTask::Get(Some(DownloadRecord(state))) = &mut long.task {
        (state.size, state.good) = (u64::MAX, Ranges::new());
        for i in 0..400 {
            state.good.insert(u64::MAX - 2000 + 4 * i..u64::MAX - 1999 + 4 * i);
        }
    }
    let text = format(&long);
    let TransferTask::Get(Some(DownloadRecord(state))) =
        parse(text.as_bytes()).unwrap().unwrap().task
    else {
        panic!("{text}")
    };
    assert_eq!(state.good.iter().count(), 256);
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

/// Appends a valid checksum.
fn checked(front: &str) -> Vec<u8> {
    let front = format!("{front} ");
    let check = names::short_hash(front.as_bytes());
    (front + &check).into_bytes()
}

#[test]
fn every_field_is_checked_under_a_good_checksum() {
    let over = format!("\"/{}\"", "x".repeat(4096));
    let any = ["", "[]", "{}", "\"\"", "true"];
    let number = ["-1", "07", "+7", "7.0", "\"7\"", "18446744073709551616"];
    let id = [
        "null",
        "\"ab\"",
        "\"ABABABABABABABABABABABABABABABAB\"",
        "\"0303030303030303030303030303030G\"",
    ];
    let remote = [
        "null",
        "\"a\"",
        "\"/..\"",
        "\"/a/../b\"",
        "\"//a\"",
        "\"/.relais/x\"",
        "\"/a\\u0000b\"",
        &over,
    ];
    let name = [
        (r#""local":"#, &["null", "\"a\\u0000\"", "\"\\u0061\"", "\"\\ud800\"", &over][..]),
        (r#""remote":"#, &remote),
        (r#""host":"#, &["\"box\"", "\"BOX:2121\"", "\"box.:2121\"", "\"box:0\"", "\"a/b:1\""]),
        (r#""authority":"#, &["\"0\"", "\"SHA256:00\"", "\"SHA512:00\""]),
        (r#""cluster":"#, &id),
        (r#""since":"#, &number),
        (r#""task":"#, &["\"get\"", "\"put\"", "\"mirror\"", r#"{"get-r":1}"#]),
    ];
    let lsn = ["\"1\"", "\"1-\"", "\"01-2\"", "\"+1-2\"", "\"4294967296-1\"", "\"1-2-3\""];
    let get = [
        (r#""version":"#, &lsn[..]),
        (r#""size":"#, &["null", "0", "2097152", "05000000", "+5000000", "18446744073709551616"]),
        (r#""digest":"#, &["\"0\"", "\"é\""]),
        (r#""identity":"#, &["\"0\""]),
        (r#""nanos":"#, &["1000000000", "07", "+7"]),
        (r#""seconds":"#, &["9223372036854775808", "0.5"]),
        (
            r#""good":"#,
            &[
                "\"0-0\"",
                "\"5-3\"",
                "\"0-5000001\"",
                "\"0-2,1-3\"",
                "\"0-1,1-2\"",
                "\"0-18446744073709551616\"",
            ],
        ),
    ];
    let put = [
        (r#""id":"#, &id[..]),
        (r#""slave":"#, &["\"0\"", "\"0404040404040404040404040404040404\""]),
        (r#""size":"#, &["null", "2", "9223372036854775808", "18446744073709551616"]),
        (r#""identity":"#, &["\"0\""]),
        (r#""expect":"#, &["null", "\"ANY\"", "\"lsn\"", r#"{"lsn":"01-42"}"#, r#"{"any":1}"#]),
        (r#""sent":"#, &["8", "03", "+3"]),
    ];
    let root = tree("local", TransferTask::PutTree);
    for (entry, fields) in [
        (entry("local"), [&name[..], &get].concat()),
        (upload("local"), [&name[..], &put].concat()),
        (root, name.to_vec()),
    ] {
        let text = serde_json::to_string(&entry).unwrap();
        assert!(parse(&checked(&format!("2 {text}"))).is_ok());
        for (field, values) in fields {
            let (front, rest) = text.split_once(field).unwrap();
            let mut old = serde_json::Deserializer::from_str(rest).into_iter::<serde_json::Value>();
            old.next().unwrap().unwrap();
            let end = &rest[old.byte_offset()..];
            for value in values.iter().chain(&any) {
                let line = checked(&format!("2 {front}{field}{value}{end}"));
                assert!(parse(&line).is_err(), "{field} as {value}");
            }
            let twice = format!("{field}{}", &rest[..old.byte_offset()]);
            assert!(parse(&checked(&format!("2 {front}{twice},{twice}{end}"))).is_err(), "{twice}");
            let fewer = checked(&format!("2 {front}{}", end.trim_start_matches(',')));
            assert!(parse(&fewer).is_err(), "without {field}");
        }
        for other in [format!("{text} "), format!(" {text}"), format!("{text}{text}")] {
            assert!(parse(&checked(&format!("2 {other}"))).is_err(), "{other}");
        }
    }
    let root = TransferEntry { remote: TreePath::root(), ..entry("local") };
    assert_eq!(parse(format(&root).as_bytes()), Err("its remote name cannot be read".to_owned()));
}

#[test]
fn lines_of_other_versions_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(".log");
    let later = ["1 get a b", "3 {}", "3 anything", "22", " x"].map(checked);
    let text: Vec<u8> = later.iter().flat_map(|line| [line, &b"\n"[..]].concat()).collect();
    std::fs::write(&path, &text).unwrap();
    let mut log = open(folder.path());
    let contents = log.read().unwrap();
    assert!(
        contents.entries.is_empty()
            && contents.bad.iter().all(|(_, why)| why.starts_with("another version"))
    );
    assert_eq!(contents.unknown.len(), later.len());
    log.put(bare("a")).unwrap();
    log.remove(&[bare("a")]).unwrap();
    let left = std::fs::read(&path).unwrap();
    assert!(left.starts_with(b"# ") && left.ends_with(&text), "{}", String::from_utf8_lossy(&left));
    // A line that no version wrote is removed.
    std::fs::write(
        &path,
        "# Unfinished transfers of ftpclient\n3 get a b 0123456789abcdef\nnonsense\n",
    )
    .unwrap();
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
        "x".repeat(70_000),
    ] {
        text.extend_from_slice(line.as_bytes());
        text.push(b'\n');
    }
    text.extend_from_slice(b"\xff\xfe");
    let contents = parse_all(&text);
    assert_eq!(contents.entries, [entry("a"), entry("b")]);
    let bad: Vec<(usize, &str)> =
        contents.bad.iter().map(|(number, why)| (*number, why.as_str())).collect();
    assert_eq!(
        bad,
        [
            (4, "its checksum does not fit"),
            (6, "another line is about the same files"),
            (7, "it is too long"),
            (8, "it is not UTF-8")
        ]
    );
}

#[test]
fn a_huge_file_is_read_in_part() {
    let mut text = format!("{}\n", format(&entry("a"))).into_bytes();
    text.resize(3 << 20, b'#');
    let contents = parse_all(&text[..(1 << 20) + 1]);
    assert_eq!(contents.entries, [entry("a")]);
    assert!(contents.bad.last().unwrap().1.starts_with("the file is too long"));
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

#[test]
fn file_of_another_program_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(".log");
    for text in [&b"started\nstopped\n"[..], b"# notes\n", b"\0\xff", &b"x".repeat(3 << 20)] {
        std::fs::write(&path, text).unwrap();
        let mut log = open(folder.path());
        for result in [log.put(bare("a")), log.remove(&[bare("a")]), log.read().map(drop)] {
            let message = result.unwrap_err().message;
            assert!(message.contains("another program wrote this file"), "{message}");
            assert!(message.contains("rename it"), "{message}");
        }
        assert!(std::fs::read(&path).unwrap() == text);
    }
    // An empty file, and one with any valid line, are used.
    for text in [String::new(), "\n".to_owned(), format!("nonsense\n{}\n", format(&bare("b")))] {
        std::fs::write(&path, text).unwrap();
        open(folder.path()).put(bare("a")).unwrap();
    }
}

#[test]
fn signature_covers_files_and_folder() {
    let (key, home) = ([7; 32], Path::new("/home/ann"));
    let sign = |entry: &TransferEntry| entry.signature(&key, home);
    let own = upload("/x");
    let others = [
        upload("/y"),
        tree("/x", TransferTask::PutTree),
        entry("/x"),
        TransferEntry { remote: TreePath::new("else").unwrap(), ..own.clone() },
        TransferEntry {
            origin: Origin { host: "else:2121".to_owned(), ..own.origin.clone() },
            ..own.clone()
        },
    ];
    assert!(others.iter().all(|other| sign(other) != sign(&own)));
    assert_ne!(own.signature(&key, Path::new("/home")), sign(&own));
    assert_ne!(own.signature(&[8; 32], home), sign(&own));
    assert_eq!(sign(&bare("/x")), sign(&entry("/x")), "progress is not covered");
    let signed = TransferEntry { signature: Some(sign(&own)), ..own };
    assert_eq!(parse(format(&signed).as_bytes()).unwrap().unwrap(), signed);
}

fn is_foreign<T>(result: &Result<T>) -> bool {
    result.as_ref().is_err_and(|failure| failure.message.contains("not a file of its own"))
}

#[test]
fn only_regular_files_are_used_as_log() {
    let folder = tempfile::tempdir().unwrap();
    let (path, victim) = (folder.path().join(".log"), folder.path().join("victim"));
    let refused = || TransferLog::open(folder.path()).and_then(|log| log.read().map(|_| log));
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
    fn arbitrary_text_with_valid_checksum(
        at in 0..4_usize,
        change in "[ -~]{0,12}",
        from in any::<prop::sample::Index>(),
        len in 0..20_usize,
    ) {
        let mut text = serde_json::to_string(&all()[at]).unwrap().into_bytes();
        let from = from.index(text.len());
        let end = text.len().min(from + len);
        text.splice(from..end, change.into_bytes());
        let line = checked(&format!("2 {}", String::from_utf8_lossy(&text)));
        if let Ok(Some(entry)) = parse(&line) {
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
        let entry = TransferEntry { task: TransferTask::Get(Some(DownloadRecord(state))), ..bare(&local) };
        prop_assert_eq!(parse(format(&entry).as_bytes()).unwrap().unwrap(), entry);
    }
}
