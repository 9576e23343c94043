//! The id of a slave: other slaves on its folder do not change it.

use std::path::Path;

use super::helpers::report;
use crate::harness::{Cluster, ProgramBuilder};

/// Returns the slave ids in the master's status.
#[track_caller]
fn ids(cluster: &Cluster) -> Vec<String> {
    let id = |n| report(cluster, n)["id"].as_str().unwrap().to_owned();
    (0..cluster.slaves.len()).map(id).collect()
}

#[test]
fn a_slave_keeps_its_id_whatever_ran_on_its_folder() {
    let mut cluster = Cluster::of(2).shared().start();
    let before = ids(&cluster);
    // In any order of starts, and after any other slave on the folder.
    for order in [[0, 1], [1, 0]] {
        cluster.slaves.iter_mut().for_each(|slave| slave.program.kill());
        let port = cluster.slaves[order[0]].addr.port().to_string();
        let mut alone = ProgramBuilder::new("ftpslave", cluster.dir.path())
            .args([&port, "--standalone"])
            .args([Path::new("--root"), &cluster.slaves[0].root])
            .args([Path::new("--state"), &cluster.dir.folder("other-state")])
            .start();
        alone.ready();
        alone.kill();
        order.into_iter().for_each(|n| cluster.restart_slave_on_same_port(n));
        assert_eq!(ids(&cluster), before, "started as {order:?}");
    }
}
