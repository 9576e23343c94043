//! Two slaves on one folder of one host: one writes it, the other forwards its changes and takes
//! over.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::helpers::{one_version, open, put, report, tree, tree_of, wait_for, wait_settled};
use crate::harness::{
    Client, Cluster, ProgramBuilder, SOON, content, eventually, make_folder, remove, rename,
    write_old,
};

/// Time limit for changes to succeed again after the writing slave was killed.
const TAKEN_OVER: Duration = Duration::from_secs(10);
/// Time limit for a change through one slave to be visible at the other.
const SEEN: Duration = Duration::from_secs(3);

#[test]
fn a_put_through_one_slave_is_visible_at_both() {
    let cluster = Cluster::of(2).shared().start();
    let mut wires = [open(&cluster, 0), open(&cluster, 1)];
    for n in 0..20 {
        let (name, bytes) = (format!("f{n}"), content(n, 50_000));
        let version = wires[usize::from(n % 2 == 1)].put(&name, &bytes).unwrap();
        // A session that knows of the change sees it at once, at either slave.
        let other = &mut wires[usize::from(n % 2 == 0)];
        eventually(SEEN, "the other slave shows the change", || {
            (other.fetch(&name).ok().as_ref() == Some(&bytes)).then_some(())
        });
        assert_eq!(one_version(&cluster, &name), version);
    }
    wires[1].change(&make_folder("d")).unwrap();
    wires[0].put("d/f", b"1").unwrap();
    wires[1].change(&rename("d/f", "d/g")).unwrap();
    wires[0].change(&rename("d", "e")).unwrap();
    eventually(SEEN, "the other slave shows the change", || wires[1].fetch("e/g").ok());
    wires[1].change(&remove("e", true)).unwrap();
    assert!(!cluster.slaves[0].root.join("e").exists());
    // A client that is sent to both in turn always sees its own puts.
    let client = cluster.client();
    for n in 0..6_u8 {
        put(&client, "turns", &[n]);
        client.get("turns");
        assert_eq!(client.read("turns"), [n]);
    }
}

#[test]
fn the_other_slave_takes_over_from_a_killed_writer() {
    let mut cluster = Cluster::of(2).shared().start();
    let mut wanted = Vec::new();
    for (round, keeper) in [0, 1, 0].into_iter().enumerate() {
        let other = 1 - keeper;
        assert!(
            !cluster.slaves[keeper]
                .program
                .stderr
                .text()
                .contains("another slave writes the catalogue")
                || round > 0,
            "the first slave writes the folder"
        );
        let mut wire = open(&cluster, other);
        let before = format!("before{round}");
        wire.put(&before, before.as_bytes()).unwrap();
        wanted.push(before);
        cluster.slaves[keeper].program.kill();
        let after = format!("after{round}");
        let mut wire = eventually(TAKEN_OVER, "a change through the other slave succeeds", || {
            wire.put(&after, after.as_bytes()).ok()?;
            Some(open(&cluster, other))
        });
        wanted.push(after);
        for name in &wanted {
            assert_eq!(wire.fetch(name).unwrap(), name.as_bytes());
        }
        // The slave that writes now notices local changes.
        let by_hand = format!("by-hand{round}");
        fs::write(cluster.slaves[other].root.join(&by_hand), &by_hand).unwrap();
        eventually(SOON, "the file has a version", || {
            super::helpers::try_version(&mut wire, &by_hand)
        });
        wanted.push(by_hand);
        cluster.restart_slave(keeper);
        cluster.wait_in_service(2);
        let back = format!("back{round}");
        open(&cluster, keeper).put(&back, back.as_bytes()).unwrap();
        wanted.push(back);
    }
    let all: Vec<(&str, &[u8])> =
        wanted.iter().map(|name| (name.as_str(), name.as_bytes())).collect();
    wait_for(&cluster, &tree_of(&all));
}

#[test]
fn a_forwarded_put_survives_the_death_of_the_writer() {
    let mut cluster = Cluster::of(2).shared().proxied().start();
    let bytes = content(1, 24 << 20);
    let client = cluster.client();
    fs::write(client.folder().join("f"), &bytes).unwrap();
    cluster
        .slaves
        .iter()
        .for_each(|slave| slave.proxy.as_ref().unwrap().throttle_up(Some(12 << 20)));
    let mut program = client.start(&["--json", "--retry", "20", "-c", "put f"]);
    let mut sent = 0;
    eventually(SOON, "bytes are sent", || {
        sent += cluster
            .slaves
            .iter()
            .map(|slave| slave.proxy.as_ref().unwrap().take_data_bytes())
            .sum::<u64>();
        (sent > 4 << 20).then_some(())
    });
    cluster.slaves[0].program.kill();
    let json = Client::finish(&mut program).ok().json();
    assert_eq!(json["ok"], true, "{json}");
    cluster.restart_slave(0);
    wait_for(&cluster, &tree_of(&[("f", &bytes)]));
}

#[test]
fn two_slaves_of_one_folder_count_as_one_copy() {
    let cluster = Cluster::of(2).shared().start();
    let client = cluster.client();
    put(&client, "one", b"1");
    let folder = report(&cluster, 0)["folder"].clone();
    assert_eq!(report(&cluster, 1)["folder"], folder);
    // `holders` names each of the slaves at most once; both report the same folder.
    let json = client.command("stat one").ok().json();
    let named =
        json["entries"][0]["holders"].as_array().unwrap_or_else(|| panic!("no holders in {json}"));
    let slaves: BTreeSet<String> =
        cluster.slaves.iter().map(|slave| slave.addr.to_string()).collect();
    let unlike: BTreeSet<String> =
        named.iter().map(|holder| holder.as_str().unwrap().to_owned()).collect();
    assert!(
        unlike.len() == named.len() && !unlike.is_empty() && unlike.is_subset(&slaves),
        "{json}"
    );
    fs::write(client.folder().join("two"), b"2").unwrap();
    let mut program = client.start(&["--json", "--copies", "2", "-c", "put two"]);
    eventually(SOON, "the file has its name", || {
        cluster.slaves[0].root.join("two").exists().then_some(())
    });
    // Both have applied it, and have told the master.
    for n in 0..2 {
        eventually(SOON, "no slave is behind", || (report(&cluster, n)["lag"] == 0).then_some(()));
    }
    client.command("stat two").ok();
    assert_eq!(
        program.try_status(),
        None,
        "one folder counted as two copies: {}",
        program.stdout.text()
    );
    // A slave with its own folder is the second copy.
    let root = cluster.dir.folder("own-root");
    let mut third = ProgramBuilder::new("ftpslave", cluster.dir.path())
        .args(["0", "--master", &cluster.addr.to_string()])
        .args([
            PathBuf::from("--root"),
            root.clone(),
            PathBuf::from("--cluster-key"),
            cluster.key(),
        ])
        .start();
    third.ready();
    let json = Client::finish(&mut program).ok().json();
    assert_eq!(json["copies"], 2, "{json}");
    // Contents arrive in any order.
    let wanted = tree_of(&[("one", b"1"), ("two", b"2")]);
    eventually(SOON, "the third slave has both", || (tree(&root) == wanted).then_some(()));
}

#[test]
fn existing_files_are_added_once() {
    let mut cluster = Cluster::of(0).shared().start();
    let root = cluster.dir.folder("root");
    for n in 0..50 {
        write_old(&root.join(format!("d{}/f{n}", n % 5)), &content(n, 1000));
    }
    let wanted = tree(&root);
    (0..2).for_each(|_| cluster.add_slave());
    wait_for(&cluster, &wanted);
    wait_settled(&cluster);
    assert_eq!(super::helpers::last_change(&cluster).1, wanted.len() as u64);
    assert_eq!(super::helpers::conflicts(&root), []);
}
