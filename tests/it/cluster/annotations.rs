//! Locks, properties and SHA-256 hashes are state of the whole cluster.

use std::path::Path;

use relais_proto::{
    Annotations, Change, ErrorCode, LockRequest, LockToken, PropertyChange, PropertyName, Reply,
};
use relais_storage::{CatalogReader, CatalogStore, MetadataFolder};
use relais_tree::Folder;

use super::helpers::{open, wait_settled};
use crate::ftp::{FtpTestClient, ftp_address};
use crate::harness::{
    Client, Cluster, SOON, eventually, make_folder, path, propose, remove, rename,
};

const TOKEN: LockToken = LockToken([7; 16]);

fn lock(at: &str) -> Change {
    let (user, owner) = ("ann".to_owned(), "<o/>".to_owned());
    let lock = LockRequest { token: TOKEN, user, owner, exclusive: true, deep: true, seconds: 600 };
    Change::Lock { path: path(at), lock }
}

fn set(at: &str, value: &str) -> Change {
    let name = PropertyName { namespace: "urn:x".to_owned(), local: "p".to_owned() };
    let changes = vec![PropertyChange { name, value: Some(value.to_owned()) }];
    Change::SetProperties { path: path(at), changes }
}

/// Returns what the catalogue of a slave has.
fn annotations(root: &Path) -> Annotations {
    let own = MetadataFolder::open(&Folder::open(root).unwrap()).unwrap();
    CatalogReader::new(&own).ask(CatalogStore::annotations).unwrap()
}

/// Waits until all slaves have equal annotations that fit.
#[track_caller]
fn agreed(cluster: &Cluster, fits: impl Fn(&Annotations) -> bool) -> Annotations {
    eventually(SOON, "all slaves have the same annotations", || {
        let all: Vec<_> = cluster.slaves.iter().map(|slave| annotations(&slave.root)).collect();
        (fits(&all[0]) && all.iter().all(|other| *other == all[0])).then(|| all[0].clone())
    })
}

fn code(reply: &Reply) -> Option<ErrorCode> {
    if let Reply::Error(refusal) = reply { Some(refusal.code) } else { None }
}

#[test]
fn a_lock_on_one_slave_rejects_writers_of_each_protocol_on_another() {
    let args = ["--ftp", "127.0.0.1:0", "--workers", "2"];
    let mut cluster = Cluster::of(2).slave_args(&args).start();
    let mut first = open(&cluster, 0);
    assert_eq!(code(&first.ask(&make_folder("d"))), None);
    first.put("d/f", b"content").unwrap();
    wait_settled(&cluster);
    propose(&cluster.slaves[0].root, lock("d")).unwrap();
    // A program that locks it as well is refused, at the other slave too.
    let mut again = lock("d/f");
    if let Change::Lock { lock, .. } = &mut again {
        lock.token = LockToken([8; 16]);
    }
    let refused = propose(&cluster.slaves[1].root, again).unwrap_err();
    assert_eq!((refused.code, refused.path), (ErrorCode::Locked, Some(path("d"))));
    let check = |cluster: &Cluster| {
        // The native client talks to the other slave alone.
        let mut second = open(cluster, 1);
        for request in [make_folder("d/new"), remove("d/f", false), rename("d", "e")] {
            assert_eq!(code(&second.ask(&request)), Some(ErrorCode::Locked), "{request:?}");
        }
        assert_eq!(second.put("d/f", b"new").unwrap_err().code, ErrorCode::Locked);
        assert_eq!(second.put("d/large", &[7; 3 << 20]).unwrap_err().code, ErrorCode::Locked);
        let client = Client::new(cluster.addr);
        std::fs::write(client.folder().join("f"), "new").unwrap();
        let output = client.run(&["--json", "-c", "put f -o d/f"]).fails(1);
        assert_eq!(output.json()["error"]["code"], "locked");
        let mut ftp = FtpTestClient::anonymous(ftp_address(&cluster.slaves[1].program, "ftp"));
        ftp.expect("DELE d/f", 450);
        // It is refused before the client sends the content.
        let data = ftp.passive();
        ftp.expect("STOR d/f", 450);
        drop(data);
    };
    check(&cluster);
    // The lock survives master and slaves.
    cluster.master.kill();
    cluster.restart_master();
    for n in 0..2 {
        cluster.slaves[n].program.kill();
        cluster.restart_slave(n);
    }
    cluster.wait_in_service(2);
    check(&cluster);
    let unlock = Change::Unlock { path: path("d"), token: TOKEN };
    propose(&cluster.slaves[1].root, unlock).unwrap();
    open(&cluster, 0).put("d/f", b"new").unwrap();
    agreed(&cluster, |found| found.locks.is_empty());
}

#[test]
fn annotations_follow_moves_and_reach_new_slaves() {
    let mut cluster = Cluster::of(2).slave_args(&["--sha256"]).start();
    let mut first = open(&cluster, 0);
    assert_eq!(code(&first.ask(&make_folder("d"))), None);
    first.put("d/f", b"abc").unwrap();
    first.put("large", &[7; (3 << 20) + 1]).unwrap();
    let root = cluster.slaves[0].root.clone();
    let large = "v".repeat(30_000);
    for (at, value) in [("d", "1"), ("d/f", "2"), ("large", &large), ("", "root")] {
        propose(&root, set(at, value)).unwrap();
    }
    propose(&root, lock("large")).unwrap();
    assert_eq!(code(&open(&cluster, 1).ask(&rename("d", "e"))), None);
    let is_whole = |found: &Annotations| found.hashes.len() == 2 && found.locks.len() == 1;
    let found = agreed(&cluster, is_whole);
    let paths: Vec<_> = found.properties.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["", "e", "e/f", "large"]);
    let sha256 = |n: usize| found.hashes[n].1.sha256.to_string();
    assert_eq!(sha256(0), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!(found.hashes[1].1.pieces.len(), 4);
    // A new slave gets them with the tree, also from a master that has read its journal again.
    cluster.master.kill();
    cluster.restart_master();
    cluster.add_slave();
    cluster.wait_in_service(3);
    wait_settled(&cluster);
    assert_eq!(agreed(&cluster, is_whole), found);
    // They go with their paths.
    assert_eq!(code(&open(&cluster, 2).ask(&remove("e", true))), None);
    let left = agreed(&cluster, |found| found.hashes.len() == 1);
    assert_eq!(left.properties.len(), 2);
}
