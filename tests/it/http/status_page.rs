//! The status page of a master with real slaves.

use std::net::SocketAddr;

use serde_json::Value;

use super::HttpTestClient;
use crate::cluster::helpers::operate;
use crate::ftp::ftp_address;
use crate::harness::{Cluster, SOON, content, eventually};

fn start(files: &[(&str, &[u8])]) -> (Cluster, SocketAddr) {
    let mut builder = Cluster::of(2)
        .master_args(&["--http", "127.0.0.1:0"])
        .slave_args(&["--http", "127.0.0.1:0"]);
    for (name, bytes) in files {
        builder = builder.file(name, bytes);
    }
    let cluster = builder.start();
    cluster.wait_in_service(2);
    let http = ftp_address(&cluster.master, "http");
    (cluster, http)
}

fn page(http: SocketAddr) -> String {
    HttpTestClient::connect(http).get("/-/status").text()
}

fn json(http: SocketAddr) -> Value {
    let fields = ["Accept: application/json"];
    let answer = HttpTestClient::connect(http).request("GET /-/status", &fields, b"");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    serde_json::from_slice(&answer.body).unwrap()
}

/// Returns the texts of `ftpmaster status` that the page does not have.
fn missing_texts(table: &str, page: &str) -> Vec<String> {
    let mut wanted = Vec::new();
    for line in table.lines().filter(|line| !line.starts_with("SLAVE")) {
        if let Some(remark) = line.strip_prefix("    ") {
            wanted.push(remark.to_owned());
        } else if line.contains("in-service") {
            // All cells but the time since the last heartbeat. FILES and BYTES share a cell.
            let cells: Vec<&str> = line.split_whitespace().collect();
            wanted.extend(cells[..6].iter().map(|cell| format!(">{cell}<")));
            wanted.push(format!(">workers {}<", cells[6]));
            wanted.push(format!(">{}<", cells[7]));
            wanted.push(format!(">{} bytes<", cells[8]));
        } else {
            wanted.push(line.to_owned());
        }
    }
    wanted.retain(|text| !page.contains(text.as_str()));
    wanted
}

#[test]
fn the_page_has_the_texts_of_ftpmaster_status() {
    let (cluster, http) = start(&[("a", b"x"), ("b", b"yz")]);
    cluster.wait_hashed();
    // The numbers change until both slaves have applied the changes of the start.
    eventually(SOON, "the page has all texts", || {
        missing_texts(&cluster.status(&[]).stdout, &page(http)).is_empty().then_some(())
    });
    // The JSON has all fields of `ftpmaster status --json`.
    let differing = || -> Vec<String> {
        let (of_page, of_program) = (json(http), cluster.status_json().unwrap());
        let names = of_program.as_object().unwrap().keys();
        assert!(names.clone().all(|name| of_page.get(name).is_some()), "{of_page}");
        let of_page = &of_page["slaves"][1];
        let of_program = of_program["slaves"][1].as_object().unwrap();
        let same = |name: &str| ["silent_ms", "disk_free_bytes"].contains(&name);
        let differs = |(name, value): &(&String, &Value)| !same(name) && of_page[*name] != **value;
        of_program.iter().filter(differs).map(|(name, _)| name.clone()).collect()
    };
    eventually(SOON, "the JSON has all fields", || differing().is_empty().then_some(()));
    let version = concat!("ftpslave ", env!("CARGO_PKG_VERSION"));
    assert_eq!(json(http)["slaves"][1]["version"], version);
}

#[test]
fn transfers_and_actions_are_shown() {
    let (cluster, http) = start(&[("large", &content(1, 3_000_000))]);
    cluster.wait_hashed();
    cluster.client().run(&["-c", "get large"]).ok();
    eventually(SOON, "the sent bytes are counted", || {
        let slaves = json(http)["slaves"].as_array().unwrap().clone();
        let sent = slaves.iter().filter_map(|slave| slave["sent_bytes"].as_u64()).sum::<u64>();
        (sent >= 3_000_000).then_some(())
    });
    let id = json(http)["slaves"][0]["id"].as_str().unwrap().to_owned();
    operate(&cluster, &["drain", &id]);
    for event in ["is draining", "is drained: it has no sessions"] {
        eventually(SOON, event, || page(http).contains(event).then_some(()));
    }
    let state = json(http)["slaves"][0]["state"].clone();
    assert_eq!(state, "draining");
    operate(&cluster, &["ready", &id]);
    eventually(SOON, "it is ready", || page(http).contains("is made ready").then_some(()));
}
