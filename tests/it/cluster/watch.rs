//! Local changes in a slave's folder: they become part of the tree or are quarantined.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};

use super::helpers::{
    conflicts, exported, healthy, last_change, one_version, open, put, report, tree, tree_of,
    wait_for, wait_quarantined, wait_settled,
};
use crate::harness::{
    Cluster, SOON, children, content, digest, eventually, make_folder, remove, write_old,
};

/// Creates a folder with files and subfolders, some of them empty.
fn lay(top: &Path) {
    for folder in ["a/b/c", "a/empty", "d"] {
        fs::create_dir_all(top.join(folder)).unwrap();
    }
    for (n, name) in ["one", "a/two", "a/b/three", "a/b/c/four", "d/five"].iter().enumerate() {
        fs::write(top.join(name), content(n as u64, 1000 * n)).unwrap();
    }
}

#[test]
fn a_file_copied_in_appears_everywhere() {
    let cluster = Cluster::of(3).start();
    let bytes = content(1, 300_000);
    fs::write(cluster.slaves[1].root.join("f"), &bytes).unwrap();
    wait_for(&cluster, &tree_of(&[("f", &bytes)]));
    let version = one_version(&cluster, "f");
    assert_eq!((u64::from(version.epoch), version.number), last_change(&cluster));
    let client = cluster.client();
    client.get("f");
    assert!(client.read("f") == bytes);
}

#[test]
fn an_edit_replaces_the_old_content_everywhere() {
    let cluster = Cluster::of(3).start();
    let (old, new, last) = (content(1, 300_000), content(2, 200_000), content(3, 300_000));
    open(&cluster, 0).put("f", &old).unwrap();
    wait_for(&cluster, &tree_of(&[("f", &old)]));
    let before = one_version(&cluster, "f");
    fs::write(cluster.slaves[2].root.join("f"), &new).unwrap();
    wait_for(&cluster, &tree_of(&[("f", &new)]));
    assert!(one_version(&cluster, "f") > before);
    // An editor that writes a new file and renames it over the old one.
    fs::write(cluster.slaves[1].root.join(".f.swp"), &last).unwrap();
    fs::rename(cluster.slaves[1].root.join(".f.swp"), cluster.slaves[1].root.join("f")).unwrap();
    wait_for(&cluster, &tree_of(&[("f", &last)]));
    cluster.slaves.iter().for_each(|slave| assert_eq!(conflicts(&slave.root), []));
}

#[test]
fn a_folder_copied_in_appears_everywhere() {
    let cluster = Cluster::of(3).start();
    let elsewhere = cluster.dir.folder("elsewhere");
    lay(&elsewhere);
    lay(&cluster.slaves[0].root.join("by-hand"));
    // And a whole folder that is moved in.
    fs::rename(&elsewhere, cluster.slaves[1].root.join("moved-in")).unwrap();
    let mut wanted = tree(&cluster.slaves[0].root);
    wanted.extend(tree(&cluster.slaves[1].root));
    wait_for(&cluster, &wanted);
    assert_eq!(last_change(&cluster).1, wanted.len() as u64, "one change for each entry");
}

#[test]
fn vanished_files_are_fetched_again() {
    let cluster = Cluster::of(3).start();
    lay(&cluster.slaves[0].root.join("top"));
    let wanted = tree(&cluster.slaves[0].root);
    wait_for(&cluster, &wanted);
    let before = last_change(&cluster);
    fs::remove_file(cluster.slaves[1].root.join("top/a/two")).unwrap();
    fs::remove_dir_all(cluster.slaves[2].root.join("top/a/b")).unwrap();
    assert_ne!(tree(&cluster.slaves[2].root), wanted);
    wait_for(&cluster, &wanted);
    assert_eq!(last_change(&cluster), before, "the loss became a change");
    cluster.slaves.iter().for_each(|slave| assert_eq!(conflicts(&slave.root), []));
}

/// Removes a folder while the slave restores its entries.
#[track_caller]
fn remove_all(folder: &Path) {
    eventually(SOON, "the folder is removed locally", || match fs::remove_dir_all(folder) {
        Ok(()) => Some(()),
        // The slave has restored an entry meanwhile.
        Err(e) if e.kind() == ErrorKind::DirectoryNotEmpty => None,
        Err(e) => panic!("{}: {e}", folder.display()),
    });
}

#[test]
fn an_emptied_folder_is_restored() {
    let mut cluster = Cluster::of(0).start();
    let root = cluster.dir.folder("root0");
    for n in 0..200 {
        write_old(&root.join(format!("d{}/f{n}", n % 10)), &content(n, 2000));
    }
    let mut wanted = tree(&root);
    (0..3).for_each(|_| cluster.add_slave());
    wait_for(&cluster, &wanted);
    let before = last_change(&cluster);
    for entry in fs::read_dir(&cluster.slaves[1].root).unwrap().map(|entry| entry.unwrap()) {
        if entry.file_name() != ".relais" {
            remove_all(&entry.path());
        }
    }
    let client = cluster.client();
    client.command("mkdir meanwhile").ok();
    put(&client, "meanwhile/f", b"new");
    // A change to an entry that the slave has just lost.
    put(&client, "d0/f0", b"newer");
    wanted.extend(tree_of(&[("meanwhile/f", b"new"), ("d0/f0", b"newer")]));
    wait_for(&cluster, &wanted);
    assert_eq!(last_change(&cluster).1, before.1 + 3, "other changes than the client's");
    cluster.slaves.iter().for_each(|slave| assert_eq!(conflicts(&slave.root), []));
    healthy(&cluster);
}

#[test]
fn only_few_local_removals_replicate() {
    const FILES: u64 = 300;
    const AT_ONCE: usize = 150;
    let mut cluster = Cluster::of(0).slave_args(&["--watch", "all"]).start();
    let root = cluster.dir.folder("root0");
    for n in 0..FILES {
        write_old(&root.join(format!("f{n}")), &content(n, 100));
    }
    let mut wanted = tree(&root);
    (0..2).for_each(|_| cluster.add_slave());
    wait_for(&cluster, &wanted);
    fs::remove_file(root.join("f7")).unwrap();
    wanted.remove("f7");
    wait_for(&cluster, &wanted);
    let before = last_change(&cluster);
    for n in 100..100 + AT_ONCE {
        fs::remove_file(root.join(format!("f{n}"))).unwrap();
    }
    // One file in a hundred may be removed in a minute; one is removed already.
    let may_go = usize::try_from(FILES / 100).unwrap() - 1;
    let held = eventually(SOON, "removals are held back", || {
        let held = usize::try_from(report(&cluster, 0)["held"].as_u64().unwrap()).unwrap();
        (held + may_go >= AT_ONCE).then_some(held)
    });
    let removed = AT_ONCE - held;
    eventually(SOON, "the files are fetched again", || {
        (tree(&root).len() == wanted.len() - removed).then_some(())
    });
    wait_for(&cluster, &tree(&root));
    assert_eq!(last_change(&cluster).1, before.1 + removed as u64);
    // A file that was removed while the slave was down is no removal.
    cluster.slaves[1].program.kill();
    let (stays, gone) = ("f20", cluster.slaves[1].root.join("f20"));
    fs::remove_file(&gone).unwrap();
    cluster.restart_slave(1);
    eventually(SOON, "the file is fetched again", || gone.exists().then_some(()));
    assert!(root.join(stays).exists());
}

/// Returns whether a process has inotify watches.
fn has_watches(pid: Pid) -> bool {
    let open = fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap();
    open.flatten()
        .filter_map(|open| fs::read_to_string(open.path()).ok())
        .any(|text| text.contains("inotify wd:"))
}

#[test]
fn with_the_watch_off_only_a_start_scans() {
    let mut cluster = Cluster::of(2).slave_args(&["--watch", "off"]).start();
    open(&cluster, 0).put("edited", b"before").unwrap();
    wait_for(&cluster, &tree_of(&[("edited", b"before")]));
    let before = last_change(&cluster);
    let root = cluster.slaves[0].root.clone();
    fs::write(root.join("new"), b"new").unwrap();
    fs::write(root.join("edited"), b"after").unwrap();
    // The kernel tells the slave of no change. A put is numbered, and the edits are not.
    for pid in children(cluster.slaves[0].program.pid()) {
        assert!(!has_watches(pid), "process {pid} watches the folder");
    }
    let mut wire = open(&cluster, 0);
    wire.put("later", b"later").unwrap();
    let without_edits = tree_of(&[("edited", b"before"), ("later", b"later")]);
    eventually(SOON, "the put is at the other slave", || {
        (tree(&cluster.slaves[1].root) == without_edits).then_some(())
    });
    assert_eq!(last_change(&cluster).1, before.1 + 1);
    cluster.slaves[0].program.kill();
    cluster.restart_slave(0);
    wait_for(&cluster, &tree_of(&[("edited", b"after"), ("later", b"later"), ("new", b"new")]));
}

#[test]
fn an_edit_that_loses_to_a_put_is_quarantined() {
    const COUNT: u64 = 8;
    let cluster = Cluster::of(2).start();
    let (old, by_hand, put) =
        (|n| content(n, 50_000), |n| content(100 + n, 60_000), |n| content(200 + n, 70_000));
    let name = |n: u64| format!("f{n}");
    let mut wire = open(&cluster, 1);
    for n in 0..COUNT {
        wire.put(&name(n), &old(n)).unwrap();
    }
    wait_settled(&cluster);
    let root = cluster.slaves[0].root.clone();
    (0..COUNT).for_each(|n| fs::write(root.join(name(n)), by_hand(n)).unwrap());
    // An edit is proposed a second after its end: some puts come before that, and some after.
    let edited = Instant::now();
    for n in 0..COUNT {
        sleep((Duration::from_millis(800 + 100 * n)).saturating_sub(edited.elapsed()));
        wire.put(&name(n), &put(n)).unwrap();
    }
    let all: Vec<(String, Vec<u8>)> = (0..COUNT).map(|n| (name(n), put(n))).collect();
    wait_for(
        &cluster,
        &tree_of(
            &all.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect::<Vec<_>>(),
        ),
    );
    let changes = exported(&cluster);
    for n in 0..COUNT {
        let became_a_change =
            changes.iter().any(|change| change["digest"] == digest(&by_hand(n)).as_str());
        // A numbered edit was in the tree for a moment, so it may also be quarantined.
        eventually(SOON, "the edit is quarantined", || {
            (became_a_change || conflicts(&root).contains(&(name(n), by_hand(n)))).then_some(())
        });
    }
    assert_eq!(conflicts(&cluster.slaves[1].root), []);
}

#[test]
fn removed_files_stay_removed() {
    let mut cluster = Cluster::of(3).start();
    let bytes = content(1, 100_000);
    let mut wire = open(&cluster, 0);
    wire.put("f", &bytes).unwrap();
    wire.put("stays", b"1").unwrap();
    wait_settled(&cluster);
    wire.change(&remove("f", false)).unwrap();
    let wanted = tree_of(&[("stays", b"1")]);
    wait_for(&cluster, &wanted);
    let before = last_change(&cluster);
    // From a backup, while the slave is down, and on another slave while it runs.
    cluster.slaves[1].program.kill();
    write_old(&cluster.slaves[1].root.join("f"), &bytes);
    cluster.restart_slave(1);
    fs::write(cluster.slaves[2].root.join("f"), &bytes).unwrap();
    for slave in &cluster.slaves[1..] {
        wait_quarantined(&slave.root, &[("f", &bytes)]);
    }
    wait_for(&cluster, &wanted);
    assert_eq!(last_change(&cluster), before);
    eventually(SOON, "status counts it", || {
        (report(&cluster, 2)["quarantined"] == 1).then_some(())
    });
    // New content under that name is accepted.
    fs::write(cluster.slaves[1].root.join("f"), b"something new").unwrap();
    wait_for(&cluster, &tree_of(&[("stays", b"1"), ("f", b"something new")]));
}

#[test]
fn the_same_files_in_all_folders_become_one_tree() {
    let (one, two) = (content(1, 100_000), content(2, 10));
    let cluster = Cluster::of(3).file("f", &one).file("d/g", &two).start();
    wait_for(&cluster, &tree_of(&[("f", &one), ("d/g", &two)]));
    for name in ["f", "d", "d/g"] {
        one_version(&cluster, name);
    }
    // A folder may be made more than once.
    assert!((3..=5).contains(&last_change(&cluster).1), "{:?}", last_change(&cluster));
    for (n, slave) in cluster.slaves.iter().enumerate() {
        assert_eq!(conflicts(&slave.root), []);
        assert_eq!(report(&cluster, n)["quarantined"], 0);
    }
}

#[test]
fn of_two_local_files_with_one_name_one_is_quarantined() {
    let mut cluster = Cluster::of(0).start();
    let (ours, theirs) = (content(1, 100_000), content(2, 90_000));
    write_old(&cluster.dir.folder("root0").join("f"), &ours);
    write_old(&cluster.dir.folder("root1").join("f"), &theirs);
    (0..2).for_each(|_| cluster.add_slave());
    let (won, winner) = eventually(SOON, "one file has won", || {
        let aside: Vec<_> = cluster.slaves.iter().map(|slave| conflicts(&slave.root)).collect();
        match (aside[0].is_empty(), aside[1].is_empty()) {
            (true, false) => Some((&ours, 0)),
            (false, true) => Some((&theirs, 1)),
            _ => None,
        }
    });
    wait_for(&cluster, &tree_of(&[("f", won)]));
    let lost = if winner == 0 { &theirs } else { &ours };
    wait_quarantined(&cluster.slaves[1 - winner].root, &[("f", lost)]);
    assert_eq!(conflicts(&cluster.slaves[winner].root), []);
}

#[test]
fn blocking_entries_are_quarantined() {
    let cluster = Cluster::of(2).start();
    let root = cluster.slaves[1].root.clone();
    let outside = cluster.dir.folder("outside");
    fs::write(outside.join("secret"), b"not touched").unwrap();
    std::os::unix::fs::symlink(outside.join("secret"), root.join("link")).unwrap();
    std::os::unix::fs::symlink(&outside, root.join("folder-link")).unwrap();
    mkfifo(&root.join("fifo"), Mode::from_bits_truncate(0o600)).unwrap();
    eventually(SOON, "the entries are reported", || {
        (report(&cluster, 1)["skipped"]["links"] == 2).then_some(())
    });
    let mut wire = open(&cluster, 0);
    for name in ["link", "fifo"] {
        wire.put(name, name.as_bytes()).unwrap();
    }
    wire.change(&make_folder("folder-link")).unwrap();
    wire.put("folder-link/secret", b"another one").unwrap();
    wait_for(
        &cluster,
        &tree_of(&[("link", b"link"), ("fifo", b"fifo"), ("folder-link/secret", b"another one")]),
    );
    wait_quarantined(&root, &[("fifo", b""), ("folder-link", b""), ("link", b"")]);
    assert_eq!(fs::read(outside.join("secret")).unwrap(), b"not touched");
    healthy(&cluster);
}

#[test]
fn names_that_are_not_utf8_are_counted_and_kept() {
    let cluster = Cluster::of(2).start();
    let root = &cluster.slaves[0].root;
    let name = root.join(std::ffi::OsStr::from_bytes(b"\xff\xfe"));
    fs::write(&name, b"mine").unwrap();
    fs::write(root.join("f"), b"text").unwrap();
    eventually(SOON, "the name is counted", || {
        (report(&cluster, 0)["skipped"]["names"] == 1).then_some(())
    });
    eventually(SOON, "the other file is replicated", || {
        cluster.slaves[1].root.join("f").exists().then_some(())
    });
    wait_settled(&cluster);
    assert_eq!(tree(&cluster.slaves[1].root), tree_of(&[("f", b"text")]));
    assert_eq!(fs::read(name).unwrap(), b"mine");
    assert_eq!(last_change(&cluster).1, 1);
    // A folder with such a name is removed, and the file is kept.
    let mut wire = open(&cluster, 1);
    wire.change(&make_folder("d")).unwrap();
    wait_settled(&cluster);
    fs::write(root.join("d").join(std::ffi::OsStr::from_bytes(b"\xfd")), b"kept").unwrap();
    eventually(SOON, "the name is counted", || {
        (report(&cluster, 0)["skipped"]["names"] == 2).then_some(())
    });
    wire.change(&remove("d", true)).unwrap();
    eventually(SOON, "the folder is gone", || (!root.join("d").exists()).then_some(()));
    let kept = || {
        let places = fs::read_dir(root.join(".relais/conflicts")).unwrap();
        places
            .flat_map(|place| fs::read_dir(place.unwrap().path()).unwrap())
            .any(|file| fs::read(file.unwrap().path()).unwrap() == b"kept")
    };
    eventually(SOON, "its file is kept", || kept().then_some(()));
}
