//! A copied disk with the state of a slave: the second slave generates its own ids.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::tree_equality::wait_equal;
use crate::harness::{Cluster, eventually};

/// A slave changes its ids only ten seconds after the conflict, when no older link can explain it.
const NOTICED: Duration = Duration::from_secs(40);

#[test]
fn a_copied_disk_is_a_new_slave_and_a_second_copy() {
    let mut cluster = Cluster::of(1).file("f", b"old").start();
    let client = cluster.client();
    std::fs::write(client.folder().join("a"), b"before").unwrap();
    client.command("put a").ok();
    cluster.slaves[0].program.stop(Signal::SIGTERM);
    let (first, second) = (cluster.slaves[0].root.clone(), cluster.dir.folder("root1"));
    let copied = Command::new("cp").arg("-aT").args([&first, &second]).status().unwrap();
    assert!(copied.success());
    cluster.restart_slave(0);
    cluster.wait_in_service(1);
    cluster.add_slave();
    let ids = |what: &str| -> BTreeSet<String> {
        let status = cluster.status_json().unwrap_or_default();
        let slaves = status["slaves"].as_array().cloned().unwrap_or_default();
        slaves
            .iter()
            .filter(|slave| slave["state"] == "in-service")
            .map(|slave| slave[what].to_string())
            .collect()
    };
    eventually(NOTICED, "two slaves with two ids", || (ids("id").len() == 2).then_some(()));
    // Two disks hold the file and count as two copies.
    std::fs::write(client.folder().join("b"), b"after").unwrap();
    let json = client.run(&["--json", "--copies", "2", "-c", "put b"]).ok().json();
    assert_eq!(json["copies"], 2, "{json}");
    let nodes = wait_equal(&cluster);
    assert_eq!(nodes.keys().map(String::as_str).collect::<Vec<_>>(), ["a", "b", "f"]);
}
