//! Partitions between slaves and master, in one or both directions: no wrong answers, and equal
//! trees soon after.

use std::time::{Duration, Instant};

use relais_proto::ErrorCode;

use super::helpers::{healthy, last_change, open, report, tree, tree_of, wait_for};
use crate::harness::{Cluster, Fault, Proxy, SOON, content, eventually, write_old};

/// Time limit to leave the round robin: three missed heartbeats of a second each, plus the poll.
const OUT: Duration = Duration::from_secs(8);
/// Time limit for equal trees after the last repair.
const HEALED: Duration = Duration::from_secs(30);

/// Starts another slave, which connects to the master through a proxy.
#[track_caller]
fn add_behind(cluster: &mut Cluster, proxy: &Proxy) {
    let master = std::mem::replace(&mut cluster.addr, proxy.addr());
    cluster.add_slave();
    cluster.addr = master;
}

/// Partitions a slave from its master by `cut`, and heals the connection.
#[track_caller]
fn cut_off(which: &str, cut: impl Fn(&Proxy)) {
    let mut cluster = Cluster::of(1).start();
    let proxy = Proxy::to(cluster.addr);
    add_behind(&mut cluster, &proxy);
    cluster.wait_in_service(2);
    let old = which.as_bytes();
    open(&cluster, 0).put("f", old).unwrap();
    wait_for(&cluster, &tree_of(&[("f", old)]));
    let mut wire = open(&cluster, 1);
    wire.ping();
    cut(&proxy);
    eventually(OUT, &format!("the slave leaves the round robin, cut: {which}"), || {
        (report(&cluster, 1)["state"] != "in-service").then_some(())
    });
    let client = cluster.client();
    client.get("f");
    let refusal = eventually(OUT, &format!("the slave refuses changes, cut: {which}"), || {
        wire.put("f", b"new").err()
    });
    // A put in flight at the cut may have reached the master.
    assert!(
        [ErrorCode::NoChanges, ErrorCode::TimedOut].contains(&refusal.code),
        "{which}: {refusal:?}"
    );
    // From then on the refusal is immediate.
    let began = Instant::now();
    assert_eq!(wire.put("f", b"new").unwrap_err().code, ErrorCode::NoChanges);
    assert!(began.elapsed() < Duration::from_secs(2), "{which}: after {:?}", began.elapsed());
    assert_eq!(wire.fetch("f").unwrap(), old, "{which}");
    assert_eq!(std::fs::read(cluster.slaves[1].root.join("f")).unwrap(), old, "{which}");
    // The other slaves continue.
    open(&cluster, 0).put("meanwhile", old).unwrap();
    proxy.refuse(false);
    proxy.disarm();
    proxy.thaw();
    proxy.cut_all();
    eventually(SOON, "the slave is back", || {
        cluster.slaves[1].root.join("meanwhile").exists().then_some(())
    });
    cluster.wait_in_service(2);
    wire.put("f", b"again").unwrap();
    open(&cluster, 0).change(&crate::harness::remove("meanwhile", false)).unwrap();
    wait_for(&cluster, &tree_of(&[("f", b"again")]));
}

#[test]
pub fn a_partitioned_slave_serves_its_files_and_refuses_changes() {
    cut_off("both", Proxy::freeze);
}

/// Stalls one direction of the next connection, soon after the join.
#[track_caller]
fn stall(proxy: &Proxy) {
    proxy.cut_all();
    proxy.wait_struck();
    proxy.refuse(true);
}

#[test]
fn a_slave_that_the_master_does_not_hear_refuses_changes() {
    cut_off("to the master", |proxy| {
        proxy.fault_up(1000, Fault::Stall);
        stall(proxy);
    });
}

#[test]
fn a_slave_that_does_not_hear_the_master_refuses_changes() {
    cut_off("from the master", |proxy| {
        proxy.fault_down(450, Fault::Stall);
        stall(proxy);
    });
}

#[test]
pub fn connections_cut_in_any_order_recover() {
    let mut cluster = Cluster::of(0).start();
    let proxies: Vec<Proxy> = (0..3).map(|_| Proxy::to(cluster.addr)).collect();
    proxies.iter().for_each(|proxy| add_behind(&mut cluster, proxy));
    cluster.wait_in_service(3);
    // The connection and the fault follow from a seed.
    let dice = content(u64::from(std::process::id()), 400);
    let began = Instant::now();
    let mut wires: Vec<_> = (0..3).map(|n| open(&cluster, n)).collect();
    wires[0].put("first", b"before the cuts").unwrap();
    let mut made = vec![("first".to_owned(), b"before the cuts".to_vec())];
    for (n, die) in dice.iter().enumerate() {
        if began.elapsed() > Duration::from_secs(6) {
            break;
        }
        let proxy = &proxies[usize::from(die % 3)];
        match die / 3 % 5 {
            0 => {
                proxy.thaw();
                proxy.cut_all();
            }
            1 => proxy.freeze(),
            2 => proxy.thaw(),
            3 => proxy.refuse(true),
            _ => proxy.refuse(false),
        }
        // The connection to clients is never cut. A slave without a master reports that, at once or
        // soon.
        let wire = &mut wires[usize::from(die / 16 % 3)];
        let name = format!("f{n}");
        match wire.put(&name, &dice[n..]) {
            Ok(_) => made.push((name, dice[n..].to_vec())),
            Err(refusal) => assert!(
                [ErrorCode::NoChanges, ErrorCode::TimedOut].contains(&refusal.code),
                "{refusal:?}"
            ),
        }
    }
    for proxy in &proxies {
        proxy.refuse(false);
        proxy.thaw();
        proxy.cut_all();
    }
    eventually(HEALED, "all trees are equal", || {
        let trees: Vec<_> = cluster.slaves.iter().map(|slave| tree(&slave.root)).collect();
        let all = made
            .iter()
            .all(|(name, bytes)| trees[0].get(name) == Some(&crate::harness::digest(bytes)));
        (all && trees.windows(2).all(|two| two[0] == two[1])).then_some(())
    });
    healthy(&cluster);
}

#[test]
fn a_join_that_is_cut_anywhere_removes_nothing() {
    const FILES: u64 = 2000;
    let mut cluster = Cluster::of(1).start();
    let root = cluster.slaves[0].root.clone();
    for n in 0..FILES {
        write_old(&root.join(format!("d{}/f{n}", n % 7)), &content(n, 50));
    }
    let wanted = tree(&root);
    // Each entry is one change.
    eventually(SOON, "all files are numbered", || {
        (last_change(&cluster).1 == wanted.len() as u64).then_some(())
    });
    wait_for(&cluster, &wanted);
    let before = last_change(&cluster);
    let proxy = Proxy::to(cluster.addr);
    add_behind(&mut cluster, &proxy);
    // The comparison breaks off at some byte, in either direction: once, and again soon.
    for at in [100, 300, 1000, 5000, 20_000, 50_000, 100_000, 200_000] {
        proxy.fault_down(at, Fault::Cut);
        proxy.cut_all();
        eventually(SOON, "the connection was cut, or the join has ended", || {
            (proxy.struck() || tree(&cluster.slaves[1].root) == wanted).then_some(())
        });
        proxy.disarm();
        assert!(tree(&root) == wanted);
    }
    wait_for(&cluster, &wanted);
    // Also for a complete slave that joins again.
    for at in [100, 300, 1000] {
        proxy.fault_up(at, Fault::Cut);
        proxy.cut_all();
        eventually(SOON, "the connection was cut", || proxy.struck().then_some(()));
        proxy.disarm();
    }
    wait_for(&cluster, &wanted);
    assert_eq!(last_change(&cluster), before);
}
