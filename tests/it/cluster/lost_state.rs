//! Lost state: without its state folder or journal a running server acknowledges no change.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::helpers::{open, wait_settled};
use super::recovery::state;
use crate::harness::{Client, Cluster, ProgramBuilder, Standalone};

/// Requires that the server refuses changes with a reason and serves its files.
#[track_caller]
fn assert_read_only(addr: SocketAddr, name: &str, bytes: &[u8]) {
    for _ in 0..2 {
        let client = Client::new(addr);
        fs::write(client.folder().join("new"), b"new").unwrap();
        let json = client.run(&["--json", "--retry", "0", "-c", "put new"]).fails(1).json();
        assert_eq!(json["error"]["code"], "no-changes", "{json}");
        let said = json["error"]["message"].as_str().unwrap();
        assert!(said.contains("journal"), "{json}");
    }
    let client = Client::new(addr);
    client.get(name);
    assert!(client.read(name) == bytes);
}

fn without_its_journal(goes: impl Fn(&Path)) {
    let mut cluster = Cluster::of(1).start();
    open(&cluster, 0).put("before", b"before").unwrap();
    wait_settled(&cluster);
    let key = cluster.dir.path().join("key-copy");
    fs::copy(cluster.key(), &key).unwrap();
    goes(&state(&cluster));
    assert_read_only(cluster.addr, "before", b"before");
    let status = ProgramBuilder::new("ftpmaster", cluster.dir.path())
        .args(["status", "--json", "--master", &cluster.addr.to_string(), "--cluster-key"])
        .args([key, PathBuf::from("--state"), cluster.dir.folder("no-state")])
        .start();
    let shown = Client::finish(&mut { status });
    let status: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
    assert!(status["halted"].as_str().unwrap().contains("journal"), "{status}");
    let log = cluster.master.stderr.text();
    assert!(log.contains("was removed or replaced"), "{log}");
    cluster.master.kill();
}

#[test]
fn a_master_without_its_state_folder_takes_no_changes() {
    without_its_journal(|state| {
        // Slaves read the key from this folder and still need it.
        let key = fs::read(state.join("cluster.key")).unwrap();
        fs::remove_dir_all(state).unwrap();
        fs::create_dir(state).unwrap();
        fs::write(state.join("cluster.key"), key).unwrap();
        fs::set_permissions(state.join("cluster.key"), PermissionsExt::from_mode(0o600)).unwrap();
    });
}

#[test]
fn a_master_whose_journal_was_replaced_takes_no_changes() {
    without_its_journal(|state| {
        fs::copy(state.join("journal"), state.join("copy")).unwrap();
        fs::rename(state.join("copy"), state.join("journal")).unwrap();
    });
}

#[test]
fn a_refused_change_is_not_in_the_journal_that_comes_back() {
    let mut cluster = Cluster::of(1).start();
    open(&cluster, 0).put("before", b"before").unwrap();
    wait_settled(&cluster);
    let (there, away) = (state(&cluster), cluster.dir.path().join("away"));
    fs::rename(&there, &away).unwrap();
    let client = cluster.client();
    fs::write(client.folder().join("new"), b"new").unwrap();
    client.run(&["--retry", "0", "-c", "put new"]).fails(1);
    fs::rename(&away, &there).unwrap();
    cluster.master.kill();
    cluster.restart_master();
    cluster.wait_in_service(1);
    client.run(&["--retry", "20", "-c", "put new"]).ok();
    assert_eq!(fs::read(cluster.slaves[0].root.join("new")).unwrap(), b"new");
    assert_eq!(cluster.status_json().unwrap()["lost"], 0);
}

#[test]
fn a_standalone_slave_without_its_journal_takes_no_changes() {
    let slave = Standalone::start(&[], &[]);
    let client = slave.client();
    fs::write(client.folder().join("before"), b"before").unwrap();
    client.command("put before").ok();
    fs::remove_file(slave.root.join(".relais/journal")).unwrap();
    assert_read_only(slave.addr, "before", b"before");
}
