//! What is unfinished: listed, dropped, and never in the way of other commands.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use super::{Lab, tree, write};
use crate::harness::{Client, Fault, Program, Proxy, SOON, content, eventually};

const LARGE: usize = 12 << 20;

/// A slave behind a line, and a client.
struct Rig {
    lab: Lab,
    line: Proxy,
    client: Client,
}

impl Rig {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let lab = Lab::new(files);
        let line = Proxy::to(lab.slave.addr);
        let client = Client::new(line.addr());
        Self { lab, line, client }
    }

    /// Starts a command that stands still in the middle of its content.
    #[track_caller]
    fn frozen(&self, command: &str) -> Program {
        if command.starts_with("put") {
            self.line.throttle_up(Some(4 << 20));
            self.line.fault_at_data(6 << 20, Fault::Stall);
        } else {
            self.line.throttle(Some(4 << 20));
            self.line.fault_at_content(6 << 20, Fault::Stall);
        }
        let program = self.client.start(&["-c", command]);
        self.line.wait_struck();
        self.line.throttle(None);
        self.line.throttle_up(None);
        program
    }

    /// Runs a command, kills it in the middle, and leaves its line in the `.log`.
    #[track_caller]
    fn killed(&self, command: &str) {
        let mut program = self.frozen(command);
        eventually(SOON, "the .log", || {
            fs::read_to_string(self.log()).is_ok_and(|log| log.contains("big")).then_some(())
        });
        program.kill();
        self.line.cut_all();
        self.line.disarm();
    }

    fn log(&self) -> std::path::PathBuf {
        self.client.folder().join(".log")
    }

    #[track_caller]
    fn transfers(&self, command: &str) -> (Value, Vec<Value>) {
        let json = self.client.command(command).ok().json();
        let list = json["transfers"].as_array().unwrap().clone();
        (json, list)
    }
}

#[test]
fn they_are_listed_and_dropped_with_their_part_files() {
    let bytes = content(1, LARGE);
    let rig = Rig::new(&[("d/big", &bytes)]);
    assert_eq!(rig.transfers("transfers").1, Vec::<Value>::new());
    write(&rig.client.folder().join("up/big"), &bytes);
    rig.killed("get d/big -o here");
    rig.killed("put up/big -o there");
    rig.killed("get -r d");
    let (json, list) = rig.transfers("transfers");
    assert!(json.get("dropped").is_none(), "{json}");
    let told: Vec<(&str, bool, &str, &str)> = list
        .iter()
        .map(|one| {
            let text = |key: &str| one[key].as_str().unwrap();
            (text("direction"), one["recursive"].as_bool().unwrap(), text("remote"), text("local"))
        })
        .collect();
    assert_eq!(
        told,
        [
            ("get", false, "/d/big", "here"),
            ("put", false, "/there", "up/big"),
            ("get", true, "/d", "d"),
            ("get", false, "/d/big", "d/big"),
        ]
    );
    for one in list.iter().filter(|one| one["recursive"] == false) {
        assert_eq!(one["size"], LARGE, "{one}");
        // What went out of a put may still have been on its way.
        let most = if one["direction"] == "put" { LARGE as u64 } else { 6 << 20 };
        assert!(one["bytes"].as_u64().unwrap() <= most, "{one}");
    }
    assert!(list[0]["bytes"].as_u64().unwrap() > 0 && list[1]["bytes"].as_u64().unwrap() > 0);
    let host = rig.line.addr().to_string();
    assert!(list.iter().all(|one| one["host"] == host.as_str()), "{list:?}");
    assert!(list.iter().all(|one| one["since"].as_str().unwrap().starts_with("20")), "{list:?}");
    let plain = rig.client.run(&["-c", "transfers"]).ok().stdout;
    assert_eq!(plain.lines().count(), 4, "{plain}");
    assert!(plain.contains("put up/big -> /there, "), "{plain}");

    let (json, list) = rig.transfers("transfers --drop");
    assert_eq!((&json["dropped"], list.len()), (&4.into(), 4), "{json}");
    assert_eq!(tree(&rig.client.folder()), ["d/", "up/", "up/big"]);
    assert!(!rig.log().exists());
    assert_eq!(rig.transfers("transfers --drop").0["dropped"], 0);
    let plain = rig.client.run(&["-c", "transfers"]).ok().stdout;
    assert_eq!(plain, "no transfer is unfinished\n");
    rig.client.command("transfers d").fails(2);
    // Dropped, they begin anew.
    let json = rig.client.command("get d/big -o here").ok().json();
    assert_eq!(json["resumed_from"], 0, "{json}");
}

#[test]
fn one_that_another_client_works_on_is_not_dropped() {
    let bytes = content(2, LARGE);
    let rig = Rig::new(&[("big", &bytes)]);
    let mut program = rig.frozen("get big");
    eventually(SOON, "the .log", || rig.log().exists().then_some(()));
    let dropped = rig.client.command("transfers --drop").ok();
    assert_eq!(dropped.json()["dropped"], 0, "{dropped:?}");
    assert!(dropped.stderr.contains("another ftpclient"), "{dropped:?}");
    rig.line.release();
    Client::finish(&mut program).ok();
    assert!(rig.client.read("big") == bytes);
}

#[test]
fn a_refused_put_leaves_the_log_at_once() {
    let rig = Rig::new(&[("folder/x", b"1"), ("old", b"old")]);
    // Each is refused only once the server has seen some of it.
    write(&rig.client.folder().join("big"), &content(3, 5 << 20));
    for (command, code) in [
        ("put big -o missing/big", "not-found"),
        ("put big -o folder/x/big", "not-folder"),
        ("put big -o old --if-version 7-7", "changed"),
    ] {
        let output = rig.client.command(command).fails(1);
        assert_eq!(output.json()["error"]["code"], code, "{output:?}");
        assert!(!rig.log().exists(), "{command}: {}", fs::read_to_string(rig.log()).unwrap());
    }
    rig.line.take_data_bytes();
    rig.client.command("pwd").ok();
    assert_eq!(rig.line.take_data_bytes(), 0, "nothing is sent again");
}

#[test]
fn a_put_leaves_a_server_that_takes_nothing_as_fast_as_a_get() {
    let bytes = content(4, 20 << 20);
    let rig = Rig::new(&[("there", &bytes)]);
    write(&rig.client.folder().join("here"), &bytes);
    let mut times = Vec::new();
    for command in ["get there", "put here"] {
        if command == "put here" {
            rig.line.fault_at_data(2 << 20, Fault::Stall);
        } else {
            rig.line.fault_at_content(2 << 20, Fault::Stall);
        }
        let mut program = rig.client.start(&["-c", command]);
        rig.line.wait_struck();
        let began = std::time::Instant::now();
        // The connection that stands still is left for a new one, on which nothing is wrong.
        let output = Client::finish(&mut program).ok();
        times.push(began.elapsed());
        assert!(output.stderr.contains("resuming"), "{output:?}");
        rig.line.cut_all();
        rig.line.disarm();
    }
    assert!(times.iter().all(|time| *time < Duration::from_secs(20)), "{times:?}");
    assert!(rig.lab.served("here") == bytes);
}
