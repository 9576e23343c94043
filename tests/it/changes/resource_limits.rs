//! Scarce resources and hanging processes: a clear error for the request concerned, and recovery.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use relais_proto::{ErrorCode, FrameType, Request};

use super::{open, with_files};
use crate::harness::{
    RawClient, SOON, Standalone, TestDir, content, data, encoded, eventually, make_folder,
    process_of, put, stop, upload, wait_unstaged,
};

#[test]
fn changes_wait_for_a_hanging_replicator_and_are_then_refused() {
    let slave = with_files(&["--workers", "1"], &[("f", b"old")]);
    let mut wire = open(&slave);
    let replicator = process_of(&slave.program, "Replicator");
    stop(replicator);
    let request = put("f", 3);
    let began = Instant::now();
    wire.raw(&upload(&request, b"new", 3));
    // Reads continue meanwhile.
    assert_eq!(open(&slave).fetch("f").unwrap(), b"old");
    let mut waits = 0;
    let answer = loop {
        let (kind, payload) = wire.frame().unwrap().unwrap();
        if kind != FrameType::Wait {
            break relais_proto::Reply::decode(kind, &payload).unwrap();
        }
        waits += 1;
        assert!(began.elapsed() < SOON, "nothing but `Wait` for {SOON:?}");
    };
    let took = began.elapsed();
    assert!(
        matches!(
            &answer,
            relais_proto::Reply::Error(refusal)
                if refusal.code == ErrorCode::NoChanges
        ),
        "{answer:?}"
    );
    assert!(took > Duration::from_secs(2) && took < Duration::from_secs(15), "{took:?}");
    // Keepalives show the waiting client that the slave is alive.
    assert!(waits >= 2, "{waits} keepalives in {took:?}");
    kill(replicator, Signal::SIGCONT).unwrap();
    // A retry by id makes the change once, even if it was made meanwhile.
    let number = eventually(SOON, "changes succeed again", || wire.upload(&request, b"new").ok());
    assert_eq!(wire.upload(&request, b"new"), Ok(number));
    assert_eq!(wire.fetch("f").unwrap(), b"new");
    wait_unstaged(&slave.root);
}

#[test]
fn a_client_waits_for_a_briefly_hanging_replicator() {
    let slave = with_files(&["--workers", "1"], &[("f", b"old")]);
    let client = slave.client();
    let new = content(1, 300_000);
    std::fs::write(client.folder().join("f"), &new).unwrap();
    let replicator = process_of(&slave.program, "Replicator");
    stop(replicator);
    let mut program = client.start(&["--retry", "20", "--json", "-c", "put f"]);
    eventually(SOON, "the put is staged", || {
        (crate::harness::staged_bytes(&slave.root) == 300_000).then_some(())
    });
    assert_eq!(open(&slave).fetch("f").unwrap(), b"old");
    kill(replicator, Signal::SIGCONT).unwrap();
    crate::harness::Client::finish(&mut program).ok();
    assert!(open(&slave).fetch("f").unwrap() == new);
}

#[test]
fn no_descriptors_are_left() {
    let dir = TestDir::new();
    let root = dir.folder("root");
    let under = ["prlimit", "--nofile=64:64"].map(str::to_owned);
    let slave = Standalone::start_in(
        dir,
        root,
        &["--workers", "1", "--sessions-per-worker", "200"],
        &under,
    );
    open(&slave).put("f", b"old").unwrap();
    // Uploads are begun and left waiting until no descriptor is left.
    let bytes = content(2, 100_000);
    let mut held = Vec::new();
    for n in 0..100 {
        let mut wire = RawClient::connect(slave.addr);
        wire.raw(&encoded(&[
            crate::harness::hello(),
            Request::Login(relais_proto::Login::default()),
        ]));
        wire.raw(&encoded(&[Request::Put(put(&format!("held{n}"), bytes.len()))]));
        wire.raw(&data(&bytes[..50_000]));
        held.push(wire);
    }
    // The uploads end, and all requests succeed as before.
    drop(held);
    let bytes = eventually(SOON, "a client is accepted again", || {
        let mut wire = RawClient::connect(slave.addr);
        wire.raw(&encoded(&[
            crate::harness::hello(),
            Request::Login(relais_proto::Login::default()),
        ]));
        loop {
            match wire.frame().ok()?? {
                (FrameType::Welcome | FrameType::Wait, _) => {}
                (FrameType::Opened, _) => break,
                _ => return None,
            }
        }
        wire.put("f", b"new").ok()?;
        wire.fetch("f").ok()
    });
    assert_eq!(bytes, b"new");
    assert_eq!(super::tree(&slave.root).len(), 1, "an upload that never ended is visible");
    open(&slave).change(&make_folder("made")).unwrap();
}

#[test]
fn stalled_uploads_do_not_delay_others() {
    let slave = Standalone::start(&["--workers", "2", "--sessions-per-worker", "40"], &[]);
    let bytes = content(3, 1 << 20);
    let held: Vec<RawClient> = (0..60)
        .map(|n| {
            let mut wire = open(&slave);
            wire.send(&[Request::Put(put(&format!("held{n}"), bytes.len()))]);
            wire.raw(&data(&bytes[..1000]));
            wire
        })
        .collect();
    let began = Instant::now();
    let mut wire = open(&slave);
    wire.put("f", &bytes).unwrap();
    assert!(wire.fetch("f").unwrap() == bytes);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(super::tree(&slave.root).len(), 1);
    drop(held);
}

#[test]
fn a_removed_socket_of_the_replicator_is_made_again() {
    let slave = with_files(&["--workers", "1"], &[("f", b"old")]);
    open(&slave).put("before", b"1").unwrap();
    std::fs::remove_file(slave.root.join(".relais/writer.socket")).unwrap();
    eventually(SOON, "a new session can make changes", || open(&slave).put("after", b"2").ok());
    wait_unstaged(&slave.root);
}
