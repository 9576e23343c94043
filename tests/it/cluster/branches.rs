//! Diverged histories: no acknowledged change is destroyed, whichever history survives.
//!
//! A master with a restored disk, or two masters on copies of one state folder, have assigned the
//! same numbers again while slaves with other changes were down.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::helpers::{conflicts, healthy, open, operate, tree, tree_of, wait_settled};
use super::recovery::{halted, lay, saved, state, wait_halted};
use crate::harness::{
    Cluster, Program, ProgramBuilder, RawClient, SOON, eventually, make_folder, remove, rename,
    session, ticket,
};

/// Files that one side of a branch has written.
type Files<'a> = &'a [(&'a str, &'a [u8])];

/// Starts a cluster with some files on all slaves.
fn filled(slaves: usize) -> Cluster {
    let cluster = Cluster::of(slaves).start();
    let mut wire = open(&cluster, 0);
    wire.change(&make_folder("d")).unwrap();
    for name in ["edited", "both", "moved", "removed", "same", "d/below", "d/kept"] {
        wire.put(name, format!("{name} at first").as_bytes()).unwrap();
    }
    wait_settled(&cluster);
    cluster
}

fn write(wire: &mut RawClient, files: Files<'_>) {
    for (name, bytes) in files {
        // A restarted master waits for the slaves that it knows.
        eventually(SOON, "a change is accepted", || wire.put(name, bytes).ok());
    }
}

/// Returns whether the content is in all trees, or quarantined under its name on a slave.
fn is_kept(cluster: &Cluster, name: &str, bytes: &[u8]) -> bool {
    let in_tree = cluster
        .slaves
        .iter()
        .all(|slave| fs::read(slave.root.join(name)).is_ok_and(|there| there == bytes));
    let last = Path::new(name).file_name().unwrap().to_str().unwrap();
    in_tree
        || cluster.slaves.iter().any(|slave| {
            conflicts(&slave.root).iter().any(|(name, there)| name == last && there == bytes)
        })
}

#[track_caller]
fn nothing_is_lost(cluster: &Cluster, sides: &[Files<'_>]) {
    for (name, bytes) in sides.iter().copied().flatten() {
        let what = format!("{name} ({}) is kept", String::from_utf8_lossy(bytes));
        eventually(SOON, &what, || is_kept(cluster, name, bytes).then_some(()));
    }
    wait_settled(cluster);
    // The state is stable.
    for (name, bytes) in sides.iter().copied().flatten() {
        assert!(is_kept(cluster, name, bytes), "{name}");
    }
}

/// Returns the notes of the files that a slave has quarantined.
fn notes(root: &Path) -> Vec<String> {
    let places = fs::read_dir(root.join(".relais/conflicts")).unwrap();
    places
        .filter_map(|place| fs::read_to_string(place.unwrap().path().join("why.txt")).ok())
        .collect()
}

/// Prints what a recovery would do, and recovers.
#[track_caller]
fn recover(cluster: &Cluster) -> String {
    wait_halted(cluster);
    let shown = eventually(SOON, "all slaves have reported their positions", || {
        let shown = operate(cluster, &["recover"]).stdout;
        let listed = shown.contains("with --yes") && !shown.contains("cannot be listed");
        (listed && shown.matches(": last change").count() > cluster.slaves.len()).then_some(shown)
    });
    assert!(halted(cluster).is_some(), "the dry run changed the state");
    operate(cluster, &["recover", "--yes"]).ok();
    eventually(SOON, "changes are accepted", || {
        cluster.status_json()?["halted"].is_null().then_some(())
    });
    wait_settled(cluster);
    shown
}

/// Restores the master's disk while the first slave, with newer changes, is down; the second slave
/// writes.
fn restored_backup(first_wins: bool) {
    let mut cluster = filled(2);
    let backup = saved(&cluster);
    cluster.slaves[1].program.kill();
    let first: Files<'_> = &[
        ("edited", b"edited by the first"),
        ("both", b"the first's"),
        ("same", b"the same on both"),
        ("only-first", b"new, and only with the first"),
        ("d/first", b"in a folder"),
    ];
    let second: Files<'_> = &[
        ("both", b"the second's"),
        ("same", b"the same on both"),
        ("only-second", b"new, and only with the second"),
        ("d/second", b"in a folder, too"),
    ];
    let mut wire = open(&cluster, 0);
    write(&mut wire, first);
    wire.change(&make_folder("new")).unwrap();
    write(&mut wire, &[("new/deep", b"in a new folder")]);
    wire.change(&rename("moved", "d/moved")).unwrap();
    wire.change(&remove("removed", false)).unwrap();
    if first_wins {
        (0..20).for_each(|n| write(&mut wire, &[("many", format!("first {n}").as_bytes())]));
    }
    drop(wire);
    cluster.slaves[0].program.kill();
    cluster.master.kill();
    lay(&cluster, &backup);
    cluster.restart_master();
    cluster.restart_slave(1);
    cluster.wait_in_service(1);
    let mut wire = open(&cluster, 1);
    write(&mut wire, second);
    if !first_wins {
        (0..20).for_each(|n| write(&mut wire, &[("many", format!("second {n}").as_bytes())]));
    }
    drop(wire);
    cluster.restart_slave(0);
    let shown = recover(&cluster);
    let (winner, loser) = if first_wins { (first, second) } else { (second, first) };
    let lines = |what: &str| shown.lines().any(|line| line.ends_with(what));
    for (name, _) in loser.iter().filter(|(name, _)| !["both", "same"].contains(name)) {
        assert!(lines(&format!("proposes /{name}")), "{name}: {shown}");
    }
    assert!(lines("quarantines /both"), "{shown}");
    assert!(!lines("/same"), "equal content is no conflict: {shown}");
    let deep: Files<'_> = &[("new/deep", b"in a new folder"), ("d/below", b"d/below at first")];
    nothing_is_lost(&cluster, &[first, second, deep]);
    // The file that one side moved exists at least once.
    let found = tree(&cluster.slaves[0].root);
    assert!(found.contains_key("moved") || found.contains_key("d/moved"), "{found:?}");
    assert_eq!(found, tree(&cluster.slaves[1].root));
    let both = winner.iter().find(|(name, _)| *name == "both").unwrap().1;
    assert_eq!(found["both"], tree_of(&[("both", both)])["both"], "the surviving history's");
    let root = &cluster.slaves[usize::from(first_wins)].root;
    let note = notes(root).into_iter().find(|note| note.starts_with("both\n")).unwrap();
    for what in ["\ntime: 20", "\ndigest: ", "\nchange: 1-", "\nbranch: 1-"] {
        assert!(note.contains(what), "{note}");
    }
    assert!(!conflicts(root).iter().any(|(name, _)| name == "same"));
    healthy(&cluster);
}

#[test]
fn a_restored_master_loses_nothing_where_the_old_history_wins() {
    restored_backup(true);
}

#[test]
fn a_restored_master_loses_nothing_where_the_new_history_wins() {
    restored_backup(false);
}

/// Starts a master on a copy of the state folder, on another port.
fn second_master(cluster: &Cluster, files: &[(PathBuf, Vec<u8>)]) -> (Program, SocketAddr) {
    let copy = cluster.dir.folder("master-copy");
    let copied = Command::new("cp").arg("-aT").args([&state(cluster), &copy]).status().unwrap();
    assert!(copied.success());
    for (name, bytes) in files {
        fs::write(copy.join(name), bytes).unwrap();
    }
    let mut master = ProgramBuilder::new("ftpmaster", cluster.dir.path())
        .args(["--listen", "127.0.0.1:0", "--state"])
        .args([copy])
        .start();
    let addr = master.ready();
    (master, addr)
}

/// Starts the `n`th slave of the cluster with another master.
fn slave_of(cluster: &Cluster, n: usize, master: SocketAddr) -> (Program, SocketAddr) {
    let mut slave = ProgramBuilder::new("ftpslave", cluster.dir.path())
        .args(["0", "--master", &master.to_string()])
        .args([Path::new("--root"), &cluster.slaves[n].root])
        .args([Path::new("--cluster-key"), &cluster.key()])
        .start();
    let addr = slave.ready();
    (slave, addr)
}

/// Opens a session at a slave of a second master, once that master has it in service.
fn session_of(master: SocketAddr, slave: SocketAddr) -> RawClient {
    let client = crate::harness::Client::new(master);
    eventually(SOON, "the slave is in service", || {
        (client.run(&["--retry", "0", "-c", "ls"]).status == 0).then_some(())
    });
    session(slave, &ticket(master).0)
}

#[test]
fn two_masters_on_copies_of_one_state_lose_nothing() {
    let mut cluster = filled(2);
    cluster.master.kill();
    cluster.slaves.iter_mut().for_each(|slave| slave.program.kill());
    let (mut other, addr) = second_master(&cluster, &saved(&cluster));
    let (mut slave, at) = slave_of(&cluster, 1, addr);
    cluster.restart_master();
    cluster.restart_slave(0);
    cluster.wait_in_service(1);
    let first: Files<'_> = &[("both", b"one master's"), ("one", b"through the first master")];
    let second: Files<'_> = &[
        ("both", b"the other's"),
        ("other", b"through the second master"),
        ("edited", b"edited through the second"),
    ];
    write(&mut open(&cluster, 0), first);
    write(&mut session_of(addr, at), second);
    slave.kill();
    other.kill();
    cluster.restart_slave(1);
    recover(&cluster);
    nothing_is_lost(&cluster, &[first, second]);
    healthy(&cluster);
}

#[test]
fn three_histories_lose_nothing() {
    let mut cluster = filled(3);
    let backup = saved(&cluster);
    // Only the third slave continues with the current master.
    cluster.slaves[0].program.kill();
    cluster.slaves[1].program.kill();
    let third: Files<'_> =
        &[("both", b"the third's"), ("third", b"3"), ("new", b"new of the third")];
    write(&mut open(&cluster, 2), third);
    cluster.slaves[2].program.kill();
    cluster.master.kill();
    // Two masters continue from the backup, each with one of the others.
    lay(&cluster, &backup);
    let (mut other, addr) = second_master(&cluster, &backup);
    let (mut slave, at) = slave_of(&cluster, 1, addr);
    cluster.restart_master();
    cluster.restart_slave(0);
    cluster.wait_in_service(1);
    let first: Files<'_> =
        &[("both", b"the first's"), ("first", b"1"), ("new", b"new of the first")];
    let second: Files<'_> = &[
        ("both", b"the second's"),
        ("second", b"2"),
        ("new", b"new of the second"),
        ("d/kept", b"edited by the second"),
    ];
    write(&mut open(&cluster, 0), first);
    write(&mut session_of(addr, at), second);
    slave.kill();
    other.kill();
    cluster.restart_slave(1);
    cluster.restart_slave(2);
    recover(&cluster);
    nothing_is_lost(&cluster, &[first, second, third]);
    healthy(&cluster);
}
