//! Kills during puts: every acknowledged put is on all slaves, with its number.

use nix::sys::signal::{Signal, kill};

use super::load::PutLoad;
use super::tree_equality::wait_equal;
use crate::harness::{Cluster, SOON, alive, children, eventually, process_of};

const COUNT: usize = 150;
const STEP: usize = 25;

/// Kills processes repeatedly while two clients put files; every acknowledged put must exist.
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
    told.iter().for_each(|told| told.assert_everywhere(&cluster, &nodes));
}

#[test]
fn killed_replicators_lose_no_puts() {
    under_load(3, |cluster, round| {
        let slave = &cluster.slaves[round % 3].program;
        let killed = process_of(slave, "Replicator");
        kill(killed, Signal::SIGKILL).unwrap();
        eventually(SOON, "a new replicator", || {
            (process_of(slave, "Replicator") != killed && !alive(killed)).then_some(())
        });
    });
}

#[test]
fn killed_workers_lose_no_puts() {
    under_load(2, |cluster, round| {
        let slave = &cluster.slaves[round % 2].program;
        let replicator = process_of(slave, "Replicator");
        for worker in children(slave.pid()).into_iter().filter(|pid| *pid != replicator) {
            kill(worker, Signal::SIGKILL).unwrap();
        }
    });
}

#[test]
fn killed_slaves_lose_no_puts() {
    under_load(3, |cluster, round| {
        cluster.slaves[round].program.kill();
        cluster.restart_slave(round);
    });
}

#[test]
fn killed_masters_lose_no_puts() {
    under_load(2, |cluster, _| {
        cluster.master.kill();
        cluster.restart_master();
    });
}

#[test]
fn killing_all_programs_loses_no_puts() {
    under_load(2, |cluster, _| {
        cluster.master.kill();
        cluster.slaves.iter_mut().for_each(|slave| slave.program.kill());
        cluster.restart_master();
        // On their former ports, where known clients look for them.
        (0..2).for_each(|n| cluster.restart_slave_on_same_port(n));
    });
}
