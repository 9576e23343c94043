//! Unfinished transfers: listed, dropped, and never resumed by other commands.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use super::{CommandFixture, tree, write};
use crate::harness::{Client, Fault, Program, Proxy, SOON, content, eventually};

const LARGE: usize = 12 << 20;

/// A slave behind a proxy, and a client.
struct UnfinishedTransferFixture {
    direct: CommandFixture,
    proxy: Proxy,
    client: Client,
}

impl UnfinishedTransferFixture {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let direct = CommandFixture::new(files);
        let proxy = Proxy::to(direct.slave.addr);
        let client = Client::new(proxy.addr());
        Self { direct, proxy, client }
    }

    /// Starts a command that is frozen in the middle of its content.
    #[track_caller]
    fn frozen(&self, command: &str) -> Program {
        if command.starts_with("put") {
            self.proxy.throttle_up(Some(4 << 20));
            self.proxy.fault_at_data(6 << 20, Fault::Stall);
        } else {
            self.proxy.throttle(Some(4 << 20));
            self.proxy.fault_at_content(6 << 20, Fault::Stall);
        }
        let program = self.client.start(&["-c", command]);
        self.proxy.wait_struck();
        self.proxy.throttle(None);
        self.proxy.throttle_up(None);
        program
    }

    /// Runs a command and kills it in the middle, which leaves its line in the `.log`.
    #[track_caller]
    fn killed(&self, command: &str) {
        let mut program = self.frozen(command);
        eventually(SOON, "the .log", || {
            fs::read_to_string(self.log()).is_ok_and(|log| log.contains("big")).then_some(())
        });
        program.kill();
        self.proxy.cut_all();
        self.proxy.disarm();
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
fn unfinished_transfers_are_listed_and_dropped() {
    let bytes = content(1, LARGE);
    let fixture = UnfinishedTransferFixture::new(&[("d/big", &bytes)]);
    assert_eq!(fixture.transfers("transfers").1, Vec::<Value>::new());
    write(&fixture.client.folder().join("up/big"), &bytes);
    fixture.killed("get d/big -o here");
    fixture.killed("put up/big -o there");
    fixture.killed("get -r d");
    let (json, list) = fixture.transfers("transfers");
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
        // The sent bytes of a put may still have been in flight.
        let most = if one["direction"] == "put" { LARGE as u64 } else { 6 << 20 };
        assert!(one["bytes"].as_u64().unwrap() <= most, "{one}");
    }
    assert!(list[0]["bytes"].as_u64().unwrap() > 0 && list[1]["bytes"].as_u64().unwrap() > 0);
    let host = fixture.proxy.addr().to_string();
    assert!(list.iter().all(|one| one["host"] == host.as_str()), "{list:?}");
    assert!(list.iter().all(|one| one["since"].as_str().unwrap().starts_with("20")), "{list:?}");
    let plain = fixture.client.run(&["-c", "transfers"]).ok().stdout;
    assert_eq!(plain.lines().count(), 4, "{plain}");
    assert!(plain.contains("put up/big -> /there, "), "{plain}");

    let (json, list) = fixture.transfers("transfers --drop");
    assert_eq!((&json["dropped"], list.len()), (&4.into(), 4), "{json}");
    assert_eq!(tree(&fixture.client.folder()), ["d/", "up/", "up/big"]);
    assert!(!fixture.log().exists());
    assert_eq!(fixture.transfers("transfers --drop").0["dropped"], 0);
    let plain = fixture.client.run(&["-c", "transfers"]).ok().stdout;
    assert_eq!(plain, "no transfer is unfinished\n");
    fixture.client.command("transfers d").fails(2);
    // After the drop a transfer starts from zero.
    let json = fixture.client.command("get d/big -o here").ok().json();
    assert_eq!(json["resumed_from"], 0, "{json}");
}

#[test]
fn a_transfer_of_a_running_client_is_not_dropped() {
    let bytes = content(2, LARGE);
    let fixture = UnfinishedTransferFixture::new(&[("big", &bytes)]);
    let mut program = fixture.frozen("get big");
    eventually(SOON, "the .log", || fixture.log().exists().then_some(()));
    let dropped = fixture.client.command("transfers --drop").ok();
    assert_eq!(dropped.json()["dropped"], 0, "{dropped:?}");
    assert!(dropped.stderr.contains("another ftpclient"), "{dropped:?}");
    fixture.proxy.release();
    Client::finish(&mut program).ok();
    assert!(fixture.client.read("big") == bytes);
}

#[test]
fn a_refused_put_leaves_the_log_at_once() {
    let fixture = UnfinishedTransferFixture::new(&[("folder/x", b"1"), ("old", b"old")]);
    // The server refuses each put only after its first bytes.
    write(&fixture.client.folder().join("big"), &content(3, 5 << 20));
    for (command, code) in [
        ("put big -o missing/big", "not-found"),
        ("put big -o folder/x/big", "not-folder"),
        ("put big -o old --if-version 7-7", "changed"),
    ] {
        let output = fixture.client.command(command).fails(1);
        assert_eq!(output.json()["error"]["code"], code, "{output:?}");
        assert!(
            !fixture.log().exists(),
            "{command}: {}",
            fs::read_to_string(fixture.log()).unwrap()
        );
    }
    fixture.proxy.take_data_bytes();
    fixture.client.command("pwd").ok();
    assert_eq!(fixture.proxy.take_data_bytes(), 0, "content was sent again");
}

#[test]
fn a_put_leaves_a_stalled_server_as_fast_as_a_get() {
    let bytes = content(4, 20 << 20);
    let fixture = UnfinishedTransferFixture::new(&[("there", &bytes)]);
    write(&fixture.client.folder().join("here"), &bytes);
    let mut times = Vec::new();
    for command in ["get there", "put here"] {
        if command == "put here" {
            fixture.proxy.fault_at_data(2 << 20, Fault::Stall);
        } else {
            fixture.proxy.fault_at_content(2 << 20, Fault::Stall);
        }
        let mut program = fixture.client.start(&["-c", command]);
        fixture.proxy.wait_struck();
        let began = std::time::Instant::now();
        // The client replaces the frozen connection by a new one.
        let output = Client::finish(&mut program).ok();
        times.push(began.elapsed());
        assert!(output.stderr.contains("resuming"), "{output:?}");
        fixture.proxy.cut_all();
        fixture.proxy.disarm();
    }
    assert!(times.iter().all(|time| *time < Duration::from_secs(20)), "{times:?}");
    assert!(fixture.direct.served("here") == bytes);
}
