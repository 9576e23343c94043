//! A slave whose root is renamed: it serves the open folder and reports the rename.

use std::fs;
use std::time::{Duration, Instant};

use relais_proto::{ErrorCode, Reply, Request, TreePath};

use super::helpers::{open, report, tree, tree_of, wait_for, wait_settled};
use crate::harness::{Client, Cluster, SOON, Standalone, content, eventually, make_folder};

/// Far less than the timeout of a listing, and far more than a listing takes.
const PROMPT: Duration = Duration::from_secs(20);

#[test]
fn a_renamed_root_is_served_and_reported() {
    let mut cluster = Cluster::of(2).start();
    let bytes = content(1, 200_000);
    open(&cluster, 0).put("f", &bytes).unwrap();
    wait_for(&cluster, &tree_of(&[("f", &bytes)]));
    let (old, new) = (cluster.slaves[0].root.clone(), cluster.dir.path().join("renamed"));
    fs::rename(&old, &new).unwrap();
    // Another folder has the name now; the slave does not touch it.
    fs::create_dir_all(old.join(".relais")).unwrap();
    fs::write(old.join("other"), "not served").unwrap();
    cluster.slaves[0].root = new.clone();
    eventually(SOON, "status reports the rename", || {
        let said = report(&cluster, 0)["last_error"].as_str()?.to_owned();
        said.contains("renamed").then_some(())
    });
    // New clients, in workers that have not read the catalogue yet.
    let began = Instant::now();
    let client = Client::new(cluster.addr);
    for _ in 0..6 {
        let listed = client.command("ls").ok().json();
        assert_eq!(listed["entries"].as_array().unwrap().len(), 1, "{listed}");
    }
    assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
    let mut wire = open(&cluster, 0);
    assert!(wire.fetch("f").unwrap() == bytes);
    wire.put("g", b"through the renamed one").unwrap();
    open(&cluster, 1).put("h", b"through the other").unwrap();
    fs::write(new.join("by-hand"), "in the renamed one").unwrap();
    wait_for(
        &cluster,
        &tree_of(&[
            ("f", &bytes),
            ("g", b"through the renamed one"),
            ("h", b"through the other"),
            ("by-hand", b"in the renamed one"),
        ]),
    );
    assert_eq!(tree(&old), tree_of(&[("other", b"not served")]));
    assert_eq!(fs::read_dir(old.join(".relais")).unwrap().count(), 0);
    // With the former name the report ends.
    fs::remove_dir_all(&old).unwrap();
    fs::rename(&new, &old).unwrap();
    cluster.slaves[0].root = old;
    eventually(SOON, "status reports no rename", || {
        report(&cluster, 0)["last_error"].is_null().then_some(())
    });
    wait_settled(&cluster);
}

#[test]
fn a_standalone_slave_serves_its_renamed_folder() {
    let slave = Standalone::start(&["--workers", "2"], &[("f", b"old")]);
    slave.wait_listed("f", true);
    let new = slave.dir.path().join("renamed");
    fs::rename(&slave.root, &new).unwrap();
    let began = Instant::now();
    let client = slave.client();
    fs::write(client.folder().join("g"), "new").unwrap();
    client.command("put g").ok();
    client.get("g");
    let listed = client.command("ls").ok().json();
    assert_eq!(listed["entries"].as_array().unwrap().len(), 2, "{listed}");
    assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
    assert_eq!(fs::read_to_string(new.join("g")).unwrap(), "new");
    assert!(!slave.root.exists());
    let mut wire = crate::harness::sessions(slave.addr, 1).remove(0);
    wire.change(&make_folder("d")).unwrap();
    assert!(new.join("d").is_dir());
    eventually(SOON, "status reports the rename", || {
        client.command("status").ok().json()["last_error"]
            .as_str()?
            .contains("renamed")
            .then_some(())
    });
}

#[test]
fn links_in_dot_relais_are_not_followed() {
    for name in ["catalogue.db", "journal", "lock", "certificate.pem", "generation"] {
        let dir = crate::harness::TestDir::new();
        let (root, outside) = (dir.folder("root"), dir.path().join("outside"));
        fs::create_dir(root.join(".relais")).unwrap();
        fs::write(&outside, "not touched").unwrap();
        std::os::unix::fs::symlink(&outside, root.join(".relais").join(name)).unwrap();
        let mut program = crate::harness::ProgramBuilder::new("ftpslave", dir.path())
            .args(["0", "--standalone", "--tls", "always", "--state"])
            .args([dir.folder("state"), "--root".into(), root.clone()])
            .start();
        // Only a slave of a cluster has a generation.
        if name == "generation" {
            program.ready();
        } else {
            assert_ne!(program.wait(SOON), 0, "{name}");
        }
        assert_eq!(fs::read_to_string(&outside).unwrap(), "not touched", "{name}");
    }
}

/// Slow: it waits for the whole timeout of a listing during the first scan.
#[test]
#[ignore = "a minute"]
fn a_listing_waits_a_minute_for_a_scan_and_no_longer() {
    let dir = crate::harness::TestDir::new();
    let root = dir.folder("root");
    fs::create_dir(root.join(".relais")).unwrap();
    // The holder of this lock writes the catalogue; here no slave holds it.
    let lock = fs::File::create(root.join(".relais/lock")).unwrap();
    lock.lock().unwrap();
    let slave = Standalone::start_in(dir, root, &[], &[]);
    let began = Instant::now();
    let mut wire = crate::harness::sessions(slave.addr, 1).remove(0);
    let list = Request::List { path: TreePath::root(), after: String::new(), most: 0 };
    wire.send(&[list]);
    let refusal = loop {
        let (kind, payload) = wire.frame().unwrap().expect("an answer");
        match Reply::decode(kind, &payload).unwrap() {
            Reply::Wait(_) => {}
            Reply::Error(refusal) => break refusal,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refusal.code, ErrorCode::TimedOut, "{refusal:?}");
    assert!((60..90).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    wire.closed_within(SOON);
    // Once a slave writes the catalogue, the next listing is answered.
    drop(lock);
    let client = slave.client();
    client.command("ls").ok();
}
