//! Local files that appear at the moment of a change to their path: none is destroyed.
//!
//! Afterwards each file lies at its path or in the quarantine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use relais_proto::{ErrorCode, Reply, Request};

use super::{journal_of, open, with_files};
use crate::harness::{
    Cluster, RawClient, SOON, Standalone, Strace, eventually, make_folder, path, process_of, put,
    remove, rename, session, ticket, upload,
};

/// Delay of the replicator before its system call, in microseconds. The local file appears
/// meanwhile.
const HELD: &str = "1500000";

/// Requests, and the path of the local file that appears while the first rename is delayed.
const RACES: [(&str, &str); 6] = [
    ("put over", "over"),
    ("put new", "new"),
    ("rm", "gone"),
    ("rm -r", "d/hand"),
    ("mv over", "target"),
    ("mv new", "free"),
];

/// The files that the changes in [`RACES`] need.
const FILES: [(&str, &[u8]); 6] = [
    ("over", b"old"),
    ("gone", b"old"),
    ("d/f", b"old"),
    ("source", b"source"),
    ("target", b"old"),
    ("source2", b"source2"),
];

fn request(what: &str) -> Request {
    match what {
        "rm" => remove("gone", false),
        "rm -r" => remove("d", true),
        "mv over" => rename("source", "target"),
        "mv new" => rename("source2", "free"),
        other => panic!("{other}"),
    }
}

/// Sends a change without waiting for the answer.
fn send(wire: &mut RawClient, what: &str) {
    match what {
        "put over" => drop(wire.raw(&upload(&put("over", 3), b"new", 3))),
        "put new" => drop(wire.raw(&upload(&put("new", 3), b"new", 3))),
        other => wire.send(&[request(other)]),
    }
}

/// Creates or replaces a local file in one step.
fn by_hand(root: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let made = root.join(format!("../{}.hand", name.replace('/', "-")));
    fs::write(&made, bytes)?;
    fs::rename(made, root.join(name))
}

/// Returns the files below a folder, without `.relais`; files that vanish meanwhile are left out.
fn files(top: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![top.to_owned()];
    while let Some(folder) = open.pop() {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() && path.file_name().is_some_and(|name| name != ".relais") {
                open.push(path);
            } else if let Ok(bytes) = fs::read(&path) {
                found.insert(path.strip_prefix(top).unwrap().to_owned(), bytes);
            }
        }
    }
    found
}

/// Returns local contents that are neither in the folder nor in the quarantine.
fn lost(root: &Path, written: &[Vec<u8>]) -> Vec<String> {
    let mut there: BTreeSet<Vec<u8>> = files(root).into_values().collect();
    there.extend(files(&root.join(".relais/conflicts")).into_values());
    written
        .iter()
        .filter(|bytes| !there.contains(*bytes))
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .collect()
}

#[test]
fn a_standalone_change_destroys_no_new_local_file() {
    let slave = with_files(&[], &FILES);
    let journal = journal_of(&slave);
    let replicator = process_of(&slave.program, "Replicator");
    for (what, at) in RACES {
        let mut wire = open(&slave);
        wire.ping();
        let before = fs::metadata(&journal).unwrap().len();
        let inject = format!("inject=renameat2:delay_enter={HELD}:when=1");
        let strace = Strace::attach(&[replicator], &["-e", "trace=renameat2", "-e", &inject]);
        send(&mut wire, what);
        eventually(SOON, "the change is numbered", || {
            (fs::metadata(&journal).unwrap().len() > before).then_some(())
        });
        by_hand(&slave.root, at, what.as_bytes()).unwrap();
        wire.committed().unwrap_or_else(|refusal| panic!("{what}: {refusal:?}"));
        drop(strace);
        if what == "rm" && slave.root.join(at).exists() {
            // It is a new change, which must not be taken for the next one.
            eventually(SOON, "the new file is numbered", || {
                match wire.ask(&Request::Stat(path(at))) {
                    Reply::Details { entry, .. } => entry.version.map(drop),
                    _ => None,
                }
            });
        }
        assert_eq!(lost(&slave.root, &[what.as_bytes().to_vec()]), Vec::<String>::new(), "{what}");
    }
    let wanted: BTreeMap<PathBuf, Vec<u8>> =
        [("free", b"source2".as_slice()), ("new", b"new"), ("over", b"new"), ("target", b"source")]
            .map(|(name, bytes)| (name.into(), bytes.to_vec()))
            .into();
    let mut left = files(&slave.root);
    // A new file at the path of a removed one is a new change, if it came before the removal.
    left.remove(Path::new("gone"));
    assert_eq!(left, wanted);
}

#[test]
fn a_cluster_change_quarantines_a_new_local_file() {
    let cluster = Cluster::of(2).start();
    let (wires, roots) = both(&cluster);
    let [mut wire, other] = wires;
    wire.change(&make_folder("d")).unwrap();
    for (name, bytes) in FILES {
        wire.put(name, bytes).unwrap();
    }
    let number = || cluster.status_json().unwrap()["number"].as_u64().unwrap();
    let replicator = process_of(&cluster.slaves[0].program, "Replicator");
    drop(other);
    for (what, at) in RACES {
        wire.ping();
        let before = number();
        let inject = format!("inject=renameat2:delay_enter={HELD}:when=1");
        let strace = Strace::attach(&[replicator], &["-e", "trace=renameat2", "-e", &inject]);
        send(&mut wire, what);
        eventually(SOON, "the change is numbered", || (number() > before).then_some(()));
        by_hand(&roots[0], at, what.as_bytes()).unwrap();
        wire.committed().unwrap_or_else(|refusal| panic!("{what}: {refusal:?}"));
        drop(strace);
        assert_eq!(lost(&roots[0], &[what.as_bytes().to_vec()]), Vec::<String>::new(), "{what}");
    }
    let wanted: BTreeMap<PathBuf, Vec<u8>> =
        [("free", b"source2".as_slice()), ("new", b"new"), ("over", b"new"), ("target", b"source")]
            .map(|(name, bytes)| (name.into(), bytes.to_vec()))
            .into();
    for root in &roots {
        eventually(SOON, "both folders have the changes", || (files(root) == wanted).then_some(()));
    }
}

/// Opens a session on both slaves of a cluster, and returns their folders.
fn both(cluster: &Cluster) -> ([RawClient; 2], Vec<PathBuf>) {
    let ticket = ticket(cluster.addr).0;
    let wires = [0, 1].map(|n| session(cluster.slaves[n].addr, &ticket));
    (wires, cluster.slaves.iter().map(|slave| slave.root.clone()).collect())
}

/// Waits up to a third of a millisecond without yielding the processor.
fn spin(round: usize, offset: usize) {
    let time = Duration::from_micros(((round * 7919 + offset * 104_729) % 331) as u64);
    let began = Instant::now();
    while began.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// Makes changes and local files at the same paths at the same time, many times over. Returns the
/// local contents.
fn collide(wire: &mut RawClient, root: &Path, from: usize, rounds: usize) -> Vec<Vec<u8>> {
    let barrier = Barrier::new(2);
    let mut written = Vec::new();
    for round in from..from + rounds {
        let (name, other) = (format!("f{round}"), format!("g{round}"));
        let kind = round % 5;
        match kind {
            0 | 2 => drop(wire.put(&name, b"old").unwrap()),
            1 => {}
            3 => {
                wire.change(&make_folder(&name)).unwrap();
                wire.put(&format!("{name}/f"), b"old").unwrap();
            }
            _ => {
                wire.put(&other, b"source").unwrap();
                wire.put(&name, b"old").unwrap();
            }
        }
        let bytes = format!("local {round}").into_bytes();
        let at = if kind == 3 { format!("{name}/hand") } else { name.clone() };
        std::thread::scope(|scope| {
            let hand = scope.spawn(|| {
                barrier.wait();
                spin(round, 1);
                by_hand(root, &at, &bytes)
            });
            barrier.wait();
            spin(round, 2);
            let answer = match kind {
                0 | 1 => wire.put(&name, b"new"),
                2 => wire.change(&remove(&name, false)),
                3 => wire.change(&remove(&name, true)),
                _ => wire.change(&rename(&other, &name)),
            };
            if let Err(refusal) = answer {
                let codes = [
                    ErrorCode::NoChanges,
                    ErrorCode::NotFound,
                    ErrorCode::Exists,
                    ErrorCode::NotServed,
                ];
                assert!(codes.contains(&refusal.code), "round {round}: {refusal:?}");
            }
            // The local write fails if its folder is gone.
            if hand.join().unwrap().is_ok() {
                written.push(bytes.clone());
            }
        });
    }
    written
}

fn collide_standalone(rounds: usize) {
    let slave = Standalone::start(&[], &[]);
    let written = collide(&mut open(&slave), &slave.root, 0, rounds);
    assert!(written.len() > rounds / 2, "{} of {rounds}", written.len());
    assert_eq!(lost(&slave.root, &written), Vec::<String>::new());
}

fn collide_in_cluster(rounds: usize) {
    let cluster = Cluster::of(2).start();
    let (mut wires, roots) = both(&cluster);
    // At the slave that takes the changes, and at the one that replicates them.
    for (n, root) in roots.iter().enumerate() {
        let written = collide(&mut wires[0], root, n * rounds, rounds / 2);
        assert!(written.len() > rounds / 4, "{} of {rounds}", written.len());
        let began = Instant::now();
        while began.elapsed() < SOON && !lost(root, &written).is_empty() {
            std::thread::sleep(Duration::from_millis(20));
        }
        // No change in progress may take one of the files.
        eventually(SOON, "all changes are applied", || {
            let status = cluster.status_json()?;
            let slaves = status["slaves"].as_array()?.clone();
            let done = |slave: &serde_json::Value| slave["lag"] == 0 && slave["missing"] == 0;
            slaves.iter().all(done).then_some(())
        });
        assert_eq!(lost(root, &written), Vec::<String>::new(), "slave {n}");
    }
}

#[test]
fn local_files_survive_standalone_changes() {
    collide_standalone(150);
}

#[test]
fn local_files_survive_changes_of_a_cluster() {
    collide_in_cluster(60);
}

#[test]
#[ignore = "thousands of rounds"]
fn local_files_survive_thousands_of_changes() {
    collide_standalone(5000);
    collide_in_cluster(2000);
}
