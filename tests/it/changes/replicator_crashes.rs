//! Crashes of the replicator inside each system call of a change: a retry makes the change once.

use relais_proto::{ErrorCode, Lsn, Refusal, Request};

use super::syscall_faults::{slave, works};
use super::{open, tree};
use crate::harness::{
    RawClient, SOON, Strace, alive, eventually, make_folder, process_of, put, remove, rename,
    wait_unstaged,
};

/// Kills the replicator inside a system call; a retry by id makes the change exactly once.
fn replicator_dies(request: &Request, at: &str) {
    let slave = slave();
    let mut wire = open(&slave);
    wire.ping();
    let before = tree(&slave.root);
    let replicator = process_of(&slave.program, "Replicator");
    let calls = at.split_once(':').unwrap().0;
    let strace = Strace::attach(
        &[replicator],
        &["-e", &format!("trace={calls}"), "-e", &format!("inject={at}")],
    );
    let answer = ask(&mut wire, request);
    drop(strace);
    assert!(
        answer.as_ref().err().is_none_or(|refusal| refusal.code == ErrorCode::NoChanges),
        "{at}, {request:?}: the client received {answer:?}"
    );
    let first = eventually(SOON, "the retry succeeds", || {
        let answer = ask(&mut wire, request);
        assert!(
            answer.as_ref().err().is_none_or(|refusal| refusal.code == ErrorCode::NoChanges),
            "{answer:?}"
        );
        answer.ok()
    });
    assert!(answer.is_err() || answer == Ok(first), "{answer:?} and then {first}");
    assert_ne!(tree(&slave.root), before);
    assert!(!alive(replicator), "{at}: the replicator is alive");
    let after = tree(&slave.root);
    assert_eq!(ask(&mut wire, request), Ok(first));
    assert_eq!(tree(&slave.root), after);
    works(&mut wire);
    wait_unstaged(&slave.root);
}

const BYTES: &[u8] = b"the new content";

fn ask(wire: &mut RawClient, request: &Request) -> Result<Lsn, Refusal> {
    match request {
        Request::Put(put) => wire.upload(put, BYTES),
        other => wire.change(other),
    }
}

#[test]
fn the_replicator_dies_inside_each_call_of_a_put() {
    for at in [
        "fsync:signal=KILL:when=1",
        "fsync:signal=KILL:when=2",
        "fsync:signal=KILL:when=3",
        "fdatasync:signal=KILL:when=1",
        "renameat2:signal=KILL:when=1",
    ] {
        for name in ["f", "new"] {
            replicator_dies(&Request::Put(put(name, BYTES.len())), at);
        }
    }
}

#[test]
fn the_replicator_dies_inside_each_call_of_other_changes() {
    for (request, call) in [
        (make_folder("made"), "mkdirat"),
        (remove("from", false), "renameat2"),
        (remove("folder", true), "renameat2"),
        (rename("from", "to"), "renameat2"),
        (rename("folder", "to"), "renameat2"),
    ] {
        for call in ["fdatasync", call, "fsync"] {
            replicator_dies(&request, &format!("{call}:signal=KILL:when=1"));
        }
    }
}
