//! Acknowledged changes are durable: the slave is killed at the moment it acknowledges a change.

use std::fs;

use nix::sys::signal::{Signal, killpg};
use relais_proto::{ErrorCode, Lsn, Request};

use super::open;
use crate::harness::{
    RawClient, Standalone, content, make_folder, put as open_put, remove, rename, resume, upload,
    wait_unstaged,
};

const TIMES: usize = 50;

/// Requests a change in each round, kills the slave at the answer, and checks the result after the
/// restart.
fn killed_at_the_answer(
    ask: impl Fn(usize, &Standalone) -> (Vec<u8>, Request),
    is_there: impl Fn(usize, &Standalone, &mut RawClient),
) {
    let mut slave = Standalone::start(&["--workers", "1"], &[]);
    let mut last = Lsn::default();
    let mut wire = open(&slave);
    for round in 0..TIMES {
        let (frames, again) = ask(round, &slave);
        wire.raw(&frames);
        let number = wire.committed().unwrap();
        killpg(slave.program.pid(), Signal::SIGKILL).unwrap();
        assert!(number > last, "{number} after {last}");
        last = number;
        slave.program.kill();
        slave.restart();
        wire = open(&slave);
        is_there(round, &slave, &mut wire);
        assert_eq!(wire.change(&again), Ok(number), "sent again");
    }
    wait_unstaged(&slave.root);
}

fn name(round: usize) -> String {
    format!("n{round}")
}

fn frames(request: Request) -> (Vec<u8>, Request) {
    (crate::harness::encoded(std::slice::from_ref(&request)), request)
}

#[test]
fn acknowledged_puts_survive_a_kill() {
    // Small files that replace each other, and larger ones under new names.
    let bytes = |round: usize| {
        content(round as u64, if round.is_multiple_of(2) { 100 + round } else { 300_000 + round })
    };
    let at = |round: usize| if round.is_multiple_of(2) { "f".to_owned() } else { name(round) };
    killed_at_the_answer(
        |round, _| {
            let request = open_put(&at(round), bytes(round).len());
            (upload(&request, &bytes(round), 64 << 10), resume(&request))
        },
        |round, slave, wire| {
            assert!(fs::read(slave.root.join(at(round))).unwrap() == bytes(round), "round {round}");
            assert!(wire.fetch(&at(round)).unwrap() == bytes(round), "round {round}");
        },
    );
}

#[test]
fn acknowledged_folders_survive_a_kill() {
    killed_at_the_answer(
        |round, _| frames(make_folder(&name(round))),
        |round, slave, wire| {
            assert!(slave.root.join(name(round)).is_dir(), "round {round}");
            assert_eq!(
                wire.change(&make_folder(&name(round))).unwrap_err().code,
                ErrorCode::Exists
            );
        },
    );
}

#[test]
fn acknowledged_removals_survive_a_kill() {
    killed_at_the_answer(
        |round, slave| {
            // Files and non-empty folders, made by the client and locally.
            let mut wire = open(slave);
            if round.is_multiple_of(2) {
                wire.put(&name(round), b"x").unwrap();
            } else {
                wire.change(&make_folder(&name(round))).unwrap();
                wire.put(&format!("{}/x", name(round)), b"x").unwrap();
            }
            frames(remove(&name(round), !round.is_multiple_of(2)))
        },
        |round, slave, wire| {
            assert!(!slave.root.join(name(round)).exists(), "round {round}");
            assert_eq!(
                wire.fetch(&name(round)).unwrap_err().code,
                ErrorCode::NotFound,
                "round {round}"
            );
        },
    );
}

#[test]
fn acknowledged_moves_survive_a_kill() {
    killed_at_the_answer(
        |round, slave| {
            if round == 0 {
                open(slave).put(&name(0), b"moved").unwrap();
            }
            frames(rename(&name(round), &name(round + 1)))
        },
        |round, slave, wire| {
            assert!(!slave.root.join(name(round)).exists(), "round {round}");
            assert_eq!(wire.fetch(&name(round + 1)).unwrap(), b"moved", "round {round}");
        },
    );
}

#[test]
fn acknowledged_concurrent_puts_survive_a_kill() {
    let mut slave = Standalone::start(&["--workers", "2"], &[]);
    for round in 0..5 {
        let mut wires: Vec<RawClient> = (0..8).map(|_| open(&slave)).collect();
        for (n, wire) in wires.iter_mut().enumerate() {
            for k in 0..20 {
                let name = format!("r{round}-{n}-{k}");
                wire.raw(&upload(&open_put(&name, name.len()), name.as_bytes(), 1000));
            }
        }
        // The last change of the session is acknowledged, and those of the others whose answers
        // have arrived.
        for _ in 0..20 {
            wires[7].committed().unwrap();
        }
        slave.program.kill();
        let mut acknowledged = vec![20; 8];
        for (wire, count) in wires.iter_mut().zip(&mut acknowledged).take(7) {
            *count = 0;
            while let Ok(Some((kind, _))) = wire.frame() {
                *count += usize::from(kind == relais_proto::FrameType::Committed);
            }
        }
        slave.restart();
        for (n, count) in acknowledged.into_iter().enumerate() {
            for k in 0..count {
                let name = format!("r{round}-{n}-{k}");
                assert_eq!(
                    fs::read(slave.root.join(&name)).unwrap(),
                    name.as_bytes(),
                    "{name} was acknowledged"
                );
            }
        }
        // An unacknowledged file is whole or absent.
        for (found, bytes) in super::tree(&slave.root) {
            assert_eq!(bytes, found.as_bytes());
        }
    }
    // A complete upload that was not acknowledged stays staged for a retry.
    open(&slave).put("f", b"x").unwrap();
}
