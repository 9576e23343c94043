//! Concurrent changes: two puts to one name, a put and a removal, two connections with one upload.

use std::time::Duration;

use relais_proto::{ErrorCode, Expect, PutRequest, Reply, Request};

use super::{open, with_files};
use crate::harness::{
    Client, ContentReader, SOON, Standalone, Strace, content, data, encoded, eventually,
    make_folder, process_of, put, put_end, remove, resume, staged_bytes, wait_unstaged,
};

#[test]
fn two_puts_to_one_name_leave_the_one_with_the_higher_number() {
    let slave = Standalone::start(&[], &[]);
    let (mut one, mut two) = (open(&slave), open(&slave));
    for round in 0..20_usize {
        let (first, second) =
            (content(round as u64 * 2, 150_000), content(round as u64 * 2 + 1, 150_000 - round));
        // Their frames are interleaved, in steps of different sizes.
        let frames = [
            crate::harness::upload(&put("f", first.len()), &first, 10_000),
            crate::harness::upload(&put("f", second.len()), &second, 7_000),
        ];
        let mut left = [&frames[0][..], &frames[1][..]];
        while !(left[0].is_empty() && left[1].is_empty()) {
            for (wire, rest) in [&mut one, &mut two].into_iter().zip(&mut left) {
                let (now, later) = rest.split_at(rest.len().min(30_000));
                wire.raw(now);
                *rest = later;
            }
        }
        let numbers = [one.committed().unwrap(), two.committed().unwrap()];
        let wanted = if numbers[0] > numbers[1] { &first } else { &second };
        assert!(one.fetch("f").unwrap() == *wanted, "round {round}: {numbers:?}");
        assert!(std::fs::read(slave.root.join("f")).unwrap() == *wanted);
    }
    wait_unstaged(&slave.root);
}

#[test]
fn two_clients_put_to_one_name_at_once() {
    let slave = Standalone::start(&[], &[]);
    for round in 0..5 {
        let bytes = [content(round, 2 << 20), content(round + 100, 2 << 20)];
        let clients: Vec<Client> = bytes.iter().map(|_| slave.client()).collect();
        for (client, bytes) in clients.iter().zip(&bytes) {
            std::fs::write(client.folder().join("f"), bytes).unwrap();
        }
        let mut running: Vec<_> =
            clients.iter().map(|client| client.start(&["-c", "put f"])).collect();
        running.iter_mut().for_each(|program| drop(Client::finish(program).ok()));
        let found = std::fs::read(slave.root.join("f")).unwrap();
        assert!(bytes.contains(&found), "round {round}: a mixture");
    }
    wait_unstaged(&slave.root);
}

#[test]
fn puts_removals_and_moves_at_once_never_show_a_part() {
    let slave = with_files(&[], &[("f", b"old")]);
    let new = content(5, 400_000);
    let mut wires: Vec<_> = (0..3).map(|_| open(&slave)).collect();
    std::thread::scope(|scope| {
        for (n, wire) in wires.iter_mut().enumerate() {
            let new = &new;
            scope.spawn(move || {
                for round in 0..30 {
                    let answer = match (n, round % 2) {
                        (0, _) => wire.put("f", new),
                        (1, _) => wire.change(&remove("f", false)),
                        (_, 0) => wire.change(&crate::harness::rename("f", "g")),
                        _ => wire.change(&crate::harness::rename("g", "f")),
                    };
                    assert!(
                        answer
                            .as_ref()
                            .err()
                            .is_none_or(|refusal| refusal.code == ErrorCode::NotFound),
                        "{answer:?}"
                    );
                }
            });
        }
        let mut wire = open(&slave);
        for _ in 0..50 {
            for name in ["f", "g"] {
                match wire.fetch(name) {
                    Ok(bytes) => {
                        assert!(bytes == new || bytes == b"old", "{name}: {} bytes", bytes.len())
                    }
                    Err(refusal) => assert!(
                        matches!(refusal.code, ErrorCode::NotFound | ErrorCode::Changed),
                        "{refusal:?}"
                    ),
                }
            }
        }
    });
    wait_unstaged(&slave.root);
}

#[test]
fn a_resume_ends_the_older_connection_of_its_upload() {
    let slave = Standalone::start(&["--workers", "2"], &[]);
    let bytes = content(6, 3 << 20);
    let request = put("f", bytes.len());
    // The kernel chooses the worker of each connection: the same one or another.
    for half in [1 << 20, 2 << 20] {
        let (mut older, mut newer) = (open(&slave), open(&slave));
        let from = usize::try_from(newer.staged(&request)).unwrap();
        older.raw(&encoded(&[Request::Put(PutRequest { offset: from as u64, ..request.clone() })]));
        older.raw(&data(&bytes[from..half]));
        eventually(SOON, "the bytes are staged", || {
            (staged_bytes(&slave.root) >= half as u64).then_some(())
        });
        let offset = newer.staged(&request);
        assert!(offset > 0 && offset <= half as u64, "{offset}");
        older.closed_within(Duration::from_secs(10));
        newer.raw(&encoded(&[Request::Put(PutRequest { offset, ..request.clone() })]));
        // The first round is cut again.
        if half == 2 << 20 {
            let rest = usize::try_from(offset).unwrap();
            newer.raw(&data(&bytes[rest..]));
            newer.send(&[put_end(&bytes)]);
            newer.committed().unwrap();
            assert!(newer.fetch("f").unwrap() == bytes);
        }
    }
    wait_unstaged(&slave.root);
}

/// Sends one upload on two connections; the second starts while the first is in a slow system call.
fn asked_again_while(tasks: &[&str], call: &str, size: usize) {
    let slave = with_files(&["--workers", "1"], &[("f", b"old")]);
    let bytes = content(9, size);
    let request = put("f", size);
    let (mut older, mut newer) = (open(&slave), open(&slave));
    let processes: Vec<_> = tasks.iter().map(|task| process_of(&slave.program, task)).collect();
    let inject = format!("inject={call}:delay_enter=300000:when=1");
    let strace = Strace::attach(&processes, &["-e", &format!("trace={call}"), "-e", &inject]);
    older.raw(&crate::harness::upload(&request, &bytes, 1 << 20));
    eventually(SOON, "all bytes are staged", || {
        (staged_bytes(&slave.root) >= size as u64).then_some(())
    });
    let (again, number) = match newer.ask(&resume(&request)) {
        Reply::Staged { offset, .. } => {
            newer.raw(&crate::harness::upload(
                &PutRequest { offset, ..request.clone() },
                &bytes,
                1 << 20,
            ));
            (Some(offset), newer.committed().unwrap())
        }
        Reply::Committed { version, .. } => (None, version),
        other => panic!("{other:?}"),
    };
    drop(strace);
    assert!(newer.fetch("f").unwrap() == bytes);
    // The older connection gets the same answer or is closed.
    while let Ok(Some((kind, payload))) = older.frame() {
        match Reply::decode(kind, &payload).unwrap() {
            Reply::Wait(_) => {}
            Reply::Committed { version, .. } => {
                assert_eq!(version, number);
                break;
            }
            other => panic!("{tasks:?}, {call}: the older connection received {other:?}"),
        }
    }
    wait_unstaged(&slave.root);
    // The whole upload is staged, so nothing is sent again.
    assert!(
        again.is_none_or(|offset| offset == size as u64),
        "{tasks:?}, {call}: {again:?} of {size} bytes"
    );
    assert_eq!(newer.upload(&request, &bytes), Ok(number));
    let next = newer.put("g", b"1").unwrap();
    assert_eq!(next.number, number.number + 1, "{tasks:?}, {call}: made twice");
    wait_unstaged(&slave.root);
}

#[test]
fn a_put_repeated_while_it_is_staged() {
    for size in [100_000, 2 << 20] {
        asked_again_while(&["Worker(0)"], "renameat2", size);
        // The change itself is slow too.
        asked_again_while(&["Worker(0)", "Replicator"], "renameat2,fsync", size);
    }
    asked_again_while(&["Worker(0)"], "fsync", 2 << 20);
}

#[test]
fn a_put_repeated_while_it_is_applied() {
    for call in ["fsync", "fdatasync", "renameat2"] {
        asked_again_while(&["Replicator"], call, 100_000);
    }
}

#[test]
fn an_expectation_that_came_too_late_is_refused() {
    let slave = Standalone::start(&[], &[]);
    let mut wire = open(&slave);
    let (one, two) = (b"one".as_slice(), b"two".as_slice());
    let absent = PutRequest { expect: Expect::Absent, ..put("f", 3) };
    let first = wire.upload(&absent, one).unwrap();
    let again = PutRequest { expect: Expect::Absent, ..put("f", 3) };
    assert_eq!(wire.upload(&again, two).unwrap_err().code, ErrorCode::Changed);
    let based = PutRequest { expect: Expect::Lsn(first), ..put("f", 3) };
    wire.upload(&based, two).unwrap();
    let stale = PutRequest { expect: Expect::Lsn(first), ..put("f", 3) };
    assert_eq!(wire.upload(&stale, one).unwrap_err().code, ErrorCode::Changed);
    assert_eq!(wire.fetch("f").unwrap(), two);
    // The refused upload does not stay staged.
    wait_unstaged(&slave.root);
}

#[test]
fn a_folder_made_while_a_file_is_put_into_its_place() {
    let slave = Standalone::start(&[], &[]);
    for round in 0..20 {
        let name = format!("x{round}");
        let (mut one, mut two) = (open(&slave), open(&slave));
        one.send(&[make_folder(&name)]);
        two.raw(&crate::harness::upload(&put(&name, 5), b"bytes", 5));
        let answers = [one.committed(), two.committed()];
        let codes: Vec<_> = answers.iter().map(|a| a.as_ref().err().map(|r| r.code)).collect();
        match codes[..] {
            [None, Some(ErrorCode::IsFolder)] => assert!(slave.root.join(&name).is_dir()),
            [Some(ErrorCode::NotFolder), None] => {
                assert_eq!(std::fs::read(slave.root.join(&name)).unwrap(), b"bytes")
            }
            _ => panic!("{answers:?}"),
        }
    }
    wait_unstaged(&slave.root);
}

#[test]
fn a_reader_never_sees_a_part_of_a_file_being_replaced() {
    let slave = Standalone::start(&[], &[]);
    let bytes = [content(1, 900_000), content(2, 1_100_000)];
    let mut wire = open(&slave);
    wire.put("f", &bytes[0]).unwrap();
    for round in 1..12 {
        let (old, new) = (&bytes[(round + 1) % 2], &bytes[round % 2]);
        let reader = ContentReader::start(slave.addr, "f", Some(old), new);
        wire.put("f", new).unwrap();
        assert!(wire.fetch("f").unwrap() == *new, "acknowledged and not there");
        reader.end();
    }
}
