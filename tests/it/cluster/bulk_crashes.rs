//! Crashes while many files are adopted, and while an empty slave fetches many.
//!
//! No file is lost, none gets two numbers, and the trees are equal afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;

use super::helpers::{conflicts, exported, healthy, last_change};
use super::tree_equality::{TreeEntries, nodes, wait_equal};
use crate::harness::{Cluster, SOON, content, eventually, write_old};

/// Number of files, and of the folders that have them.
const FILES: u64 = 8000;
const FOLDERS: u64 = 40;

fn fill(root: &Path) -> TreeEntries {
    for n in 0..FILES {
        write_old(&root.join(format!("d{}/f{n}", n % FOLDERS)), &content(n, 300));
    }
    nodes(root)
}

fn kill_slave(cluster: &mut Cluster, n: usize) {
    cluster.slaves[n].program.signal_group(Signal::SIGKILL);
    cluster.slaves[n].program.kill();
}

/// Waits until more than this many changes are numbered. The last one must not be.
#[track_caller]
fn wait_numbered(cluster: &Cluster, more_than: u64) {
    let now = eventually(SOON, "changes are numbered", || {
        Some(last_change(cluster).1).filter(|number| *number > more_than)
    });
    assert!(now < FILES + FOLDERS, "the program is killed too late: {now}");
}

#[track_caller]
fn wait_all_numbered(cluster: &Cluster) {
    eventually(SOON, "all files are numbered", || {
        (cluster.status_json()?["number"] == FILES + FOLDERS).then_some(())
    });
}

/// Requires that each path got one number, and that nothing was quarantined.
#[track_caller]
fn check_once(cluster: &Cluster) {
    let mut changes = BTreeMap::new();
    for change in exported(cluster) {
        *changes.entry(change["path"].to_string()).or_insert(0) += 1;
    }
    let twice: Vec<_> = changes.iter().filter(|(_, count)| **count > 1).take(5).collect();
    assert!(twice.is_empty(), "{twice:?}");
    assert_eq!(changes.len() as u64, FILES + FOLDERS);
    for slave in &cluster.slaves {
        assert!(conflicts(&slave.root).is_empty());
    }
}

#[test]
pub fn kills_while_files_are_adopted_lose_nothing() {
    let mut cluster = Cluster::of(0).start();
    let there = fill(&cluster.dir.folder("root0"));
    cluster.add_slave();
    wait_numbered(&cluster, 100);
    kill_slave(&mut cluster, 0);
    cluster.restart_slave(0);
    let before = last_change(&cluster).1;
    wait_numbered(&cluster, before);
    cluster.master.kill();
    cluster.restart_master();
    wait_all_numbered(&cluster);
    check_once(&cluster);
    assert!(wait_equal(&cluster) == there);
    healthy(&cluster);
}

/// Counts the files in the served folders.
fn files(root: &Path) -> u64 {
    let folders = (0..FOLDERS).filter_map(|n| fs::read_dir(root.join(format!("d{n}"))).ok());
    folders.map(|names| names.count() as u64).sum()
}

/// Waits until the second slave has more than this many files. It must not have all.
#[track_caller]
fn wait_fetched(cluster: &Cluster, more_than: u64) {
    let root = &cluster.slaves[1].root;
    let now = eventually(SOON, "files are fetched", || {
        Some(files(root)).filter(|count| *count > more_than)
    });
    assert!(now < FILES, "the program is killed too late: {now}");
}

#[test]
pub fn kills_while_an_empty_slave_joins_lose_nothing() {
    let mut cluster = Cluster::of(0).start();
    let there = fill(&cluster.dir.folder("root0"));
    cluster.add_slave();
    wait_all_numbered(&cluster);
    cluster.add_slave();
    wait_fetched(&cluster, 0);
    kill_slave(&mut cluster, 1);
    let before = files(&cluster.slaves[1].root);
    cluster.restart_slave(1);
    wait_fetched(&cluster, before);
    // The only holder of what is missing.
    kill_slave(&mut cluster, 0);
    let before = files(&cluster.slaves[1].root);
    cluster.restart_slave(0);
    wait_fetched(&cluster, before);
    cluster.master.kill();
    cluster.restart_master();
    assert!(wait_equal(&cluster) == there);
    check_once(&cluster);
    healthy(&cluster);
}
