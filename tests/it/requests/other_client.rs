//! `tests/other_client.py`, which was written from docs/protocol.md alone, against real servers.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::{Cluster, SOON, Standalone, TestDir, content, digest, eventually, sessions};

/// Runs a command of the client; returns its status and the printed object.
#[track_caller]
fn run(server: SocketAddr, command: &[&str]) -> (i32, Value) {
    let output = Command::new("python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/other_client.py"))
        .arg(server.to_string())
        .args(command)
        .output()
        .unwrap_or_else(|e| panic!("python3 is needed for this test: {e}"));
    let status = output.status.code().unwrap_or_else(|| panic!("{output:?}"));
    let json = serde_json::from_slice(&output.stdout).unwrap_or_default();
    assert!(status != 0 || json != Value::Null, "{command:?}: {output:?}");
    if status != 0 {
        eprintln!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    (status, json)
}

/// Runs a command that must succeed.
#[track_caller]
fn says(server: SocketAddr, command: &[&str]) -> Value {
    let (status, json) = run(server, command);
    assert_eq!((status, &json["ok"]), (0, &true.into()), "{command:?}: {json}");
    json
}

/// Runs every command against a server that has the file `f`.
#[track_caller]
fn use_all_commands(server: SocketAddr, bytes: &[u8]) {
    let dir = TestDir::new();
    let local = dir.path().join("local");
    let local = local.to_str().unwrap();
    says(server, &["probe"]);
    // A cut download is resumed.
    let half = (bytes.len() / 2).to_string();
    assert_eq!(run(server, &["get", "f", local, "--stop-after", &half]).0, 5);
    let got = says(server, &["get", "f", local]);
    assert!(got["resumed_from"].as_u64().unwrap() > 0, "{got}");
    assert_eq!(got["digest"], digest(bytes));
    assert!(std::fs::read(local).unwrap() == bytes);
    let copied = says(server, &["cp", "f", "g", "--if-digest", &digest(bytes)]);
    assert_eq!(copied["digest"], digest(bytes), "{copied}");
    let set = says(server, &["set", "g", "--mode", "600", "--mtime", "1234567890.5"]);
    let entries = eventually(SOON, "each slave shows the change", || {
        let entries = says(server, &["stat", "f", "none", "g"])["entries"].take();
        (entries[2]["version"] == set["version"]).then_some(entries)
    });
    assert_eq!(entries[1]["error"], 1, "{entries}");
    assert_eq!(entries[2]["mode"], 0o600, "{entries}");
    assert_eq!(entries[2]["mtime"], serde_json::json!([1_234_567_890, 500_000_000]), "{entries}");
    assert_eq!(entries[2]["digest"], digest(bytes), "{entries}");
    assert_eq!(entries[0]["digest"], digest(bytes), "{entries}");
    let listed = says(server, &["ls"])["entries"].take();
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|entry| &entry["name"]).collect();
    assert_eq!(names, ["f", "g"]);
    // Refusals: a missing file, and other content than expected.
    assert_eq!(run(server, &["cp", "none", "h"]).0, 1);
    assert_eq!(run(server, &["cp", "f", "h", "--if-digest", &digest(b"")]).0, 1);
    assert_eq!(run(server, &["set", "none", "--mode", "600"]).0, 1);
}

#[test]
fn the_independent_client_uses_a_standalone_slave() {
    let (slave, bytes) = (Standalone::start(&[], &[]), content(1, 9 << 20));
    sessions(slave.addr, 1)[0].put("f", &bytes).unwrap();
    use_all_commands(slave.addr, &bytes);
}

#[test]
fn the_independent_client_uses_a_cluster() {
    let bytes = content(1, 9 << 20);
    let cluster = Cluster::of(2).start();
    let request = relais_proto::PutRequest { copies: 2, ..crate::harness::put("f", bytes.len()) };
    super::open(&cluster, 0).upload(&request, &bytes).unwrap();
    use_all_commands(cluster.addr, &bytes);
}
