//! `--copies`: the number of disks that hold a put before it is acknowledged.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use super::tree_equality::wait_equal;
use crate::harness::{Client, Cluster, SOON, content, eventually, process_of, stop};

/// Counts the disks of the cluster that hold the whole file.
fn disks(cluster: &Cluster, name: &str, bytes: &[u8]) -> usize {
    cluster
        .slaves
        .iter()
        .filter(|slave| std::fs::read(slave.root.join(name)).is_ok_and(|found| found == bytes))
        .count()
}

#[test]
fn a_put_with_two_copies_is_on_two_disks_when_it_is_answered() {
    let cluster = Cluster::of(3).start();
    let client = cluster.client();
    for n in 0..10 {
        let bytes = content(n, 200_000);
        std::fs::write(client.folder().join("f"), &bytes).unwrap();
        let json = client.run(&["--json", "--copies", "2", "-c", "put f"]).ok().json();
        assert!(disks(&cluster, "f", &bytes) >= 2, "{json}");
        assert!(json["copies"].as_u64().unwrap() >= 2, "{json}");
    }
    wait_equal(&cluster);
}

#[test]
fn a_put_with_two_copies_waits_for_the_second_disk() {
    let cluster = Cluster::of(2).start();
    let client = cluster.client();
    let bytes = content(1, 200_000);
    std::fs::write(client.folder().join("f"), &bytes).unwrap();
    // The slave that is not next in turn; the client is redirected to the other.
    client.command("put f -o before").ok();
    let first = cluster
        .slave_at(client.command("put f -o before").ok().json()["slaves"][0].as_str().unwrap());
    let held = process_of(&cluster.slaves[first].program, "Replicator");
    stop(held);
    let mut program = client.start(&["--json", "--copies", "2", "-c", "put f"]);
    eventually(SOON, "the first disk has it", || (disks(&cluster, "f", &bytes) == 1).then_some(()));
    // A change that is made after it is answered.
    client.command("mkdir later").ok();
    assert_eq!(program.try_status(), None, "answered with one copy: {}", program.stdout.text());
    kill(held, Signal::SIGCONT).unwrap();
    let json = Client::finish(&mut program).ok().json();
    assert_eq!(json["copies"], 2, "{json}");
    assert_eq!(disks(&cluster, "f", &bytes), 2);
}

#[test]
fn a_repeated_put_waits_for_its_copies_as_the_first() {
    let cluster = Cluster::of(2).start();
    let client = cluster.client();
    let bytes = content(1, 200_000);
    std::fs::write(client.folder().join("f"), &bytes).unwrap();
    let first = cluster
        .slave_at(client.command("put f -o before").ok().json()["slaves"][0].as_str().unwrap());
    let held = process_of(&cluster.slaves[1 - first].program, "Replicator");
    stop(held);
    let put = ["--json", "--copies", "2", "-c", "put f"];
    let program = client.start(&put);
    eventually(SOON, "the first disk has it", || (disks(&cluster, "f", &bytes) == 1).then_some(()));
    // The client is killed after the commit, and runs again.
    drop(program);
    let mut again = client.start(&put);
    client.command("mkdir later").ok();
    assert_eq!(again.try_status(), None, "answered with one copy: {}", again.stdout.text());
    kill(held, Signal::SIGCONT).unwrap();
    let json = Client::finish(&mut again).ok().json();
    assert!(json["copies"].as_u64().unwrap() >= 2, "{json}");
    assert_eq!(disks(&cluster, "f", &bytes), 2);
}

/// Slow: a put waits half a minute for its copies.
#[test]
fn a_put_with_too_few_copies_is_kept_and_reported() {
    let cluster = Cluster::of(2).start();
    let client = cluster.client();
    let bytes = content(1, 100_000);
    std::fs::write(client.folder().join("f"), &bytes).unwrap();
    let began = Instant::now();
    let output = client.run(&["--json", "--copies", "3", "-c", "put f"]).fails(1);
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(28) && took < Duration::from_secs(45), "{took:?}");
    assert_eq!(output.json()["error"]["code"], "too-few-copies", "{output:?}");
    assert_eq!(disks(&cluster, "f", &bytes), 2);
    wait_equal(&cluster);
    assert!(cluster.client().get("f")["verified"] == true);
}

#[test]
fn the_master_sets_the_default_number_of_copies() {
    let cluster = Cluster::of(2).master_args(&["--copies", "2"]).start();
    let client = cluster.client();
    let bytes = content(1, 200_000);
    std::fs::write(client.folder().join("f"), &bytes).unwrap();
    let began = Instant::now();
    let json = client.command("put f").ok().json();
    assert_eq!(json["copies"], 2, "{json}");
    assert_eq!(disks(&cluster, "f", &bytes), 2);
    assert!(began.elapsed() < SOON);
    // A client may request fewer copies.
    std::fs::write(client.folder().join("g"), &bytes).unwrap();
    client.run(&["--json", "--copies", "1", "-c", "put g"]).ok();
    wait_equal(&cluster);
}
