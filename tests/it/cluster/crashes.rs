//! Crashes of each program at each step of a change.
//!
//! A numbered change is completed, an unnumbered one has no effect, and each number is assigned
//! once.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use relais_proto::{ErrorCode, PutRequest};

use super::helpers::{
    conflicts, exported, healthy, last_change, one_version, open, operate, report, tree, tree_of,
    try_version, wait_for, wait_settled,
};
use crate::harness::{
    Cluster, SOON, Strace, children, content, digest, eventually, process_of, put, remove,
    staged_bytes, staged_files, upload, wait_unstaged,
};

/// Time in which a change is refused if the master is down.
const REFUSED: Duration = Duration::from_secs(8);

/// Starts two slaves with a file.
fn filled(old: &[u8]) -> Cluster {
    let cluster = Cluster::of(2).start();
    open(&cluster, 0).put("f", old).unwrap();
    wait_for(&cluster, &tree_of(&[("f", old)]));
    cluster
}

/// Puts a file through the first slave, which dies after the numbering and before the rename.
#[track_caller]
fn dies_after_numbering(cluster: &mut Cluster, name: &str, bytes: &[u8]) -> PutRequest {
    let mut wire = open(cluster, 0);
    wire.ping();
    let (slave, before) = (&cluster.slaves[0], last_change(cluster));
    let replicator = process_of(&slave.program, "Replicator");
    // Delays the rename by half a minute.
    let inject = "inject=renameat2:delay_enter=30000000:when=1";
    let strace = Strace::attach(&[replicator], &["-e", "trace=renameat2", "-e", inject]);
    let request = put(name, bytes.len());
    wire.raw(&upload(&request, bytes, 256 << 10));
    eventually(SOON, "the put has its number", || {
        (last_change(cluster).1 == before.1 + 1).then_some(())
    });
    cluster.slaves[0].program.signal_group(Signal::SIGKILL);
    // SIGKILL is pending and takes effect as soon as `strace` detaches.
    let tracer = |pid: &Pid| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.starts_with(b"strace")
            && words.split(|byte| *byte == 0).any(|word| word == replicator.to_string().as_bytes())
    };
    for pid in children(Pid::this()).iter().filter(|pid| tracer(pid)) {
        kill(*pid, Signal::SIGKILL).unwrap();
    }
    drop(strace);
    cluster.slaves[0].program.kill();
    request
}

#[test]
fn a_numbered_put_is_completed_after_a_restart() {
    let (old, new) = (content(1, 200_000), content(2, 3 << 20));
    let mut cluster = filled(&old);
    let before = last_change(&cluster);
    let request = dies_after_numbering(&mut cluster, "f", &new);
    assert!(fs::read(cluster.slaves[0].root.join("f")).unwrap() == old);
    cluster.restart_slave(0);
    wait_for(&cluster, &tree_of(&[("f", &new)]));
    assert_eq!(last_change(&cluster).1, before.1 + 1);
    // The client got no answer and retries.
    let version = open(&cluster, 1).upload(&request, &new).unwrap();
    assert_eq!(version, one_version(&cluster, "f"));
    assert_eq!(last_change(&cluster).1, before.1 + 1);
    cluster.slaves.iter().for_each(|slave| wait_unstaged(&slave.root));
}

#[test]
fn losing_the_only_copy_restores_the_former_content() {
    let (old, new) = (content(1, 200_000), content(2, 100_000));
    let mut cluster = filled(&old);
    let id = report(&cluster, 0)["id"].as_str().unwrap().to_owned();
    dies_after_numbering(&mut cluster, "f", &new);
    let gone = cluster.slaves.remove(0);
    fs::remove_dir_all(&gone.root).unwrap();
    eventually(SOON, "the slave is forgotten", || {
        (operate(&cluster, &["forget", &id]).status == 0).then_some(())
    });
    wait_for(&cluster, &tree_of(&[("f", &old)]));
    let changes = exported(&cluster);
    assert_eq!(changes.last().unwrap()["kind"], "withdraw", "{changes:?}");
    assert_eq!(cluster.status_json().unwrap()["lost"], 0);
    healthy(&cluster);
}

#[test]
fn a_put_that_its_disk_refuses_is_withdrawn() {
    let (old, new) = (content(1, 200_000), content(2, 100_000));
    let cluster = filled(&old);
    let root = cluster.slaves[0].root.clone();
    let mut wire = open(&cluster, 0);
    wire.ping();
    let replicator = process_of(&cluster.slaves[0].program, "Replicator");
    let calls = "rename,renameat,renameat2";
    let strace = Strace::attach(
        &[replicator],
        &[
            "-e",
            &format!("trace={calls}"),
            "-e",
            &format!("inject={calls}:error=EIO"),
            "-P",
            root.to_str().unwrap(),
        ],
    );
    let refusal = wire.put("f", &new).unwrap_err();
    assert_eq!(refusal.code, ErrorCode::Storage, "{refusal:?}");
    assert!(strace.end().iter().any(|call| call.text.contains("INJECTED")));
    wait_for(&cluster, &tree_of(&[("f", &old)]));
    let kinds: Vec<_> = exported(&cluster)
        .iter()
        .map(|change| change["kind"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(kinds, ["put", "put", "withdraw"]);
    assert_eq!(fs::read(root.join("f")).unwrap(), old);
    wire.put("f", &new).unwrap();
    wait_for(&cluster, &tree_of(&[("f", &new)]));
}

#[test]
fn an_unnumbered_put_has_no_effect() {
    let (old, new) = (content(1, 200_000), content(2, 100_000));
    let mut cluster = filled(&old);
    let before = last_change(&cluster);
    let mut wire = open(&cluster, 0);
    wire.ping();
    cluster.master.signal_group(Signal::SIGSTOP);
    let request = put("f", new.len());
    wire.raw(&upload(&request, &new, 256 << 10));
    eventually(SOON, "the put is staged", || {
        (staged_bytes(&cluster.slaves[0].root) >= new.len() as u64).then_some(())
    });
    cluster.slaves[0].program.kill();
    cluster.master.kill();
    cluster.restart_master();
    cluster.restart_slave(0);
    wait_for(&cluster, &tree_of(&[("f", &old)]));
    assert_eq!(last_change(&cluster), before);
    // A retry is a new change.
    let version = open(&cluster, 0).upload(&request, &new).unwrap();
    assert_eq!(version.number, before.1 + 1);
    wait_for(&cluster, &tree_of(&[("f", &new)]));
    wait_unstaged(&cluster.slaves[0].root);
}

#[test]
fn a_master_that_dies_at_its_journal_assigns_numbers_once() {
    let mut cluster = filled(b"old");
    for (n, at) in
        ["fdatasync:signal=KILL:when=1", "write,pwrite64,writev,pwritev2:signal=KILL:when=1"]
            .into_iter()
            .enumerate()
    {
        let (bytes, before) = (content(10 + n as u64, 50_000), last_change(&cluster));
        let mut wire = open(&cluster, 0);
        wire.ping();
        let journal = cluster.dir.folder("master").join("journal");
        let calls = at.split_once(':').unwrap().0;
        let strace = Strace::attach(
            &[cluster.master.pid()],
            &[
                "-e",
                &format!("trace={calls}"),
                "-e",
                &format!("inject={at}"),
                "-P",
                journal.to_str().unwrap(),
            ],
        );
        let request = put("f", bytes.len());
        wire.raw(&upload(&request, &bytes, 256 << 10));
        assert_ne!(cluster.master.wait(SOON), 0);
        drop(strace);
        cluster.restart_master();
        cluster.wait_in_service(2);
        let first = wire.committed();
        let version = eventually(SOON, "the retry succeeds", || {
            open(&cluster, 1).upload(&request, &bytes).ok()
        });
        assert!(
            first.as_ref().map_or(true, |first| *first == version),
            "{first:?} and then {version}"
        );
        assert_eq!(version.number, before.1 + 1);
        wait_for(&cluster, &tree_of(&[("f", &bytes)]));
        let made = exported(&cluster)
            .iter()
            .filter(|change| change["digest"] == digest(&bytes).as_str())
            .count();
        assert_eq!(made, 1);
    }
    healthy(&cluster);
}

#[test]
fn a_killed_master_resumes_at_each_slaves_number() {
    let mut cluster = filled(b"old");
    let mut wanted = tree_of(&[("f", b"old")]);
    cluster.slaves[1].program.signal_group(Signal::SIGSTOP);
    let mut wire = open(&cluster, 0);
    for n in 0..20_u8 {
        let name = format!("f{n}");
        wire.put(&name, &[n]).unwrap();
        wanted.extend(tree_of(&[(&name, &[n])]));
    }
    cluster.master.kill();
    let before = cluster.slaves[1].root.join("f19").exists();
    assert!(!before, "the slave was stopped");
    cluster.slaves[1].program.signal_group(Signal::SIGCONT);
    cluster.restart_master();
    wait_for(&cluster, &wanted);
    assert_eq!(last_change(&cluster).1, 21);
    healthy(&cluster);
}

#[test]
fn without_the_master_changes_fail_and_reads_succeed() {
    let old = content(1, 200_000);
    let mut cluster = filled(&old);
    let mut wires = [open(&cluster, 0), open(&cluster, 1)];
    wires.iter_mut().for_each(crate::harness::RawClient::ping);
    cluster.master.kill();
    for (n, wire) in wires.iter_mut().enumerate() {
        let began = Instant::now();
        let refusal = wire.put("f", b"new").unwrap_err();
        assert_eq!(refusal.code, ErrorCode::NoChanges, "{refusal:?}");
        assert!(began.elapsed() < REFUSED, "after {:?}", began.elapsed());
        assert_eq!(wire.change(&remove("f", false)).unwrap_err().code, ErrorCode::NoChanges);
        assert!(wire.fetch("f").unwrap() == old);
        assert_eq!(tree(&cluster.slaves[n].root), tree_of(&[("f", &old)]));
    }
    cluster.restart_master();
    for wire in &mut wires {
        eventually(SOON, "changes are accepted again", || wire.put("f", b"new").ok());
    }
    wait_for(&cluster, &tree_of(&[("f", b"new")]));
}

#[test]
fn a_stopped_master_assigns_no_number_twice() {
    let cluster = filled(b"old");
    let client = cluster.client();
    fs::write(client.folder().join("g"), b"new").unwrap();
    cluster.master.signal_group(Signal::SIGSTOP);
    let began = Instant::now();
    let output = client.run(&["--json", "--retry", "0", "-c", "put g"]);
    assert_ne!(output.status, 0, "{output:?}");
    assert!(began.elapsed() < Duration::from_secs(30), "the client hung for {:?}", began.elapsed());
    cluster.master.signal_group(Signal::SIGCONT);
    wait_settled(&cluster);
    eventually(SOON, "the master accepts changes again", || {
        (client.command("put g").status == 0).then_some(())
    });
    wait_for(&cluster, &tree_of(&[("f", b"old"), ("g", b"new")]));
    let numbers: Vec<_> = exported(&cluster)
        .iter()
        .map(|change| change["number"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(numbers, (1..=numbers.len()).map(|n| format!("1-{n}")).collect::<Vec<_>>());
}

#[test]
fn a_slave_killed_while_it_fetches_shows_no_part() {
    let bytes = content(1, 100 << 20);
    let mut cluster = Cluster::of(2).start();
    for n in 0..3 {
        let name = format!("big{n}");
        open(&cluster, 0).put(&name, &bytes).unwrap();
        let there = cluster.slaves[1].root.join(&name);
        eventually(SOON, "the content is being fetched", || {
            (!staged_files(&cluster.slaves[1].root).is_empty() || there.exists()).then_some(())
        });
        cluster.slaves[1].program.kill();
        assert!(
            fs::metadata(&there).map_or(true, |meta| meta.len() == bytes.len() as u64),
            "an incomplete file has its final name"
        );
        cluster.restart_slave(1);
        let mut wire = open(&cluster, 0);
        let version = try_version(&mut wire, &name).unwrap();
        eventually(SOON, "the file is whole", || {
            fs::metadata(&there).ok().filter(|meta| meta.len() == bytes.len() as u64)
        });
        wait_settled(&cluster);
        assert_eq!(one_version(&cluster, &name), version);
        wire.change(&remove(&name, false)).unwrap();
    }
    wait_for(&cluster, &tree_of(&[]));
    wait_unstaged(&cluster.slaves[1].root);
}

#[test]
fn a_slave_that_was_down_catches_up_before_it_serves() {
    let mut cluster = filled(b"old");
    let mut wire = open(&cluster, 0);
    wire.put("g", b"goes").unwrap();
    wait_settled(&cluster);
    cluster.slaves[1].program.kill();
    wire.put("f", b"new").unwrap();
    wire.change(&remove("g", false)).unwrap();
    wire.put("h", &content(1, 20 << 20)).unwrap();
    cluster.restart_slave(1);
    cluster.wait_in_service(2);
    assert_eq!(
        tree(&cluster.slaves[1].root),
        tree(&cluster.slaves[0].root),
        "the slave is in service without all content"
    );
    assert_eq!(conflicts(&cluster.slaves[1].root), []);
}

#[test]
fn a_slave_on_an_empty_disk_fetches_all_and_removes_nothing() {
    let mut cluster = filled(b"old");
    let before = last_change(&cluster);
    cluster.slaves[1].program.kill();
    let root = cluster.slaves[1].root.clone();
    // As if a disk was not mounted, and mounted later.
    let aside = cluster.dir.path().join("unmounted");
    fs::rename(&root, &aside).unwrap();
    fs::create_dir(&root).unwrap();
    cluster.restart_slave(1);
    wait_for(&cluster, &tree_of(&[("f", b"old")]));
    cluster.slaves[1].program.kill();
    open(&cluster, 0).put("g", b"meanwhile").unwrap();
    fs::remove_dir_all(&root).unwrap();
    fs::rename(&aside, &root).unwrap();
    cluster.restart_slave(1);
    wait_for(&cluster, &tree_of(&[("f", b"old"), ("g", b"meanwhile")]));
    assert_eq!(last_change(&cluster).1, before.1 + 1);
    assert_eq!(conflicts(&root), []);
}

#[test]
fn content_comes_from_another_holder() {
    let bytes = content(1, 1 << 20);
    let mut cluster = filled(b"old");
    open(&cluster, 0).put("g", &bytes).unwrap();
    wait_settled(&cluster);
    // The slave that took the put is stopped, and so are its connections.
    cluster.slaves[0].program.signal_group(Signal::SIGSTOP);
    cluster.add_slave();
    let root = cluster.slaves[2].root.clone();
    eventually(SOON, "the slave has all content", || {
        (tree(&root) == tree_of(&[("f", b"old"), ("g", &bytes)])).then_some(())
    });
    cluster.slaves[0].program.signal_group(Signal::SIGCONT);
    wait_for(&cluster, &tree_of(&[("f", b"old"), ("g", &bytes)]));
}

#[test]
fn a_slave_with_an_older_disk_catches_up() {
    let mut cluster = filled(b"old");
    open(&cluster, 0).put("g", b"kept").unwrap();
    wait_settled(&cluster);
    cluster.slaves[1].program.kill();
    let (root, backup) = (cluster.slaves[1].root.clone(), cluster.dir.path().join("backup"));
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        assert!(
            std::process::Command::new("cp").arg("-a").args([from, to]).status().unwrap().success()
        );
    };
    copy(&root, &backup);
    cluster.restart_slave(1);
    let mut wire = open(&cluster, 0);
    wire.put("f", b"new").unwrap();
    wire.change(&remove("g", false)).unwrap();
    wire.put("h", b"later").unwrap();
    let wanted = tree_of(&[("f", b"new"), ("h", b"later")]);
    wait_for(&cluster, &wanted);
    let before = last_change(&cluster);
    cluster.slaves[1].program.kill();
    fs::remove_dir_all(&root).unwrap();
    copy(&backup, &root);
    cluster.restart_slave(1);
    wait_for(&cluster, &wanted);
    assert_eq!(last_change(&cluster), before, "content of the old disk came back");
    healthy(&cluster);
}
