//! Permission to change: without accounts, only clients of servers that listen on loopback alone.

use std::net::SocketAddr;
use std::path::Path;

use relais_proto::{ErrorCode, Login, Lsn, Reply, Request};

use super::tree;
use crate::harness::{
    Cluster, RawClient, Standalone, hello, make_folder, put, remove, rename, resume, staged_files,
    ticket,
};

/// Opens a session and returns whether it may make changes.
#[track_caller]
fn opened(addr: SocketAddr, login: Request) -> (RawClient, bool) {
    let mut wire = RawClient::connect(addr);
    wire.send(&[hello(), login]);
    assert!(matches!(wire.reply(), Reply::Welcome { .. }));
    match wire.reply() {
        Reply::Opened { writable, .. } => (wire, writable),
        other => panic!("{other:?}"),
    }
}

/// Requires that every change is refused with one of `codes` and is never visible, even briefly.
#[track_caller]
fn refused(wire: &mut RawClient, root: &Path, codes: &[ErrorCode]) {
    let before = tree(root);
    let staged = || staged_files(root);
    let old = staged();
    for request in [
        make_folder("made"),
        remove("f", false),
        remove("folder", true),
        rename("f", "g"),
        resume(&put("f", 10)),
    ] {
        let refusal = wire.change(&request).unwrap_err();
        assert!(codes.contains(&refusal.code), "{request:?}: {refusal:?}");
        assert_eq!(staged(), old);
    }
    for name in ["f", "new", "folder/new"] {
        // Half of an upload: no byte is staged.
        let (request, bytes) = (put(name, 100_000), vec![7; 100_000]);
        wire.raw(&crate::harness::encoded(&[Request::Put(request)]));
        wire.raw(&crate::harness::data(&bytes[..50_000]));
        let refusal = wire.committed().unwrap_err();
        assert!(codes.contains(&refusal.code), "{name}: {refusal:?}");
        assert_eq!(staged(), old);
        // The rest is dropped, and the session continues.
        wire.raw(&crate::harness::data(&bytes[50_000..]));
        wire.send(&[crate::harness::put_end(&bytes)]);
        wire.ping();
        assert_eq!(staged(), old);
    }
    assert_eq!(tree(root), before);
    assert_eq!(wire.fetch("f").unwrap(), b"1");
}

#[test]
fn beyond_loopback_changes_need_an_account() {
    let slave = Standalone::start(&["--listen", "0.0.0.0"], &[("f", b"1"), ("folder/x", b"2")]);
    let addr = SocketAddr::from(([127, 0, 0, 1], slave.addr.port()));
    let (mut wire, writable) = opened(addr, Request::Login(Login::default()));
    assert!(!writable);
    refused(&mut wire, &slave.root, &[ErrorCode::Denied]);
    let client = crate::harness::Client::new(addr);
    std::fs::write(client.folder().join("new"), b"1").unwrap();
    for command in ["put new", "mkdir made", "rm f", "rm -r folder", "mv f g"] {
        let json = client.command(command).fails(1).json();
        assert_eq!(json["error"]["code"], "denied", "{command}: {json}");
    }
    assert_eq!(tree(&slave.root).len(), 3);
}

#[test]
fn on_loopback_changes_need_no_account() {
    let slave = Standalone::start(&[], &[]);
    let (mut wire, writable) = opened(slave.addr, Request::Login(Login::default()));
    assert!(writable);
    wire.put("f", b"1").unwrap();
}

#[test]
fn a_cluster_on_loopback_needs_no_accounts_for_changes() {
    let cluster = Cluster::of(1).start();
    let (ticket, _) = ticket(cluster.addr);
    let (mut wire, writable) =
        opened(cluster.slaves[0].addr, Request::Ticket { ticket, lsn: Lsn::default() });
    assert!(writable);
    wire.put("f", b"1").unwrap();
}

#[test]
fn a_cluster_beyond_loopback_needs_accounts_for_changes() {
    let cluster = Cluster::of(1).listen("0.0.0.0").file("f", b"1").file("folder/x", b"2").start();
    let (ticket, _) = ticket(cluster.addr);
    let slave = &cluster.slaves[0];
    let (mut wire, writable) = opened(slave.addr, Request::Ticket { ticket, lsn: Lsn::default() });
    assert!(!writable);
    // The existing files are numbered first.
    crate::harness::eventually(crate::harness::SOON, "all files are numbered", || {
        (wire.fetch("f").ok()? == b"1").then_some(())
    });
    refused(&mut wire, &slave.root, &[ErrorCode::Denied]);
    let client = cluster.client();
    std::fs::write(client.folder().join("new"), b"1").unwrap();
    for command in ["put new", "mkdir made", "rm f", "rm -r folder", "mv f g"] {
        let json = client.run(&["--retry", "0", "--json", "-c", command]).fails(1).json();
        assert_eq!(json["error"]["code"], "denied", "{command}: {json}");
    }
    assert_eq!(tree(&slave.root).len(), 3);
}
