//! Recordings of real masters and slaves replay through the state machines of the simulator.

use std::fs;

use nix::sys::signal::Signal;
#[path = "../../../crates/cluster/tests/replay/mod.rs"]
mod replay;

use replay::{Replayed, replay_coordinator, replay_replica};

use super::helpers::{open, tree_of, wait_for, wait_settled};
use crate::harness::{Cluster, SOON, TestDir, content, eventually, make_folder, remove};

#[test]
fn recordings_of_real_runs_replay() {
    let dir = TestDir::new();
    let folder = dir.folder("recordings");
    let mut cluster = Cluster::of(2).env("RELAIS_RECORD", folder.to_str().unwrap()).start();
    let mut wire = open(&cluster, 0);
    let bytes = |n: u64| content(n, 20_000);
    for n in 0..10_u64 {
        wire.put(&format!("f{n}"), &bytes(n)).unwrap();
    }
    wire.change(&make_folder("d")).unwrap();
    wire.change(&remove("f0", false)).unwrap();
    wait_settled(&cluster);
    let by_hand = bytes(77);
    fs::write(cluster.slaves[1].root.join("f1"), &by_hand).unwrap();
    let mut files: Vec<(String, Vec<u8>)> = (2..10).map(|n| (format!("f{n}"), bytes(n))).collect();
    files.push(("f1".to_owned(), by_hand));
    files.push(("d/".to_owned(), Vec::new()));
    let mut wanted = tree_of(
        &files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect::<Vec<_>>(),
    );
    wait_for(&cluster, &wanted);

    cluster.slaves[1].program.kill();
    wire.put("while-one-was-away", b"new").unwrap();
    cluster.restart_slave(1);
    wanted.extend(tree_of(&[("while-one-was-away", b"new")]));
    wait_for(&cluster, &wanted);
    cluster.master.kill();
    cluster.restart_master();
    cluster.wait_in_service(2);
    let mut wire = open(&cluster, 1);
    eventually(SOON, "a change succeeds", || wire.put("behind-the-start", b"new").ok());
    wanted.extend(tree_of(&[("behind-the-start", b"new")]));
    wait_for(&cluster, &wanted);
    drop(wire);
    cluster.slaves.iter_mut().for_each(|slave| assert_eq!(slave.program.stop(Signal::SIGTERM), 0));
    assert_eq!(cluster.master.stop(Signal::SIGTERM), 0);

    let (mut orders, mut replicas, mut torn) = (0, 0, 0);
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let (name, bytes) =
            (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap());
        let (count, result) = match name.split_once('-').unwrap().0 {
            "master" => (&mut orders, replay_coordinator(&bytes)),
            "slave" => (&mut replicas, replay_replica(&bytes)),
            other => panic!("{other} is not a recorded state machine"),
        };
        let Replayed { events, torn: is_torn } = result.unwrap_or_else(|e| panic!("{name}: {e:?}"));
        assert!(events > 10, "{name} has {events} events");
        *count += 1;
        torn += u32::from(is_torn);
    }
    assert_eq!((orders, replicas), (2, 3));
    assert!(torn <= 2, "{torn} recordings are torn, and only two programs were killed");
}
