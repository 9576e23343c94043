//! Replication: a change through one slave reaches all others soon, and the later of two changes
//! wins.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use relais_proto::{ErrorCode, Lsn, Refusal, Reply, Request};

use super::helpers::{one_version, open};
use super::load::stat;
use super::tree_equality::{TreeEntry, same_as, wait_equal};
use crate::harness::{
    Client, Cluster, RawClient, SOON, content, digest, eventually, get, make_folder, path,
    process_of, put, remove, rename, session, stop, ticket,
};

/// Time limit for a change to be visible at the other slaves.
const AT_ONCE: Duration = Duration::from_secs(1);
/// The same for the slowest of many, on a machine that is busy with other tests.
const SLOWEST: Duration = Duration::from_secs(3);

#[test]
pub fn every_kind_of_change_replicates_within_a_second() {
    let cluster = Cluster::of(3).start();
    let mut wires: Vec<RawClient> = (0..3).map(|n| open(&cluster, n)).collect();
    let mut times = Vec::new();
    for round in 0..4 {
        let at = round % 3;
        let (folder, file, moved) =
            (format!("d{round}"), format!("d{round}/f"), format!("d{round}/g"));
        times.push(seen(
            &mut wires,
            at,
            |wire| wire.change(&make_folder(&folder)),
            &[(&folder, true)],
        ));
        times.push(seen(
            &mut wires,
            at,
            |wire| wire.put(&file, &content(round as u64, 3000)),
            &[(&file, true)],
        ));
        times.push(seen(
            &mut wires,
            at,
            |wire| wire.change(&rename(&file, &moved)),
            &[(&file, false), (&moved, true)],
        ));
        times.push(seen(
            &mut wires,
            at,
            |wire| wire.change(&remove(&folder, true)),
            &[(&folder, false), (&moved, false)],
        ));
    }
    times.sort();
    assert!(times[times.len() / 2] < AT_ONCE && times[times.len() - 1] < SLOWEST, "{times:?}");
    assert_eq!(wait_equal(&cluster).len(), 0);
}

/// Makes a change at one slave and returns how long each other slave took to show it.
#[track_caller]
fn seen(
    wires: &mut [RawClient],
    at: usize,
    change: impl FnOnce(&mut RawClient) -> Result<Lsn, Refusal>,
    shown: &[(&String, bool)],
) -> Duration {
    change(&mut wires[at]).unwrap();
    let began = Instant::now();
    for wire in wires.iter_mut() {
        for (name, there) in shown {
            eventually(SOON, "the other slave shows the change", || {
                (stat(wire, name).is_some() == *there).then_some(())
            });
        }
    }
    began.elapsed()
}

#[test]
pub fn contents_arrive_with_digest_time_and_executable_bit() {
    let cluster = Cluster::of(3).start();
    let client = cluster.client();
    let top = client.folder().join("tree");
    fs::create_dir_all(top.join("deep/er")).unwrap();
    fs::create_dir(top.join("empty")).unwrap();
    for (n, size) in
        [0, 1, 4095, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5 << 20].into_iter().enumerate()
    {
        let file = top.join(format!("deep/er/{n}"));
        fs::write(&file, content(n as u64, size)).unwrap();
        let time = std::time::UNIX_EPOCH + Duration::new(1_000_000_000 + n as u64, 123_456_789);
        fs::File::open(&file).unwrap().set_modified(time).unwrap();
        fs::set_permissions(
            &file,
            fs::Permissions::from_mode(if n % 2 == 0 { 0o755 } else { 0o644 }),
        )
        .unwrap();
    }
    client.command("put -r tree -o /").ok();
    let nodes = wait_equal(&cluster);
    same_as(&nodes, &client.folder());
    for (name, node) in &nodes {
        let TreeEntry::File { digest: wanted, .. } = node else { continue };
        one_version(&cluster, name);
        for slave in 0..3 {
            match open(&cluster, slave).ask(&Request::Hash(path(name))) {
                Reply::Details { digest: Some(found), .. } => {
                    assert_eq!(found.to_string(), *wanted, "{name} at slave {slave}")
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
pub fn a_reader_gets_content_in_transit_from_its_holder() {
    let bytes = content(1, 12 << 20);
    let cluster = Cluster::of(2).proxied().start();
    // The transfer between the slaves takes some seconds.
    cluster.slaves.iter().for_each(|slave| slave.proxy.as_ref().unwrap().throttle(Some(4 << 20)));
    let mut wire = open(&cluster, 0);
    wire.put("f", &bytes).unwrap();
    let mut other = open(&cluster, 1);
    eventually(SOON, "the other slave knows the name", || stat(&mut other, "f"));
    match other.ask(&get("f")) {
        Reply::Elsewhere { holders } => assert_eq!(holders.len(), 1, "{holders:?}"),
        reply => panic!("{reply:?}"),
    }
    // Each client starts at a different slave.
    let clients = [cluster.client(), cluster.client()];
    let mut running: Vec<_> =
        clients.iter().map(|client| client.start(&["--json", "-c", "get f"])).collect();
    for (client, program) in clients.iter().zip(&mut running) {
        let json = Client::finish(program).ok().json();
        assert_eq!(json["verified"], true, "{json}");
        assert!(client.read("f") == bytes);
    }
    wait_equal(&cluster);
}

#[test]
fn a_reader_waits_for_content_whose_only_holder_is_stopped() {
    let bytes = content(2, 3 << 20);
    let cluster = Cluster::of(2).start();
    open(&cluster, 0).put("f", &content(1, 3 << 20)).unwrap();
    wait_equal(&cluster);
    // The master and the other slave learn of the put, and no slave can fetch it before the holder
    // is stopped.
    let fetching = process_of(&cluster.slaves[1].program, "Replicator");
    stop(fetching);
    let mut wire = open(&cluster, 0);
    let version = wire.put("f", &bytes).unwrap();
    cluster.slaves[0].program.signal_group(Signal::SIGSTOP);
    kill(fetching, Signal::SIGCONT).unwrap();
    let mut other = open(&cluster, 1);
    eventually(SOON, "the other slave knows of the put", || {
        (stat(&mut other, "f") == Some(version)).then_some(())
    });
    let client = cluster.client();
    let mut program =
        client.setup(&["--json", "--retry", "30", "-c", "get f"]).env("RUST_LOG", "debug").start();
    // The client has no source yet, and must not accept the former content.
    program
        .stderr
        .wait_for(SOON, "the client retries", |text| text.contains("failover]").then_some(()));
    assert_eq!(program.try_status(), None, "{}", program.stdout.text());
    assert!(!client.folder().join("f").exists());
    cluster.slaves[0].program.signal_group(Signal::SIGCONT);
    Client::finish(&mut program).ok();
    assert!(client.read("f") == bytes);
    wait_equal(&cluster);
}

/// Number of concurrent pairs of changes.
const TIMES: usize = 30;

/// Makes pairs of concurrent changes at two slaves and returns the results.
fn at_once(
    cluster: &Cluster,
    one: impl Fn(&mut RawClient, usize) -> Result<Lsn, Refusal> + Sync,
    other: impl Fn(&mut RawClient, usize) -> Result<Lsn, Refusal> + Sync,
) -> Vec<(Result<Lsn, Refusal>, Result<Lsn, Refusal>)> {
    let (mut first, mut second) = (open(cluster, 0), open(cluster, 1));
    let barrier = Barrier::new(2);
    std::thread::scope(|scope| {
        let side = scope.spawn(|| {
            let step = |n| {
                barrier.wait();
                other(&mut second, n)
            };
            (0..TIMES).map(step).collect::<Vec<_>>()
        });
        let step = |n| {
            barrier.wait();
            one(&mut first, n)
        };
        let ours: Vec<_> = (0..TIMES).map(step).collect();
        ours.into_iter().zip(side.join().unwrap()).collect()
    })
}

#[test]
pub fn of_two_concurrent_puts_the_higher_number_wins_everywhere() {
    let cluster = Cluster::of(3).start();
    let bytes = |side: u64, n: usize| content(side * 1000 + n as u64, 20_000 + n * 10_000);
    let told = at_once(
        &cluster,
        |wire, n| wire.put(&format!("f{n}"), &bytes(1, n)),
        |wire, n| wire.put(&format!("f{n}"), &bytes(2, n)),
    );
    let nodes = wait_equal(&cluster);
    assert_eq!(nodes.len(), TIMES);
    for (n, (one, other)) in told.iter().enumerate() {
        let (one, other) = (one.clone().unwrap(), other.clone().unwrap());
        assert_ne!(one, other);
        let wanted = digest(&bytes(if one > other { 1 } else { 2 }, n));
        let found = &nodes[&format!("f{n}")];
        assert!(
            matches!(found, TreeEntry::File { digest, .. } if *digest == wanted),
            "f{n}: {found:?}, {one} {other}"
        );
        assert_eq!(one_version(&cluster, &format!("f{n}")), one.max(other));
    }
}

#[test]
fn a_concurrent_put_and_removal_end_in_order_of_numbers() {
    let cluster = Cluster::of(3).start();
    let mut wire = open(&cluster, 2);
    for n in 0..TIMES {
        wire.put(&format!("f{n}"), b"old").unwrap();
    }
    let told = at_once(
        &cluster,
        |wire, n| wire.put(&format!("f{n}"), &content(n as u64, 100_000)),
        |wire, n| again(|| wire.change(&remove(&format!("f{n}"), false))),
    );
    let nodes = wait_equal(&cluster);
    for (n, (put, removed)) in told.into_iter().enumerate() {
        let (put, removed) = (put.unwrap(), removed.unwrap());
        let found = nodes.get(&format!("f{n}"));
        assert_eq!(found.is_some(), put > removed, "f{n}: the put is {put}, the removal {removed}");
        let wanted = digest(&content(n as u64, 100_000));
        assert!(
            found.is_none_or(
                |node| matches!(node, TreeEntry::File { digest, .. } if *digest == wanted)
            ),
            "f{n}: {found:?}"
        );
    }
}

#[test]
fn a_put_into_a_folder_being_removed_leaves_no_orphan() {
    let cluster = Cluster::of(3).start();
    let mut wire = open(&cluster, 2);
    for n in 0..TIMES {
        wire.change(&make_folder(&format!("a{n}"))).unwrap();
        wire.put(&format!("a{n}/c"), b"old").unwrap();
    }
    let told = at_once(
        &cluster,
        |wire, n| wire.put(&format!("a{n}/b"), &content(n as u64, 50_000)),
        |wire, n| again(|| wire.change(&remove(&format!("a{n}"), true))),
    );
    let nodes = wait_equal(&cluster);
    assert_eq!(nodes.len(), 0, "{nodes:#?}");
    for (n, (put, removed)) in told.into_iter().enumerate() {
        let removed = removed.unwrap();
        match put {
            Ok(put) => {
                assert!(put < removed, "a{n}/b was put as {put}, after the removal {removed}")
            }
            Err(refusal) => assert_eq!(refusal.code, ErrorCode::NotFound, "a{n}/b: {refusal}"),
        }
    }
}

/// Retries while the other change blocks this one.
#[track_caller]
fn again(mut change: impl FnMut() -> Result<Lsn, Refusal>) -> Result<Lsn, Refusal> {
    let began = Instant::now();
    loop {
        match change() {
            Err(refusal) if refusal.code == ErrorCode::NoChanges && began.elapsed() < SOON => {}
            told => return told,
        }
    }
}

#[test]
pub fn a_change_repeated_at_another_slave_is_the_same_change() {
    let cluster = Cluster::of(2).start();
    let (mut one, mut other) = (open(&cluster, 0), open(&cluster, 1));
    let request = put("f", 5);
    let first = one.upload(&request, b"12345").unwrap();
    one.put("f", b"newer").unwrap();
    assert_eq!(other.upload(&request, b"12345").unwrap(), first);
    // Other content under the id is refused, also by a slave that did not take the first.
    assert_eq!(other.upload(&request, b"54321").unwrap_err().code, ErrorCode::Conflict);
    let folder = make_folder("d");
    assert_eq!(one.change(&folder).unwrap(), other.change(&folder).unwrap());
    let nodes = wait_equal(&cluster);
    assert!(
        matches!(&nodes["f"], TreeEntry::File { digest: found, .. } if *found == digest(b"newer")),
        "{nodes:?}"
    );
    let (ticket, _) = ticket(cluster.addr);
    cluster
        .slaves
        .iter()
        .for_each(|slave| assert_eq!(session(slave.addr, &ticket).fetch("f").unwrap(), b"newer"));
}
