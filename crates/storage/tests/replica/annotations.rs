//! Properties, locks and hashes follow the log: with their paths, and until their content goes.

use std::fs;

use relais_proto::{
    Annotations, Change, ChangeId, CommittedEntry, ContentHashes, FileContent, LinkMessage,
    LockRequest, LockToken, Lsn, Mode, Property, PropertyChange, PropertyName, Sha256, ToSlave,
    TreeEntry, TreePath,
};
use relais_storage::{CatalogStore, LinkEvent, Output, Proposal, SessionRequests};

use crate::harness::{MTIME, Replica, committed, digest, id, lsn, path, proposed, put};

fn name(local: &str) -> PropertyName {
    PropertyName { namespace: "urn:x".to_owned(), local: local.to_owned() }
}

/// Sets properties, written as `name=value`, or removes them, written as `name`.
fn set(at: &str, properties: &[&str]) -> Change {
    let change = |text: &&str| match text.split_once('=') {
        Some((local, value)) => PropertyChange { name: name(local), value: Some(value.to_owned()) },
        None => PropertyChange { name: name(text), value: None },
    };
    Change::SetProperties { path: path(at), changes: properties.iter().map(change).collect() }
}

fn lock(at: &str, token: u8, deep: bool) -> Change {
    let lock = LockRequest {
        token: LockToken([token; 16]),
        user: "ann".to_owned(),
        owner: "<o/>".to_owned(),
        exclusive: true,
        deep,
        seconds: 60,
    };
    Change::Lock { path: path(at), lock }
}

fn hashes(n: u8) -> ContentHashes {
    ContentHashes { sha256: Sha256([n; 32]), piece_size: 1 << 20, pieces: vec![Sha256([n; 32]); 2] }
}

fn record(put: u64, n: u8) -> Change {
    Change::RecordSha256 { put: lsn(put), hashes: hashes(n) }
}

fn folder(at: &str) -> Change {
    Change::MakeFolder { path: path(at), mode: Mode::new(0o755) }
}

fn rename(from: &str, to: &str) -> Change {
    Change::Move { from: path(from), to: path(to) }
}

fn remove(at: &str) -> Change {
    Change::Remove { path: path(at), recursive: true }
}

/// Commits changes; the first gets the number `first`. Delivers the content of each put.
fn commit(replica: &mut Replica, first: u8, changes: Vec<Change>) -> Vec<CommittedEntry> {
    let changes: Vec<_> =
        (first..).zip(changes).map(|(number, change)| committed(number, change)).collect();
    replica.commit(changes.clone());
    for entry in &changes {
        if let Change::Put { path, .. } = &entry.entry.change {
            replica.deliver(entry.entry.version.number, path.as_str());
        }
    }
    changes
}

/// Puts a file whose content is its path.
fn file(at: &str) -> Change {
    put(at, at)
}

fn properties(store: &CatalogStore, at: &str) -> Vec<String> {
    let found = store.properties(&path(at)).unwrap();
    found.into_iter().map(|Property { name, value }| format!("{}={value}", name.local)).collect()
}

/// Returns the tokens of the locks that cover a path, each with the locked path.
fn locks(store: &CatalogStore, at: &str) -> Vec<(u8, String)> {
    tokens(store.locks_covering(&path(at)).unwrap())
}

fn tokens(locks: Vec<(TreePath, relais_proto::Lock)>) -> Vec<(u8, String)> {
    locks.into_iter().map(|(path, lock)| (lock.token.0[0], path.to_string())).collect()
}

fn hash(store: &CatalogStore, put: u64) -> Option<u8> {
    store.content_hashes(lsn(put)).unwrap().map(|hashes| hashes.sha256.0[0])
}

#[test]
fn properties_move_and_go_with_their_path() {
    let mut replica = Replica::new();
    let changes =
        vec![folder("d"), file("d/f"), file("g"), set("d/f", &["a=1", "b=2"]), set("d", &["c=3"])];
    commit(&mut replica, 1, changes);
    commit(&mut replica, 6, vec![set("", &["r=0"]), set("d/f", &["a", "b=4", "e=5"])]);
    let store = |replica: &Replica, at: &str| properties(&replica.scanner.store, at);
    assert_eq!(store(&replica, "d/f"), ["b=4", "e=5"]);
    commit(&mut replica, 8, vec![rename("d", "e")]);
    assert_eq!(store(&replica, "d/f"), [""; 0]);
    assert_eq!(
        (store(&replica, "e"), store(&replica, "e/f")),
        (vec!["c=3".to_owned()], vec!["b=4".to_owned(), "e=5".to_owned()])
    );
    // New content keeps them; another file that is moved there brings its own.
    commit(&mut replica, 9, vec![put("e/f", "new")]);
    replica.deliver(9, "new");
    assert_eq!(store(&replica, "e/f"), ["b=4", "e=5"]);
    commit(&mut replica, 10, vec![rename("g", "e/f")]);
    assert_eq!(store(&replica, "e/f"), [""; 0]);
    let both = replica.scanner.store.properties_of(&[path("e/f"), path("e")]).unwrap();
    assert_eq!(both.iter().map(Vec::len).collect::<Vec<_>>(), [0, 1]);
    commit(&mut replica, 11, vec![remove("e")]);
    let left = replica.scanner.store.annotations().unwrap().properties;
    assert_eq!(left.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), [""], "of the root");
}

#[test]
fn locks_cover_what_is_below_and_end_with_their_path() {
    let mut replica = Replica::new();
    let changes = vec![
        folder("d"),
        folder("d/sub"),
        file("d/sub/f"),
        file("dx"),
        lock("d", 1, true),
        lock("d/sub", 2, false),
        lock("dx", 3, false),
    ];
    commit(&mut replica, 1, changes);
    let store = &replica.scanner.store;
    let at = |token, path: &str| (token, path.to_owned());
    assert_eq!(locks(store, "d/sub/f"), [at(1, "/d")]);
    assert_eq!(locks(store, "d/sub"), [at(2, "/d/sub"), at(1, "/d")]);
    assert_eq!(locks(store, "dx"), [at(3, "/dx")]);
    assert_eq!(locks(store, "d2"), []);
    assert_eq!(tokens(store.locks_below(&path("d")).unwrap()), [at(2, "/d/sub")]);
    assert_eq!(store.locks_below(&path("")).unwrap().len(), 3);
    let unlock = |at, token| Change::Unlock { path: path(at), token: LockToken([token; 16]) };
    commit(&mut replica, 8, vec![unlock("dx", 9), rename("d", "e"), unlock("dx", 3)]);
    assert_eq!(replica.scanner.store.annotations().unwrap().locks, []);
    // A lock of the root covers everything, and can only be extended. A later lock drops those
    // that have expired.
    commit(&mut replica, 11, vec![lock("", 4, true), lock("", 4, false)]);
    assert_eq!(locks(&replica.scanner.store, "e/sub/f"), [at(4, "/")]);
    let mut later = committed(13, lock("dx", 5, false));
    later.entry.time_ms = 60_000;
    replica.commit(vec![later]);
    let left = replica.scanner.store.annotations().unwrap().locks;
    assert_eq!(tokens(left), [at(5, "/dx")]);
    // A file that is moved there leaves the lock where it was made.
    commit(&mut replica, 14, vec![file("g"), rename("g", "dx")]);
    assert_eq!(locks(&replica.scanner.store, "dx"), [at(5, "/dx")]);
}

#[test]
fn hashes_stay_until_their_content_goes() {
    let mut replica = Replica::new();
    let changes = vec![
        folder("d"),
        file("d/f"),
        file("g"),
        file("h"),
        record(2, 2),
        record(3, 3),
        record(4, 4),
        record(99, 9),
    ];
    commit(&mut replica, 1, changes);
    let known = |replica: &Replica| [2, 3, 4, 99].map(|put| hash(&replica.scanner.store, put));
    assert_eq!(known(&replica), [Some(2), Some(3), Some(4), None]);
    assert_eq!(replica.scanner.store.content_hashes(lsn(2)).unwrap(), Some(hashes(2)));
    commit(&mut replica, 9, vec![rename("d", "e")]);
    assert_eq!(known(&replica), [Some(2), Some(3), Some(4), None]);
    commit(&mut replica, 10, vec![put("g", "new"), rename("h", "e/f")]);
    assert_eq!(known(&replica), [None, None, Some(4), None]);
    commit(&mut replica, 12, vec![remove("e")]);
    assert_eq!(known(&replica), [None; 4]);
}

#[test]
fn hashes_of_an_upload_are_recorded_after_its_put() {
    let mut replica = Replica::new();
    let staged = Some(replica.stage(id(1), "f", "content"));
    let change = put("f", "content");
    let proposal =
        Proposal { staged, hashes: Some(hashes(7)), ..Proposal::new(id(1), change.clone()) };
    let requests = SessionRequests { proposals: vec![(5, proposal)], ..SessionRequests::default() };
    let outputs = replica.run(Vec::new(), requests, Vec::new());
    assert_eq!(proposed(&outputs), std::slice::from_ref(&change));
    let outputs = replica.commit(vec![committed(1, change)]);
    assert_eq!(proposed(&outputs), [record(1, 7)]);
}

#[test]
fn a_batch_that_is_repeated_after_a_crash_has_the_same_annotations() {
    let mut replica = Replica::new();
    commit(&mut replica, 1, vec![folder("d"), file("d/f"), file("g"), set("d/f", &["a=1"])]);
    let before = replica.scanner.store.annotations().unwrap();
    // The move was done on the disk when the power failed, and not recorded in the catalogue.
    let batch = vec![
        committed(5, set("d/f", &["b=2"])),
        committed(6, rename("d/f", "x")),
        committed(7, set("x", &["c=3"])),
        committed(8, lock("x", 1, false)),
        committed(9, record(2, 2)),
    ];
    let mut replica = replica.reopen(lsn(9), |dir| {
        fs::rename(dir.path().join("d/f"), dir.path().join("x")).unwrap();
    });
    assert_eq!(replica.scanner.store.annotations().unwrap(), before);
    replica.commit(batch.clone());
    let check = |replica: &Replica| {
        let store = &replica.scanner.store;
        assert_eq!(properties(store, "x"), ["a=1", "b=2", "c=3"]);
        assert_eq!((locks(store, "x").len(), hash(store, 2)), (1, Some(2)));
        assert_eq!(store.annotations().unwrap().properties.len(), 3);
    };
    check(&replica);
    let mut replica = replica.reopen(lsn(9), |_| {});
    replica.commit(batch);
    check(&replica);
}

#[test]
fn a_resync_replaces_all_annotations() {
    let mut replica = Replica::new();
    let changes = vec![file("f"), file("g"), set("f", &["a=1"]), set("g", &["b=2"])];
    commit(&mut replica, 1, changes);
    commit(&mut replica, 5, vec![lock("f", 1, false), record(1, 1), record(2, 2)]);
    let entry = |number: u64, name: &str| TreeEntry {
        version: lsn(number),
        mode: Mode::new(0o644),
        content: Some(FileContent {
            put: lsn(number),
            digest: digest(name),
            size: name.len() as u64,
            mtime: MTIME,
        }),
    };
    let property =
        |local: &str, value: &str| Property { name: name(local), value: value.to_owned() };
    let annotations = Annotations {
        properties: vec![(path(""), property("r", "0")), (path("f"), property("a", "9"))],
        locks: vec![(path("g"), {
            let Change::Lock { lock, .. } = lock("g", 2, false) else { panic!("a lock") };
            relais_proto::Lock::granted(&lock, ChangeId([0; 16]), 5)
        })],
        hashes: vec![(lsn(1), hashes(8)), (lsn(77), hashes(9))],
    };
    let compare = ToSlave::Compare { epoch: 1, lsn: lsn(20), given_up: Vec::new() };
    let page = ToSlave::Page {
        entries: vec![(path("f"), entry(1, "f")), (path("g"), entry(9, "g"))],
        ids: Vec::new(),
        annotations: annotations.clone(),
    };
    let end =
        ToSlave::End { lsn: lsn(20), chain: Default::default(), timelines: Vec::new(), entries: 2 };
    replica.link(vec![LinkEvent::Unlinked]);
    replica.link_to(lsn(20), compare);
    replica.link(vec![LinkEvent::Message(page), LinkEvent::Message(end)]);
    assert_eq!(replica.progress.applied(), lsn(20));
    let found = replica.scanner.store.annotations().unwrap();
    assert_eq!((found.properties, found.locks), (annotations.properties, annotations.locks));
    assert_eq!(found.hashes, [(lsn(1), hashes(8))], "only those of contents in the tree");
}

#[test]
fn the_tree_for_the_master_has_all_annotations() {
    let mut replica = Replica::new();
    let large = format!("a={}", "v".repeat(30_000));
    let mut changes = vec![file("f"), lock("f", 1, false), record(1, 1), set("", &["r=0"])];
    changes.extend((0..9).map(|n| set("f", &[&large.replace("a=", &format!("a{n}="))])));
    commit(&mut replica, 1, changes);
    let query = LinkEvent::TreeQuery { query: 3, ids: true };
    let pages: Vec<_> = replica
        .link(vec![query])
        .into_iter()
        .filter_map(|output| match output {
            Output::Send(1, LinkMessage::TreePage(page)) => Some(page),
            _ => None,
        })
        .collect();
    assert!(pages.len() > 9, "{}", pages.len());
    let ends: Vec<bool> = pages.iter().map(|page| page.last).collect();
    assert_eq!(ends.iter().position(|last| *last), Some(pages.len() - 1));
    let mut found = Annotations::default();
    for page in pages {
        found.properties.extend(page.annotations.properties);
        found.locks.extend(page.annotations.locks);
        found.hashes.extend(page.annotations.hashes);
    }
    assert_eq!(found, replica.scanner.store.annotations().unwrap());
    assert_eq!(found.properties.len(), 10);
}

#[test]
fn watches_continue_after_changes_that_they_do_not_report() {
    let mut replica = Replica::new();
    commit(&mut replica, 1, vec![file("f"), set("f", &["a=1"]), lock("f", 1, false)]);
    let after = |replica: &Replica, lsn: Lsn| {
        let store = &replica.scanner.store;
        let position = store.event_position(Some(lsn)).unwrap().unwrap();
        let page = store.events(position, &path(""), 100).unwrap().unwrap();
        (page.events.len(), page.end.lsn)
    };
    assert_eq!(after(&replica, lsn(1)), (0, lsn(3)));
    commit(&mut replica, 4, vec![file("g")]);
    assert_eq!(after(&replica, lsn(2)), (1, lsn(4)));
}
