//! Catch-up of a slave that was down, is new, or has an older disk: it ends with the common tree.

use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;

use super::helpers::{last_change, open, report, wait_settled};
use super::tree_equality::{TreeEntries, nodes, wait_equal};
use crate::harness::{
    Cluster, RawClient, SOON, content, eventually, make_folder, remove, rename, write_old,
};

/// Makes this many changes of every kind in a new folder.
#[track_caller]
fn change_much(wire: &mut RawClient, top: &str, count: usize) {
    wire.change(&make_folder(top)).unwrap();
    for n in 1..count {
        let name = |n: usize| format!("{top}/{n}");
        let made = match n % 10 {
            0 => wire.change(&make_folder(&format!("{top}/d{n}"))),
            3 => wire.change(&remove(&name(n - 1), false)),
            5 => wire.change(&rename(&name(n - 1), &format!("{top}/moved{n}"))),
            7 if n > 10 => wire.put(&format!("{top}/d{}/x", n - 7), &content(n as u64, n * 50)),
            8 if n % 20 == 8 && n > 20 => wire.change(&remove(&format!("{top}/e{}", n - 9), true)),
            9 if n > 10 => {
                wire.change(&rename(&format!("{top}/d{}", n - 9), &format!("{top}/e{n}")))
            }
            6 if n > 10 => wire.put(&name(n - 5), &content(n as u64, 700)),
            _ => wire.put(&name(n), &content(n as u64, n * 50)),
        };
        made.unwrap();
    }
}

#[test]
pub fn a_slave_that_was_away_for_300_changes_catches_up() {
    let mut cluster = Cluster::of(2).start();
    let mut wire = open(&cluster, 0);
    change_much(&mut wire, "before", 60);
    wait_equal(&cluster);
    cluster.slaves[1].program.kill();
    change_much(&mut wire, "away", 300);
    // Entries of both slaves that are removed while one of them is down.
    wire.change(&remove("before", true)).unwrap();
    let there = nodes(&cluster.slaves[0].root);
    cluster.restart_slave(1);
    assert!(wait_equal(&cluster) == there);
    assert_eq!(open(&cluster, 1).put("after", b"1").unwrap().number, last_change(&cluster).1);
    wait_equal(&cluster);
}

#[test]
pub fn an_empty_slave_joins_a_tree_of_3000_small_files() {
    let mut cluster = Cluster::of(0).start();
    let root = cluster.dir.folder("root0");
    for n in 0..3000 {
        write_old(&root.join(format!("d{}/f{n}", n % 30)), &content(n, 500));
    }
    cluster.add_slave();
    cluster.wait_in_service(1);
    // Each file is numbered.
    eventually(SOON, "all files are numbered", || (last_change(&cluster).1 >= 3030).then_some(()));
    let there = nodes(&root);
    cluster.add_slave();
    wait_settled(&cluster);
    assert_eq!(report(&cluster, 1)["files"], 3000);
    assert!(wait_equal(&cluster) == there);
}

/// Copies a folder with all metadata of its files.
#[track_caller]
fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success(), "cp: {status}");
}

fn older_disk(restart: impl Fn(&mut Cluster)) -> TreeEntries {
    let mut cluster = Cluster::of(3).start();
    let mut wire = open(&cluster, 0);
    change_much(&mut wire, "a", 40);
    wait_equal(&cluster);
    assert_eq!(cluster.slaves[1].program.stop(Signal::SIGTERM), 0);
    let (root, aside) = (cluster.slaves[1].root.clone(), cluster.dir.path().join("aside"));
    copy(&root, &aside);
    cluster.restart_slave(1);
    change_much(&mut wire, "b", 60);
    wire.change(&remove("a", true)).unwrap();
    wire.put("b/1", b"newer").unwrap();
    let there = wait_equal(&cluster);
    cluster.slaves[1].program.kill();
    std::fs::remove_dir_all(&root).unwrap();
    copy(&aside, &root);
    restart(&mut cluster);
    assert!(wait_equal(&cluster) == there);
    assert!(open(&cluster, 1).put("after", b"1").unwrap().number > 100);
    wait_equal(&cluster)
}

#[test]
fn a_slave_with_an_older_disk_ends_equal() {
    older_disk(|cluster| cluster.restart_slave(1));
}

#[test]
fn an_older_disk_and_a_restarted_master_end_equal() {
    older_disk(|cluster| {
        cluster.master.kill();
        cluster.restart_master();
        cluster.restart_slave(1);
    });
}
