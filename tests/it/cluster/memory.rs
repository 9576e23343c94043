//! The master's memory is bounded: repeated moves cost nothing, removal records have a fixed size
//! and a cap.

use relais_proto::Request;
use serde_json::Value;

use crate::harness::{
    Cluster, RawClient, SOON, eventually, group_memory, make_folder, put, remove, rename, session,
    ticket, upload,
};

/// Memory growth allowed for the allocator and the journal's buffers.
const NOISE: u64 = 12 << 20;

fn wire(cluster: &Cluster) -> RawClient {
    session(cluster.slaves[0].addr, &ticket(cluster.addr).0)
}

fn removals(cluster: &Cluster) -> (u64, u64) {
    let status: Value = cluster.status_json().unwrap();
    (status["removals"].as_u64().unwrap(), status["removals_cap"].as_u64().unwrap())
}

/// Sends changes in large batches and reads their answers.
fn many(wire: &mut RawClient, all: impl Iterator<Item = Vec<u8>>) {
    let all: Vec<Vec<u8>> = all.collect();
    for some in all.chunks(100) {
        wire.raw(&some.concat());
        for _ in some {
            wire.committed().unwrap();
        }
    }
}

fn fill(wire: &mut RawClient, folder: &str, files: u64) {
    wire.change(&make_folder(folder)).unwrap();
    many(
        wire,
        (0..files).map(|n| {
            let bytes = n.to_be_bytes();
            upload(&put(&format!("{folder}/a-file-with-a-name-{n}"), bytes.len()), &bytes, 64)
        }),
    );
}

fn overwrite(wire: &mut RawClient, times: u64) {
    many(wire, (0..times).map(|n| upload(&put("overwritten", 8), &n.to_be_bytes(), 64)));
}

fn move_about(wire: &mut RawClient, times: usize) {
    for round in 0..times {
        let (from, to) = if round % 2 == 0 { ("a", "b") } else { ("b", "a") };
        wire.change(&rename(from, to)).unwrap();
    }
}

#[test]
fn repeated_moves_of_a_folder_cost_no_memory() {
    let mut cluster = Cluster::of(1).slave_args(&["--workers", "1"]).start();
    let mut wire = wire(&cluster);
    fill(&mut wire, "a", 1000);
    move_about(&mut wire, 2);
    let before = group_memory(cluster.master.pid());
    move_about(&mut wire, 80);
    let after = group_memory(cluster.master.pid());
    assert!(after < before + NOISE, "{before} bytes before, {after} after");
    assert_eq!(removals(&cluster), (2000, 400_000), "one for each file in a and in b");
    overwrite(&mut wire, 101);
    wire.change(&remove("a", true)).unwrap();
    eventually(SOON, "status shows the records", || {
        (removals(&cluster) == (2100, 400_000)).then_some(())
    });
    // A restarted master reads the same from its journal.
    cluster.master.kill();
    cluster.restart_master();
    eventually(SOON, "status shows the records again", || {
        (cluster.status_json()?["removals"] == 2100).then_some(())
    });
    assert!(group_memory(cluster.master.pid()) < before + NOISE);
    let text = cluster.status(&[]).stdout;
    assert!(text.contains("removal records: 2100 of at most 400000\n"), "{text}");
}

#[test]
#[ignore = "takes some minutes"]
fn masses_of_overwrites_and_moves_cost_bounded_memory() {
    let mut cluster = Cluster::of(1).slave_args(&["--workers", "1"]).start();
    let mut wire = wire(&cluster);
    fill(&mut wire, "a", 10_000);
    let before = group_memory(cluster.master.pid());
    move_about(&mut wire, 100);
    let moved = group_memory(cluster.master.pid());
    assert!(moved < before + 2 * NOISE, "{before} bytes before, {moved} after");
    // An account may have half of all records.
    overwrite(&mut wire, 201_000);
    let full = group_memory(cluster.master.pid());
    assert_eq!(removals(&cluster).0, 200_000);
    assert!(full < before + (160 << 20), "{before} bytes before, {full} after");
    overwrite(&mut wire, 50_000);
    let more = group_memory(cluster.master.pid());
    assert_eq!(removals(&cluster).0, 200_000);
    assert!(more < full + 2 * NOISE, "{full} bytes before, {more} after");
    cluster.master.kill();
    cluster.restart_master();
    assert!(group_memory(cluster.master.pid()) < before + (200 << 20));
    assert_eq!(removals(&cluster).0, 200_000);
    cluster.wait_in_service(1);
    wire = self::wire(&cluster);
    assert!(matches!(wire.ask(&Request::Ping), relais_proto::Reply::Pong));
}
