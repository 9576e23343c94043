//! Tests of the catalogue on a real folder, without the thread that writes it.

use std::fs;
use std::sync::Arc;
use std::time::Instant;

use relais_cluster::{Entry, FileContent, IDS};
use relais_proto::{
    ChangeId, Digest, EventKind, FolderId, Lsn, PathEvent, PeerSlave, SlaveId, TreePath, limits,
};
use relais_tree::{Folder, TreeError};

use crate::{
    CatalogError, CatalogReader, CatalogStore, Commit, FOLDER, MetadataFolder, Scanner, SkipReason,
    SlaveIdentity, StartParameters,
};

const ANY: StartParameters =
    StartParameters { standalone: false, requested_port: 0, bound_port: 40_000 };

#[test]
fn file_that_replaces_a_folder_during_a_scan_keeps_its_lsn() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join(".relais")).unwrap();
    fs::create_dir_all(dir.path().join("d/below")).unwrap();
    let root = Folder::open(dir.path()).unwrap();
    let store = CatalogStore::open(&MetadataFolder::open(&root).unwrap()).unwrap();
    let mut scanner = Scanner::new(root.try_clone().unwrap(), store, None, Arc::default());
    scanner.begin_scan();
    assert!(!scanner.continue_scan(Instant::now()).unwrap(), "a slice scans one folder");
    // `rm -r d` and `put d` between two slices of the scan.
    let (path, version) = (TreePath::new("d").unwrap(), Lsn { epoch: 1, number: 2 });
    fs::remove_dir_all(dir.path().join("d")).unwrap();
    fs::write(dir.path().join("d"), "a file").unwrap();
    scanner.store.remove(&path).unwrap();
    let meta = root.stat(&path).unwrap();
    let digest = Digest([1; 32]);
    let content = FileContent { put: version, digest, size: meta.size, mtime: meta.mtime };
    let entry = Entry { version, mode: meta.mode, content: Some(content) };
    scanner.store.put_entry(&path, &entry, Some(&meta), &[]).unwrap();
    while !scanner.continue_scan(Instant::now()).unwrap() {}
    assert_eq!(scanner.store.row(&path).unwrap().and_then(|row| row.entry.version), Some(version));
}

#[test]
fn catalogue_follows_a_renamed_folder() {
    let top = tempfile::tempdir().unwrap();
    let (old, new) = (top.path().join("old"), top.path().join("new"));
    fs::create_dir(&old).unwrap();
    let own = SlaveIdentity::acquire(&Folder::open(&old).unwrap(), ANY).unwrap().folder;
    let applied = |number| Lsn { epoch: 1, number };
    let store = CatalogStore::open(&own).unwrap();
    fs::rename(&old, &new).unwrap();
    // The entry at the old path must not be touched, and a link is not followed.
    fs::create_dir_all(old.join(".relais")).unwrap();
    store.set_applied(applied(7)).unwrap();
    let mut reader = CatalogReader::new(&own);
    assert_eq!(reader.ask(CatalogStore::applied).unwrap(), Some(applied(7)));
    drop(store);
    let store = CatalogStore::open(&own).unwrap();
    store.set_applied(applied(8)).unwrap();
    assert_eq!(reader.ask(CatalogStore::applied).unwrap(), Some(applied(8)));
    assert_eq!(fs::read_dir(old.join(".relais")).unwrap().count(), 0);
    drop((store, reader));
    let file = new.join(".relais/catalogue.db");
    fs::rename(&file, new.join("elsewhere.db")).unwrap();
    std::os::unix::fs::symlink(new.join("elsewhere.db"), &file).unwrap();
    let error = CatalogStore::open(&own).err().unwrap().to_string();
    assert!(error.contains("new/.relais/catalogue.db"), "{error}");
}

#[test]
fn log_space_is_reserved_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join(".relais")).unwrap();
    let log = dir.path().join(".relais/catalogue.db-wal");
    let own = MetadataFolder::open(&Folder::open(dir.path()).unwrap()).unwrap();
    for _ in 0..2 {
        let store = CatalogStore::open(&own).unwrap();
        let len = || fs::metadata(&log).unwrap().len();
        let before = len();
        assert!(before >= 4_000_000, "{before}");
        for n in 0..300 {
            store.begin().unwrap();
            store.set_meta(&format!("test-{n}"), "x".repeat(1000)).unwrap();
            store.commit().unwrap();
        }
        assert_eq!(len(), before);
        let size = fs::metadata(dir.path().join(".relais/catalogue.db")).unwrap().len();
        assert!(size < 2 << 20, "the reservation is not in the database: {size}");
    }
}

#[test]
fn old_change_ids_are_deleted() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(FOLDER)).unwrap();
    let root = Folder::open(dir.path()).unwrap();
    let store = CatalogStore::open(&MetadataFolder::open(&root).unwrap()).unwrap();
    let id = |number: u64| {
        let mut id = [0; 16];
        id[8..].copy_from_slice(&number.to_be_bytes());
        ChangeId(id)
    };
    let version = |number| Lsn { epoch: 1, number };
    let limit = IDS as u64;
    assert_eq!((limit + 32) % 64, 0, "ids are deleted in groups");
    for number in [1, 31, 32, 33, limit, limit + 31, limit + 32] {
        let commit = Commit { version: version(number), digest: None };
        store.record_change(id(number), commit).unwrap();
    }
    let known = |number| store.commit_of(id(number)).unwrap().map(|commit| commit.version);
    assert_eq!([1, 31, 32].map(known), [None; 3]);
    assert_eq!([33, limit].map(known), [33, limit].map(|number| Some(version(number))));
}

fn new_store() -> (tempfile::TempDir, MetadataFolder, CatalogStore) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(FOLDER)).unwrap();
    let own = MetadataFolder::open(&Folder::open(dir.path()).unwrap()).unwrap();
    let store = CatalogStore::open(&own).unwrap();
    (dir, own, store)
}

#[test]
fn events_are_seen_from_the_watched_path() {
    let path = |text: &str| TreePath::new(text).unwrap();
    let (_dir, own, store) = new_store();
    let moved = |from: &str| EventKind::Moved(path(from));
    let recorded = [
        (EventKind::Created, "a/b/new"),
        (EventKind::Changed, "a/bc"),
        (moved("a/b/new"), "a/b/newer"),
        (moved("a/b/newer"), "out"),
        (moved("out"), "a/b"),
        (EventKind::Changed, "a"),
        (EventKind::Removed, "a/b/gone"),
        (moved("a"), "z"),
        (moved("z"), "a"),
        (EventKind::Removed, "a"),
    ];
    store.begin().unwrap();
    for (number, (kind, at)) in (1..).zip(&recorded) {
        let version = Lsn { epoch: 1, number };
        store.record_event(version, kind, &path(at)).unwrap();
        store.set_applied(version).unwrap();
    }
    store.commit().unwrap();
    let mut reader = CatalogReader::new(&own);
    let start = reader.ask(|store| store.event_position(Some(Lsn::default()))).unwrap().unwrap();
    let mut seen = |top: &str, most| {
        let page = reader.ask(|store| store.events(start, &path(top), most)).unwrap().unwrap();
        let seen = |event: PathEvent| (event.lsn.number, event.kind, event.path.to_string());
        (page.events.into_iter().map(seen).collect::<Vec<_>>(), page.end.lsn.number, page.more)
    };
    let at = |number, kind, path: &str| (number, kind, path.to_owned());
    let wanted = [
        at(1, EventKind::Created, "/a/b/new"),
        at(3, moved("a/b/new"), "/a/b/newer"),
        at(4, EventKind::Removed, "/a/b/newer"),
        at(5, EventKind::Created, "/a/b"),
        at(7, EventKind::Removed, "/a/b/gone"),
        at(8, EventKind::Removed, "/a/b"),
        at(9, EventKind::Created, "/a/b"),
        at(10, EventKind::Removed, "/a/b"),
    ];
    assert_eq!(seen("a/b", 100), (wanted.to_vec(), 10, false));
    assert_eq!(seen("a/b", 3), (wanted[..2].to_vec(), 3, true));
    assert_eq!(seen("", 100).0.len(), recorded.len());
    assert_eq!(seen("elsewhere", 100), (Vec::new(), 10, false));
}

#[test]
fn unknown_event_positions_are_lost() {
    let (_dir, own, store) = new_store();
    let version = |number| Lsn { epoch: 1, number };
    let top = TreePath::root();
    let record = |numbers: std::ops::RangeInclusive<u64>| {
        store.begin().unwrap();
        for number in numbers {
            store.record_event(version(number), &EventKind::Removed, &top).unwrap();
            store.set_applied(version(number)).unwrap();
        }
        store.commit().unwrap();
    };
    let mut reader = CatalogReader::new(&own);
    record(1..=5);
    let early = reader.ask(|store| store.event_position(Some(version(3)))).unwrap().unwrap();
    let page = reader.ask(|store| store.events(early, &top, 100)).unwrap().unwrap();
    assert_eq!(page.events.iter().map(|event| event.lsn.number).collect::<Vec<_>>(), [4, 5]);
    // A change of another history.
    assert_eq!(
        reader.ask(|store| store.event_position(Some(Lsn { epoch: 0, number: 3 }))).unwrap(),
        None
    );
    // The oldest events are dropped.
    let kept = limits::EVENTS as u64;
    record(6..=kept + 128);
    assert_eq!(reader.ask(|store| store.event_position(Some(version(3)))).unwrap(), None);
    assert_eq!(reader.ask(|store| store.events(early, &top, 100)).unwrap(), None);
    let first = Some(Lsn::default());
    let start = reader.ask(|store| store.event_position(first)).unwrap().unwrap();
    assert_eq!(reader.ask(|store| store.events(start, &top, 100)).unwrap(), None);
    let late =
        reader.ask(|store| store.event_position(Some(version(kept + 100)))).unwrap().unwrap();
    assert_eq!(
        reader.ask(|store| store.events(late, &top, 100)).unwrap().unwrap().events.len(),
        28
    );
    // A resync replaces the tree.
    store.record_break(version(kept + 200)).unwrap();
    store.set_applied(version(kept + 200)).unwrap();
    assert_eq!(reader.ask(|store| store.events(late, &top, 100)).unwrap(), None);
    let now = reader.ask(|store| store.event_position(None)).unwrap().unwrap();
    record(kept + 201..=kept + 202);
    assert_eq!(reader.ask(|store| store.events(now, &top, 100)).unwrap().unwrap().events.len(), 2);
}

#[test]
fn errors_name_the_path() {
    let denied = TreeError::Io("open", std::io::Error::from_raw_os_error(13));
    let error = CatalogError::Path(TreePath::new("ro").unwrap(), denied);
    assert_eq!(error.to_string(), "/ro: cannot open: permission denied");
}

#[test]
fn skipped_name_is_counted_once() {
    let dir = tempfile::tempdir().unwrap();
    let root = Folder::open(dir.path()).unwrap();
    let store = CatalogStore::open(&MetadataFolder::create(&root).unwrap()).unwrap();
    let total = || store.total("relais_skipped_links").unwrap();
    for _ in 0..3 {
        store.skip(&TreePath::root(), b"bad\xff", SkipReason::Link).unwrap();
        assert_eq!(total(), 1);
    }
    store.forget_skipped("", b"bad\xff").unwrap();
    assert_eq!(total(), 0);
}

#[test]
fn readers_learn_the_addresses_of_slaves() {
    let top = tempfile::tempdir().unwrap();
    let own = SlaveIdentity::acquire(&Folder::open(top.path()).unwrap(), ANY).unwrap().folder;
    let store = CatalogStore::open(&own).unwrap();
    let mut reader = CatalogReader::new(&own);
    let peer = |n: u8, addrs: &[&str]| PeerSlave {
        slave: SlaveId([n; 16]),
        folder: FolderId([n; 16]),
        addrs: addrs.iter().map(|addr| addr.parse().unwrap()).collect(),
    };
    let first = [peer(1, &["192.0.2.1:21", "[2001:db8::1]:2122"]), peer(2, &[])];
    for peers in [&first[..], &[peer(2, &["[fe80::1%3]:9"])], &[]] {
        store.set_peers(peers).unwrap();
        assert_eq!(reader.ask(CatalogStore::peers).unwrap(), peers);
    }
}
