//! Folders whose changes another server has numbered: they join a cluster without halting it.

use std::fs;
use std::path::Path;

use super::helpers::{healthy, open, wait_settled};
use nix::sys::signal::Signal;

use crate::harness::{
    Cluster, ProgramBuilder, RawClient, SOON, Standalone, TestDir, eventually, make_folder,
};

/// Waits until this file has this content on all slaves.
#[track_caller]
fn wait_everywhere(cluster: &Cluster, name: &str, bytes: &[u8]) {
    eventually(SOON, &format!("{name} is on all slaves"), || {
        let has = |root: &Path| fs::read(root.join(name)).is_ok_and(|there| there == bytes);
        cluster.slaves.iter().all(|slave| has(&slave.root)).then_some(())
    });
}

/// Serves a slave's folder without a master.
fn standalone(cluster: &Cluster, n: usize, act: impl FnOnce(&mut RawClient)) {
    let mut alone = ProgramBuilder::new("ftpslave", cluster.dir.path())
        .args(["0", "--standalone", "--root"])
        .args([cluster.slaves[n].root.as_path(), Path::new("--state")])
        .args([cluster.dir.folder("other-state")])
        .start();
    let addr = alone.ready();
    act(&mut crate::harness::sessions(addr, 1).remove(0));
    alone.stop(Signal::SIGTERM);
}

#[test]
fn a_member_that_ran_standalone_joins_again() {
    let mut cluster = Cluster::of(2).start();
    open(&cluster, 0).put("common", b"on both").unwrap();
    wait_settled(&cluster);
    cluster.slaves[1].program.kill();
    standalone(&cluster, 1, |_| {});
    cluster.restart_slave(1);
    healthy(&cluster);
    cluster.slaves[1].program.kill();
    standalone(&cluster, 1, |wire| {
        wire.put("stand", b"put standalone").unwrap();
        wire.change(&make_folder("folder")).unwrap();
    });
    open(&cluster, 0).put("precious", b"put in the cluster").unwrap();
    cluster.restart_slave(1);
    wait_everywhere(&cluster, "stand", b"put standalone");
    wait_everywhere(&cluster, "precious", b"put in the cluster");
    wait_everywhere(&cluster, "common", b"on both");
    eventually(SOON, "the folder is on the other slave", || {
        cluster.slaves[0].root.join("folder").is_dir().then_some(())
    });
    healthy(&cluster);
}

#[test]
fn a_folder_of_another_cluster_brings_its_files() {
    let other = Cluster::of(1).start();
    let mut wire = open(&other, 0);
    for n in 0..5 {
        wire.put(&format!("other{n}"), b"of the other cluster").unwrap();
    }
    wire.put("both", b"the other cluster's").unwrap();
    wait_settled(&other);
    let mut cluster = Cluster::of(1).start();
    open(&cluster, 0).put("both", b"this cluster's").unwrap();
    drop(wire);
    let root = other.slaves[0].root.clone();
    let Cluster { slaves, dir, .. } = other;
    slaves.into_iter().for_each(|mut slave| slave.program.kill());
    fs::rename(root, cluster.dir.path().join("root1")).unwrap();
    drop(dir);
    cluster.add_slave();
    wait_everywhere(&cluster, "other4", b"of the other cluster");
    wait_everywhere(&cluster, "both", b"this cluster's");
    super::helpers::wait_quarantined(&cluster.slaves[1].root, &[("both", b"the other cluster's")]);
    healthy(&cluster);
}

#[test]
fn a_standalone_folder_joins_a_cluster() {
    let alone = Standalone::start(&[], &[("copied", b"by hand")]);
    let mut wire = crate::harness::sessions(alone.addr, 1).remove(0);
    wire.put("stand", b"put standalone").unwrap();
    drop(wire);
    let Standalone { mut program, root, dir, .. } = alone;
    program.stop(Signal::SIGTERM);
    for has_history in [false, true] {
        let mut cluster = Cluster::of(1).start();
        if has_history {
            open(&cluster, 0).put("own", b"of the cluster").unwrap();
        }
        let copy = cluster.dir.path().join("root1");
        let copied = std::process::Command::new("cp").arg("-a").args([&root, &copy]).status();
        assert!(copied.unwrap().success());
        cluster.add_slave();
        wait_everywhere(&cluster, "copied", b"by hand");
        wait_everywhere(&cluster, "stand", b"put standalone");
        healthy(&cluster);
    }
    drop::<TestDir>(dir);
}
