//! The transfer log: one JSON line for each transfer and change, also after log rotation.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use relais_proto::ErrorCode;
use serde_json::Value;

use crate::harness::{
    Cluster, SOON, Standalone, TestDir, content, encoded, eventually, get, sessions,
};

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect()
}

/// Returns command, path, bytes and result of a line.
fn short(line: &Value) -> (String, String, u64, String) {
    let text = |key: &str| line[key].as_str().unwrap_or_else(|| panic!("{key}: {line}")).to_owned();
    (text("command"), text("path"), line["bytes"].as_u64().unwrap(), text("result"))
}

#[test]
fn each_transfer_and_each_change_is_a_line() {
    let logs = TestDir::new();
    let log = logs.path().join("transfers");
    let slave = Standalone::start(&["--transfer-log", log.to_str().unwrap()], &[("f", b"content")]);
    let client = slave.client();
    fs::write(client.folder().join("local"), content(1, 3000)).unwrap();
    let commands = [
        "ls",
        "get f",
        "put local",
        "mkdir d",
        "mv local d/moved",
        "rm -r d",
        "get nothing",
        "rm nothing",
        "put local -o nowhere/x",
    ];
    let words: Vec<&str> = commands.iter().flat_map(|command| ["-c", command]).collect();
    client.run(&[&["--keep-going"], &words[..]].concat());
    let told: Vec<_> = lines(&log).iter().map(short).collect();
    let wanted = [
        ("get", "/f", 7, "ok"),
        ("put", "/local", 3000, "ok"),
        ("mkdir", "/d", 0, "ok"),
        ("mv", "/local", 0, "ok"),
        ("rm", "/d", 0, "ok"),
        ("get", "/nothing", 0, "not-found"),
        ("rm", "/nothing", 0, "not-found"),
        ("put", "/nowhere/x", 0, "not-found"),
    ];
    assert_eq!(
        told,
        wanted.map(|(command, path, bytes, result)| (
            command.to_owned(),
            path.to_owned(),
            bytes,
            result.to_owned()
        ))
    );
    let first = &lines(&log)[0];
    for key in ["time", "user", "address", "milliseconds", "slave"] {
        assert!(!first[key].is_null(), "{key}: {first}");
    }
    assert!(
        first["time"].as_str().unwrap().ends_with('Z')
            && first["address"].as_str().unwrap().starts_with("127.0.0.1:")
            && first["protocol"] == "native",
        "{first}"
    );
    assert_eq!(lines(&log)[3]["to"], "/d/moved");
}

#[test]
fn an_invalid_name_is_logged_as_null() {
    let logs = TestDir::new();
    let log = logs.path().join("transfers");
    let slave = Standalone::start(&["--transfer-log", log.to_str().unwrap()], &[("f", b"content")]);
    let mut wire = sessions(slave.addr, 1).remove(0);
    let mut frame = encoded(&[get("ab")]);
    let name = frame.windows(2).position(|bytes| bytes == b"ab").unwrap();
    frame[name..name + 2].copy_from_slice(b"..");
    assert!(wire.raw(&frame));
    assert_eq!(wire.content().unwrap_err().code, ErrorCode::BadName);
    let line = lines(&log).remove(0);
    assert_eq!(
        (&line["command"], &line["path"], &line["result"]),
        (&"get".into(), &Value::Null, &"bad-name".into())
    );
}

#[test]
fn a_cut_transfer_is_logged_with_its_bytes() {
    let logs = TestDir::new();
    let log = logs.path().join("transfers");
    let size = 48 << 20;
    let slave =
        Standalone::start(&["--transfer-log", log.to_str().unwrap()], &[("f", &content(1, size))]);
    let mut wire = sessions(slave.addr, 1).remove(0);
    wire.send(&[get("f")]);
    // The header and a block.
    assert!(
        wire.block_bytes().is_some()
            && wire.block_bytes().is_some_and(|(bytes, _)| !bytes.is_empty())
    );
    drop(wire);
    let line = eventually(SOON, "the log has a line", || lines(&log).first().map(short));
    assert!(
        line.2 > 0
            && line.2 < size as u64
            && (line.0, line.3) == ("get".to_owned(), "cut".to_owned()),
        "{} bytes",
        line.2
    );
}

#[test]
fn every_worker_reopens_a_rotated_log() {
    let logs = TestDir::new();
    let log = logs.path().join("transfers");
    let slave = Standalone::start(
        &["--workers", "3", "--transfer-log", log.to_str().unwrap()],
        &[("f", b"content")],
    );
    let client = slave.client();
    client.get("f");
    let old = logs.path().join("transfers.1");
    fs::rename(&log, &old).unwrap();
    slave.program.signal(Signal::SIGUSR1);
    eventually(SOON, "a new log exists", || log.exists().then_some(()));
    // Many connections reach every worker; a worker reopens the log in its next round.
    eventually(SOON, "all workers have left the old log", || {
        let before = lines(&old).len();
        (0..12).for_each(|_| drop(client.get("f")));
        (lines(&old).len() == before).then_some(())
    });
    assert!(lines(&log).len() >= 12 && !lines(&old).is_empty());
    // If the log cannot be reopened, the worker keeps the former file.
    let third = logs.path().join("transfers.2");
    fs::rename(&log, &third).unwrap();
    fs::create_dir(&log).unwrap();
    slave.program.signal(Signal::SIGUSR1);
    let before = lines(&third).len();
    client.get("f");
    eventually(SOON, "the former log is written to", || {
        (lines(&third).len() > before).then_some(())
    });
}

#[test]
fn standard_output_logs_clients_and_no_slaves() {
    let cluster = Cluster::of(2).slave_args(&["--transfer-log", "-"]).start();
    let client = cluster.client();
    fs::write(client.folder().join("x"), "x").unwrap();
    client.run(&["-c", "put x"]).ok();
    eventually(SOON, "both slaves have the file", || {
        cluster.slaves.iter().all(|slave| slave.root.join("x").exists()).then_some(())
    });
    let told = || -> Vec<Value> {
        cluster
            .slaves
            .iter()
            .flat_map(|slave| {
                slave.program.stdout.text().lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
            })
            .map(|line| serde_json::from_str(&line).unwrap())
            .collect()
    };
    // The slave does not wait for the reader.
    let told =
        eventually(SOON, "the log has lines", || Some(told()).filter(|told| !told.is_empty()));
    assert_eq!(
        told.iter().map(short).collect::<Vec<_>>(),
        [("put".to_owned(), "/x".to_owned(), 1, "ok".to_owned())]
    );
}

#[test]
fn a_log_that_cannot_be_written_stops_the_start() {
    let dir = TestDir::new();
    let root = dir.folder("root");
    let log = dir.path().join("no/folder");
    let mut program = crate::harness::ProgramBuilder::new("ftpslave", dir.path())
        .args(["0", "--standalone", "--root"])
        .args([&root])
        .args(["--transfer-log", log.to_str().unwrap()])
        .start();
    let output = crate::harness::Client::finish(&mut program).fails(1);
    assert!(output.stderr.contains("transfer log"), "{}", output.stderr);
}

#[test]
fn an_unread_pipe_blocks_neither_the_start_nor_a_transfer() {
    let dir = TestDir::new();
    let (root, pipe) = (dir.folder("root"), dir.path().join("pipe"));
    fs::write(root.join("f"), "content").unwrap();
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let setup = || {
        crate::harness::ProgramBuilder::new("ftpslave", dir.path())
            .args(["0", "--standalone", "--workers", "1", "--root"])
            .args([&root])
            .args(["--transfer-log", pipe.to_str().unwrap()])
    };
    let output = crate::harness::Client::finish(&mut setup().start()).fails(1);
    assert!(output.stderr.contains("no reader"), "{}", output.stderr);
    // The pipe is open for reading, and its reader stalls.
    let mut reader = fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let mut slave = setup().start();
    let mut wire = sessions(slave.ready(), 1).remove(0);
    assert_eq!(wire.fetch("f").unwrap(), b"content");
    let (long, began) = (vec!["x".repeat(250); 16].join("/"), std::time::Instant::now());
    for _ in 0..3000 {
        assert_eq!(wire.fetch(&long).unwrap_err().code, ErrorCode::NotFound);
    }
    assert_eq!(wire.fetch("f").unwrap(), b"content");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    // Once the reader resumes, the queued lines arrive, with the number of lost ones.
    let (mut text, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    while text.iter().filter(|byte| **byte == b'\n').count() < 1000 {
        let n = reader.read(&mut buffer).unwrap();
        text.extend_from_slice(&buffer[..n]);
    }
    slave.stderr.wait_for(SOON, "the log reports the loss", |said| {
        said.contains("lines of the transfer log").then_some(())
    });
    let line: Value =
        serde_json::from_slice(text.split(|byte| *byte == b'\n').next().unwrap()).unwrap();
    assert_eq!(short(&line), ("get".to_owned(), "/f".to_owned(), 7, "ok".to_owned()));
    // A slave with an unread log stops normally.
    slave.signal(Signal::SIGTERM);
    assert_eq!(slave.wait(SOON), 0);
}
