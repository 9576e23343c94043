//! Copies on the server.

use std::fs;
use std::os::unix::fs::MetadataExt;

use relais_proto::{
    Digest, ErrorCode, Expect, FileTime, IfMatch, Mode, PutRequest, Reply, Request,
};

use super::{open, stat, wait_version};
use crate::harness::{
    Call, Cluster, RawClient, SOON, Standalone, Strace, children, content, copy, eventually, get,
    make_folder, new_id, path, put, remove, sessions, wait_unstaged,
};

fn digest_of(bytes: &[u8]) -> Digest {
    Digest(blake3::hash(bytes).into())
}

/// Builds the request for a copy with conditions.
fn copy_if(from: &str, to: &str, if_match: IfMatch, expect: Expect) -> Request {
    let (from, to) = (path(from), path(to));
    Request::Copy { id: new_id(), from, to, if_match, expect, copies: 0 }
}

/// Returns the code of the refusal of a change.
#[track_caller]
fn refused(wire: &mut RawClient, request: &Request) -> ErrorCode {
    wire.change(request).unwrap_err().code
}

#[test]
fn a_copy_has_content_digest_time_and_mode() {
    let slave = Standalone::start(&[], &[]);
    let mut wire = sessions(slave.addr, 1).remove(0);
    for (n, size) in [0, 1, (1 << 20) + 1, 40 << 20].into_iter().enumerate() {
        let (bytes, from, to) = (content(n as u64, size), format!("f{n}"), format!("g{n}"));
        let mtime = FileTime { seconds: 1_500_000_000, nanos: 123_456_789 };
        let mode = Some(Mode::new(0o640));
        let request = PutRequest { mtime: Some(mtime), mode, ..put(&from, size) };
        let put = wire.upload(&request, &bytes).unwrap();
        let copied = wire.change(&copy(&from, &to)).unwrap();
        assert!(copied > put);
        assert!(wire.fetch(&to).unwrap() == bytes);
        let (entry, digest) = stat(&mut wire, &to).unwrap();
        assert_eq!((entry.size, entry.mtime), (size as u64, mtime));
        assert_eq!((entry.mode, entry.version), (Mode::new(0o640), Some(copied)));
        assert_eq!(digest, Some(digest_of(&bytes)));
        let inode = |name: &str| fs::metadata(slave.root.join(name)).unwrap().ino();
        assert_ne!(inode(&from), inode(&to), "the copy is a link");
        // The copied file stays as it was.
        assert_eq!(stat(&mut wire, &from).unwrap().0.version, Some(put));
    }
}

#[test]
fn a_copy_replaces_only_the_expected_target() {
    let slave = Standalone::start(&[], &[]);
    let mut wire = sessions(slave.addr, 1).remove(0);
    let old = wire.put("f", b"first").unwrap();
    let request = PutRequest { mode: Some(Mode::new(0o600)), ..put("g", 6) };
    let target = wire.upload(&request, b"second").unwrap();
    for wrong in [Expect::Absent, Expect::Unnumbered, Expect::Lsn(old)] {
        let request = copy_if("f", "g", IfMatch::Any, wrong);
        assert_eq!(refused(&mut wire, &request), ErrorCode::Changed, "{wrong:?}");
        assert_eq!(wire.fetch("g").unwrap(), b"second");
    }
    let request = copy_if("f", "h", IfMatch::Any, Expect::Lsn(target));
    assert_eq!(refused(&mut wire, &request), ErrorCode::Changed);
    assert!(stat(&mut wire, "h").is_none());
    let request = copy_if("f", "g", IfMatch::Any, Expect::Lsn(target));
    let copied = wire.change(&request).unwrap();
    assert_eq!(wire.fetch("g").unwrap(), b"first");
    let entry = stat(&mut wire, "g").unwrap().0;
    assert_eq!((entry.mode, entry.version), (Mode::new(0o600), Some(copied)), "it keeps its mode");
    // The same id is the same change, also after its path has changed.
    assert_eq!(wire.change(&request).unwrap(), copied);
    wire.put("g", b"third").unwrap();
    assert_eq!(wire.change(&request).unwrap(), copied);
    assert_eq!(wire.fetch("g").unwrap(), b"third");
}

#[test]
fn a_copy_requires_the_named_content() {
    let slave = Standalone::start(&[], &[]);
    let mut wire = sessions(slave.addr, 1).remove(0);
    wire.put("f", b"content").unwrap();
    wire.change(&make_folder("d")).unwrap();
    let other = IfMatch::Digest(digest_of(b"other"));
    let request = copy_if("f", "g", other, Expect::Any);
    assert_eq!(refused(&mut wire, &request), ErrorCode::Changed);
    assert!(stat(&mut wire, "g").is_none());
    let same = IfMatch::Digest(digest_of(b"content"));
    wire.change(&copy_if("f", "g", same, Expect::Absent)).unwrap();
    wire.send(&[get("f")]);
    let identity = wire.content().unwrap().0.identity;
    wire.change(&copy_if("f", "h", IfMatch::Identity(identity), Expect::Absent)).unwrap();
    assert_eq!(wire.fetch("h").unwrap(), b"content");
    // A folder is not copied, and nothing is copied onto one.
    assert_eq!(refused(&mut wire, &copy("d", "e")), ErrorCode::IsFolder);
    assert_eq!(refused(&mut wire, &copy("f", "d")), ErrorCode::IsFolder);
    assert_eq!(refused(&mut wire, &copy("none", "e")), ErrorCode::NotFound);
    assert_eq!(refused(&mut wire, &copy("f", "none/e")), ErrorCode::NotFound);
    assert!(stat(&mut wire, "e").is_none());
}

#[test]
fn a_file_copied_onto_itself_keeps_its_content() {
    let slave = Standalone::start(&[], &[]);
    let mut wire = sessions(slave.addr, 1).remove(0);
    let bytes = content(1, 3 << 20);
    let first = wire.put("f", &bytes).unwrap();
    let second = wire.change(&copy_if("f", "f", IfMatch::Any, Expect::Lsn(first))).unwrap();
    assert!(second > first);
    assert!(wire.fetch("f").unwrap() == bytes);
    assert_eq!(stat(&mut wire, "f").unwrap().0.version, Some(second));
    let again = copy_if("f", "f", IfMatch::Any, Expect::Lsn(first));
    assert_eq!(refused(&mut wire, &again), ErrorCode::Changed);
}

#[test]
fn a_copy_replicates_to_the_other_slave() {
    let cluster = Cluster::of(2).start();
    let (mut one, mut two) = (open(&cluster, 0), open(&cluster, 1));
    let bytes = content(1, 5 << 20);
    let target = one.put("g", b"old").unwrap();
    let source = one.upload(&PutRequest { copies: 2, ..put("f", bytes.len()) }, &bytes).unwrap();
    wait_version(&mut two, "f", source);
    // Both disks have it before the answer.
    let (id, from, to) = (new_id(), path("f"), path("g"));
    let (if_match, expect) = (IfMatch::Any, Expect::Lsn(target));
    let request = Request::Copy { id, from, to, if_match, expect, copies: 2 };
    let copied = match two.ask(&request) {
        Reply::Committed { version, copies, digest, .. } => {
            assert_eq!((copies, digest), (2, Some(digest_of(&bytes))));
            version
        }
        other => panic!("{other:?}"),
    };
    for wire in [&mut one, &mut two] {
        wait_version(wire, "g", copied);
        assert!(wire.fetch("g").unwrap() == bytes);
        assert_eq!(stat(wire, "g").unwrap().1, Some(digest_of(&bytes)));
    }
    // The same id is the same change on the other slave, and a new one expects the old target.
    assert_eq!(one.change(&request).unwrap(), copied);
    let again = copy_if("f", "g", IfMatch::Any, expect);
    assert_eq!(refused(&mut one, &again), ErrorCode::Changed);
    one.change(&remove("f", false)).unwrap();
    assert_eq!(refused(&mut one, &copy("f", "h")), ErrorCode::NotFound);
    assert!(one.fetch("g").unwrap() == bytes);
}

#[test]
fn a_copy_of_content_in_transit_names_its_holder() {
    let cluster = Cluster::of(2).proxied().start();
    cluster.slaves.iter().for_each(|slave| slave.proxy.as_ref().unwrap().throttle(Some(4 << 20)));
    let bytes = content(1, 12 << 20);
    open(&cluster, 0).put("f", &bytes).unwrap();
    let mut other = open(&cluster, 1);
    eventually(SOON, "the other slave knows the name", || stat(&mut other, "f"));
    match other.ask(&copy("f", "g")) {
        Reply::Elsewhere { holders } => assert_eq!(holders.len(), 1, "{holders:?}"),
        reply => panic!("{reply:?}"),
    }
    // The session continues, and the holder makes the copy.
    other.ping();
    assert!(stat(&mut other, "g").is_none());
    let copied = open(&cluster, 0).change(&copy("f", "g")).unwrap();
    wait_version(&mut other, "g", copied);
}

#[test]
fn a_failed_copy_changes_nothing() {
    let slave = Standalone::start(&["--workers", "1"], &[]);
    let mut wire = sessions(slave.addr, 1).remove(0);
    let bytes = content(1, 3 << 20);
    wire.put("f", &bytes).unwrap();
    let mut failing = |error: &str| {
        let inject = format!("inject=copy_file_range:error={error}");
        let trace = ["-e", "trace=copy_file_range", "-e", &inject];
        let strace = Strace::attach(&children(slave.program.pid()), &trace);
        let made = wire.change(&copy("f", "g"));
        assert!(strace.end().iter().any(|call| call.text.contains("INJECTED")), "{error}");
        made.map_err(|refusal| refusal.code)
    };
    assert_eq!(failing("EIO"), Err(ErrorCode::Storage));
    assert_eq!(failing("ENOSPC"), Err(ErrorCode::NoSpace));
    assert!(!slave.root.join("g").exists());
    wait_unstaged(&slave.root);
    // A file system that cannot copy has the bytes read and written.
    failing("EXDEV").unwrap();
    assert!(fs::read(slave.root.join("g")).unwrap() == bytes);
}

#[test]
fn confined_workers_copy_inside_the_kernel() {
    let slave = Standalone::start(&["--workers", "1"], &[]);
    let mut wire = sessions(slave.addr, 1).remove(0);
    let bytes = content(1, 3 << 20);
    wire.put("f", &bytes).unwrap();
    let status = slave.client().command("status").ok().json();
    let confined = status["confined"].as_array().unwrap();
    assert!(confined.contains(&"system-calls".into()), "{confined:?}");
    let trace = ["-e", "trace=ioctl,copy_file_range"];
    let strace = Strace::attach(&children(slave.program.pid()), &trace);
    wire.change(&copy("f", "g")).unwrap();
    let calls = strace.end();
    let named = |name: &str, text: &str| -> Vec<&Call> {
        calls.iter().filter(|call| call.name == name && call.text.contains(text)).collect()
    };
    let [clone] = named("ioctl", "FICLONE")[..] else { panic!("no clone was tried: {calls:?}") };
    let copied = named("copy_file_range", "");
    // Neither filter denies the calls; a disk that cannot share blocks says so.
    assert!(clone.ok() || clone.text.contains("EOPNOTSUPP"), "{clone:?}");
    assert!(clone.ok() || !copied.is_empty(), "{calls:?}");
    assert!(copied.iter().all(|call| call.ok()), "{copied:?}");
    assert!(fs::read(slave.root.join("g")).unwrap() == bytes);
}
