//! Permission bits are equal on all slaves; times that a disk cannot store do no harm.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use relais_proto::{Entry, Mode, PutRequest, Reply, Request};

use super::helpers::{last_change, open, operate, wait_settled};
use crate::harness::{Cluster, RawClient, SOON, eventually, path, put};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).map_or(0, |meta| meta.mode() & 0o777)
}

/// Returns a slave's entry at a path, once it is numbered.
fn stat(wire: &mut RawClient, name: &str) -> Option<Entry> {
    match wire.ask(&Request::Stat(path(name))) {
        Reply::Details { entry, .. } => Some(entry).filter(|entry| entry.version.is_some()),
        _ => None,
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Waits until all slaves have these modes.
#[track_caller]
fn wait_modes(cluster: &Cluster, wanted: &[(&str, u32)]) {
    for slave in &cluster.slaves {
        for (name, wanted) in wanted {
            eventually(SOON, &format!("{name} has {wanted:o} at {}", slave.addr), || {
                (mode(&slave.root.join(name)) == *wanted).then_some(())
            });
        }
    }
}

#[test]
fn modes_are_the_same_on_all_slaves() {
    let cluster = Cluster::of(2).start();
    let [one, two] = [0, 1].map(|n| cluster.slaves[n].root.clone());
    fs::create_dir(one.join("team")).unwrap();
    set_mode(&one.join("team"), 0o2770);
    fs::write(one.join("team/secret"), "secret").unwrap();
    set_mode(&one.join("team/secret"), 0o600);
    fs::write(one.join("tool"), "tool").unwrap();
    set_mode(&one.join("tool"), 0o755);
    wait_modes(&cluster, &[("team", 0o770), ("team/secret", 0o600), ("tool", 0o755)]);
    // A local chmod on the other slave: the content is not copied.
    let inode = fs::metadata(one.join("team/secret")).unwrap().ino();
    set_mode(&two.join("team/secret"), 0o640);
    set_mode(&two.join("team"), 0o750);
    set_mode(&two.join("tool"), 0o700);
    wait_modes(&cluster, &[("team", 0o750), ("team/secret", 0o640), ("tool", 0o700)]);
    assert_eq!(fs::metadata(one.join("team/secret")).unwrap().ino(), inode);
    assert_eq!(fs::metadata(one.join("team")).unwrap().mode() & 0o7777, 0o2750);
    // Once more, immediately.
    set_mode(&two.join("tool"), 0o711);
    set_mode(&two.join("team"), 0o710);
    wait_modes(&cluster, &[("team", 0o710), ("tool", 0o711)]);
    // A put replaces the content and keeps the mode.
    let request = PutRequest { mode: Some(Mode::new(0o666)), copies: 2, ..put("team/secret", 3) };
    open(&cluster, 0).upload(&request, b"new").unwrap();
    wait_modes(&cluster, &[("team/secret", 0o640)]);
    let copies = |root: &Path| fs::read(root.join("team/secret")).unwrap();
    assert_eq!((copies(&one), copies(&two)), (b"new".to_vec(), b"new".to_vec()));
    // A slave that was down also receives the mode.
    let request = PutRequest { mode: Some(Mode::new(0o600)), copies: 2, ..put("own", 2) };
    open(&cluster, 1).upload(&request, b"ab").unwrap();
    wait_modes(&cluster, &[("own", 0o600)]);
}

#[test]
fn an_offline_chmod_does_not_undo_a_newer_one() {
    let mut cluster = Cluster::of(2).start();
    let [one, two] = [0, 1].map(|n| cluster.slaves[n].root.clone());
    fs::create_dir(one.join("d")).unwrap();
    for name in ["s", "edited", "free"] {
        fs::write(one.join(name), "content").unwrap();
        set_mode(&one.join(name), 0o644);
    }
    set_mode(&one.join("d"), 0o755);
    let all = [("s", 0o644), ("edited", 0o644), ("free", 0o644), ("d", 0o755)];
    wait_modes(&cluster, &all);
    wait_settled(&cluster);
    cluster.slaves[1].program.kill();
    // The modes of the slave that is down are wider, and older than those of the tree.
    for (name, mode) in [("s", 0o666), ("edited", 0o666), ("free", 0o664), ("d", 0o777)] {
        set_mode(&two.join(name), mode);
    }
    fs::write(two.join("edited"), "edited offline").unwrap();
    let number = last_change(&cluster).1;
    for (name, mode) in [("s", 0o600), ("edited", 0o600), ("d", 0o700)] {
        set_mode(&one.join(name), mode);
    }
    eventually(SOON, "the new modes have numbers", || {
        (last_change(&cluster).1 == number + 3).then_some(())
    });
    cluster.restart_slave(1);
    cluster.wait_in_service(2);
    // A chmod of an entry that has not changed since is a change, and so is an edit.
    let all = [("s", 0o600), ("edited", 0o600), ("free", 0o664), ("d", 0o700)];
    wait_modes(&cluster, &all);
    eventually(SOON, "the edit is a change", || {
        (fs::read_to_string(one.join("edited")).ok()? == "edited offline").then_some(())
    });
    wait_settled(&cluster);
    wait_modes(&cluster, &all);
    assert_eq!(last_change(&cluster).1, number + 5);
    operate(&cluster, &["diff"]).ok();
    // The slave is up to date now: its chmod holds.
    set_mode(&two.join("s"), 0o640);
    wait_modes(&cluster, &[("s", 0o640)]);
}

#[test]
fn a_time_that_one_disk_cannot_hold_is_no_edit() {
    let mut cluster = Cluster::of(1).start();
    let other = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    std::os::unix::fs::symlink(other.path(), cluster.dir.path().join("root1")).unwrap();
    cluster.add_slave();
    cluster.wait_in_service(2);
    let file = cluster.slaves[0].root.join("late");
    fs::write(&file, "late").unwrap();
    let late = std::time::UNIX_EPOCH + std::time::Duration::from_secs(253_402_300_800);
    fs::File::open(&file).unwrap().set_modified(late).unwrap();
    let mut wires = [0, 1].map(|n| open(&cluster, n));
    let version = eventually(SOON, "both slaves have the file", || {
        let shown = [stat(&mut wires[0], "late")?, stat(&mut wires[1], "late")?];
        let there = fs::read(other.path().join("late")).is_ok_and(|bytes| bytes == b"late");
        (there && shown[0] == shown[1]).then(|| shown[0].version).flatten()
    });
    // The later file proves that the scan has passed and found no other change.
    fs::write(other.path().join("next"), "next").unwrap();
    let next = eventually(SOON, "the next file has a number", || {
        stat(&mut wires[1], "next").and_then(|entry| entry.version)
    });
    assert_eq!(next.number, version.number + 1);
    assert_eq!(stat(&mut wires[0], "late"), stat(&mut wires[1], "late"));
    // `diff` names the file if the other disk has another time.
    wait_settled(&cluster);
    let time = |path: &Path| fs::metadata(path).unwrap().mtime();
    let has_time = time(&other.path().join("late")) == time(&file);
    let differs = operate(&cluster, &["diff"]);
    assert_eq!(
        differs.stdout.contains("/late: not applied here: the disk cannot store the time"),
        !has_time,
        "{differs:?}"
    );
    assert!(!differs.stdout.contains("/next"), "{differs:?}");
    assert_eq!(differs.status, i32::from(!has_time), "{differs:?}");
}
