//! Something is killed while puts are made: each put that was acknowledged is on all slaves afterwards, with the number that was told.

use nix::sys::signal::{Signal, kill};

use super::load::PutLoad;
use super::tree_equality::wait_equal;
use crate::harness::{Cluster, SOON, alive, children, eventually, process_of};

const COUNT: usize = 150;
const STEP: usize = 25;

/// Kills again and again while two clients put files; everything acknowledged must be there.
fn under_load(slaves: usize, mut strike: impl FnMut(&mut Cluster, usize)) {
    let mut cluster = Cluster::of(slaves).start();
    let loads = [PutLoad::start(&cluster, "a", COUNT), PutLoad::start(&cluster, "b", COUNT)];
    for round in 0..3 {
        loads[round % 2].wait_for_more(STEP);
        strike(&mut cluster, round);
    }
    let told = loads.map(PutLoad::end);
    let nodes = wait_equal(&cluster);
    assert_eq!(nodes.len(), 2 * COUNT);
    told.iter().for_each(|told| told.is_everywhere(&cluster, &nodes));
}

#[test]
fn a_replicator_process() {
    under_load(3, |cluster, round| {
        let slave = &cluster.slaves[round % 3].program;
        let killed = process_of(slave, "Replicator");
        kill(killed, Signal::SIGKILL).unwrap();
        eventually(SOON, "another replicator", || {
            (process_of(slave, "Replicator") != killed && !alive(killed)).then_some(())
        });
    });
}

#[test]
fn all_worker_processes() {
    under_load(2, |cluster, round| {
        let slave = &cluster.slaves[round % 2].program;
        let replicator = process_of(slave, "Replicator");
        for worker in children(slave.pid()).into_iter().filter(|pid| *pid != replicator) {
            kill(worker, Signal::SIGKILL).unwrap();
        }
    });
}

#[test]
fn a_whole_slave() {
    under_load(3, |cluster, round| {
        cluster.slaves[round].program.kill();
        cluster.restart_slave(round);
    });
}

#[test]
fn the_master() {
    under_load(2, |cluster, _| {
        cluster.master.kill();
        cluster.restart_master();
    });
}

#[test]
fn everything_at_once() {
    under_load(2, |cluster, _| {
        cluster.master.kill();
        cluster.slaves.iter_mut().for_each(|slave| slave.program.kill());
        cluster.restart_master();
        // On their ports: a client that has met them looks for them there.
        (0..2).for_each(|n| cluster.restart_slave_on_same_port(n));
    });
}
