//! Staged uploads: only received bytes count, only for the same upload, and only a whole one is
//! stored.

use std::fs;

use relais_proto::{Digest, ErrorCode, PutRequest, Request};

use super::{open, tree, with_files};
use crate::harness::{
    Standalone, content, data, encoded, new_id, path, put, put_end, staged_files, upload,
    wait_unstaged,
};

#[test]
fn sizes_and_steps_arrive_whole() {
    let slave = Standalone::start(&["--block-size", "4096"], &[]);
    let mut wire = open(&slave);
    for size in [0_usize, 1, 4095, 4096, 4097, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, (4 << 20) + 1]
    {
        let bytes = content(size as u64, size);
        for step in [1 << 22, 65_537, 997] {
            // Small steps are tested with small files only.
            if size / step > 5000 {
                continue;
            }
            wire.raw(&upload(&put("f", size), &bytes, step));
            wire.committed().unwrap();
            assert!(
                fs::read(slave.root.join("f")).unwrap() == bytes,
                "{size} bytes in steps of {step}"
            );
        }
    }
    wait_unstaged(&slave.root);
}

#[test]
fn of_unknown_size() {
    let slave = Standalone::start(&[], &[]);
    let mut wire = open(&slave);
    for size in [0_usize, 1, 300_000] {
        let bytes = content(size as u64, size);
        let request = PutRequest { size: None, ..put("f", 0) };
        wire.upload(&request, &bytes).unwrap();
        assert!(wire.fetch("f").unwrap() == bytes);
    }
    wait_unstaged(&slave.root);
}

#[test]
fn a_wrong_digest_is_damaged_and_leaves_nothing() {
    let slave = with_files(&[], &[("f", b"old")]);
    let bytes = content(1, 200_000);
    let before = tree(&slave.root);
    let mut wire = open(&slave);
    for request in [put("f", bytes.len()), PutRequest { size: None, ..put("f", 0) }] {
        let mut frames = encoded(&[Request::Put(request.clone())]);
        frames.extend(data(&bytes));
        frames.extend(encoded(&[Request::PutEnd { digest: Digest([7; 32]) }]));
        wire.raw(&frames);
        assert_eq!(wire.committed().unwrap_err().code, ErrorCode::Damaged);
        assert_eq!(tree(&slave.root), before);
        wait_unstaged(&slave.root);
        // The session continues, and the same upload can start again.
        wire.ping();
        wire.upload(&PutRequest { path: path("g"), id: new_id(), ..request }, &bytes).unwrap();
        wire.change(&crate::harness::remove("g", false)).unwrap();
    }
}

#[test]
fn an_offset_that_the_slave_does_not_have_is_a_bad_offset() {
    let slave = Standalone::start(&[], &[]);
    let bytes = content(2, 200_000);
    let mut wire = open(&slave);
    let request = PutRequest { offset: 100_000, ..put("f", bytes.len()) };
    assert_eq!(wire.upload(&request, &bytes).unwrap_err().code, ErrorCode::BadOffset);
    wire.ping();
    assert!(!slave.root.join("f").exists());
    wire.upload(&PutRequest { offset: 0, ..request }, &bytes).unwrap();
    assert!(wire.fetch("f").unwrap() == bytes);
    wait_unstaged(&slave.root);
}

#[test]
fn more_or_fewer_bytes_than_announced_are_refused() {
    let slave = Standalone::start(&[], &[]);
    let bytes = content(3, 1000);
    for sent in [999, 1001] {
        let mut wire = open(&slave);
        let request = put("f", 1000);
        let mut frames = encoded(&[Request::Put(request)]);
        frames.extend(data(&content(3, sent)));
        frames.extend(encoded(&[put_end(&content(3, sent))]));
        wire.raw(&frames);
        let refusal = wire.committed().unwrap_err();
        assert!(
            matches!(refusal.code, ErrorCode::BadRequest | ErrorCode::Damaged),
            "{sent} bytes: {refusal:?}"
        );
        assert!(!slave.root.join("f").exists());
    }
    let mut wire = open(&slave);
    wire.put("f", &bytes).unwrap();
    assert!(wire.fetch("f").unwrap() == bytes);
}

#[test]
fn frames_of_an_upload_out_of_place_end_the_connection() {
    let slave = Standalone::start(&[], &[]);
    for frames in [data(b"x"), encoded(&[put_end(b"")]), {
        let mut inside = encoded(&[Request::Put(put("f", 5))]);
        inside.extend(encoded(&[Request::Put(put("g", 5))]));
        inside
    }] {
        let mut wire = open(&slave);
        wire.raw(&frames);
        assert_eq!(wire.committed().unwrap_err().code, ErrorCode::BadRequest);
        wire.closed_within(crate::harness::SOON);
    }
    open(&slave).put("f", b"x").unwrap();
}

#[test]
fn a_refused_upload_is_dropped_or_ends_the_session() {
    let slave = with_files(&[], &[("folder/x", b"1")]);
    // Up to the limit the slave reads and drops the rest.
    let small = content(4, 4 << 20);
    let mut wire = open(&slave);
    assert_eq!(wire.put("folder", &small).unwrap_err().code, ErrorCode::IsFolder);
    wire.put("f", b"after it").unwrap();
    assert_eq!(wire.put("missing/f", &small).unwrap_err().code, ErrorCode::NotFound);
    wire.ping();
    // Beyond it the slave closes the connection. The reset may discard the error.
    let mut wire = open(&slave);
    let large = content(5, 6 << 20);
    let went = wire.raw(&upload(&put("folder", large.len()), &large, 1 << 20))
        && wire.raw(&encoded(&[Request::Ping]));
    if went {
        wire.closed_within(crate::harness::SOON);
    }
    assert!(staged_files(&slave.root).is_empty(), "{:?}", staged_files(&slave.root));
    open(&slave).put("g", b"1").unwrap();
}

#[test]
fn mode_and_time_are_those_of_the_sender() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let slave = Standalone::start(&[], &[]);
    let mut wire = open(&slave);
    let mtime = Some(relais_proto::FileTime { seconds: 1_600_000_000, nanos: 123_456_789 });
    for (name, sent, wanted) in [("a", 0o755, 0o755), ("b", 0o600, 0o600), ("c", 0o666, 0o644)] {
        let mode = Some(relais_proto::Mode::new(sent));
        wire.upload(&PutRequest { mtime, mode, ..put(name, 2) }, b"ab").unwrap();
        let meta = fs::metadata(slave.root.join(name)).unwrap();
        assert_eq!((meta.mtime(), meta.mtime_nsec()), (1_600_000_000, 123_456_789));
        assert_eq!(meta.permissions().mode() & 0o7777, wanted, "{name}");
    }
}

#[test]
fn a_restart_keeps_what_was_staged_of_an_upload() {
    let mut slave = Standalone::start(&[], &[]);
    let bytes = content(6, 2 << 20);
    let request = put("f", bytes.len());
    let mut wire = open(&slave);
    wire.raw(&upload(&request, &bytes, 100_000)[..1_500_000]);
    crate::harness::eventually(crate::harness::SOON, "bytes are staged", || {
        (crate::harness::staged_bytes(&slave.root) >= 1 << 20).then_some(())
    });
    slave.program.kill();
    slave.restart();
    let mut wire = open(&slave);
    let offset = wire.staged(&request);
    assert!(offset > 0 && offset <= 1_500_000, "{offset}");
    wire.upload(&PutRequest { offset, ..request }, &bytes).unwrap();
    assert!(wire.fetch("f").unwrap() == bytes);
    wait_unstaged(&slave.root);
}
