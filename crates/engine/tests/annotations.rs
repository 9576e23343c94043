//! Locks, properties and SHA-256 hashes through sessions of the engine.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking, in its helper functions too")]

mod host;

use std::fs;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use relais_auth::Rights;
use relais_engine::{CopyRequest, FoundLock, Located, PreparedChange, Principal, Session};
use relais_proto::{
    ChangeId, ContentHashes, ErrorCode, Expect, IfMatch, LockRequest, LockToken, Property,
    PropertyChange, PropertyName, PutRequest, Refusal, TreePath, limits,
};
use relais_storage::{CatalogStore, StagedName, Staging};
use relais_tree::Folder;
use ring::digest::{SHA256, digest};

use self::host::{Fixture, Waiting};

fn path(text: &str) -> TreePath {
    TreePath::new(text).unwrap()
}

fn patient() -> Waiting {
    Waiting::at_most(Duration::from_secs(30))
}

fn id(n: u8) -> ChangeId {
    ChangeId([n; 16])
}

fn token(n: u8) -> LockToken {
    LockToken([n; 16])
}

fn request(n: u8, deep: bool) -> LockRequest {
    let (user, owner) = (String::new(), "<o/>".to_owned());
    LockRequest { token: token(n), user, owner, exclusive: true, deep, seconds: 60 }
}

fn put(session: &mut Session, n: u8, at: &str, content: &[u8]) {
    let mut upload =
        session.begin_upload(PutRequest::new(id(n), path(at)), &mut patient()).unwrap();
    upload.write(content).unwrap();
    let change = upload.finish(None, &mut patient());
    commit(session, change).unwrap();
}

fn make_folder(session: &mut Session, n: u8, at: &str) {
    let change = session.make_folder(id(n), &path(at), &mut patient());
    commit(session, change).unwrap();
}

fn commit(session: &mut Session, change: Result<PreparedChange, Refusal>) -> Result<(), Refusal> {
    session.commit(change?, &mut patient()).map(drop)
}

fn lock(session: &mut Session, n: u8, at: &str, request: LockRequest) -> Result<(), Refusal> {
    let change = session.lock(id(n), &path(at), request, &mut patient());
    commit(session, change)
}

/// Returns path, token and user of the locks at a path.
fn locks(session: &Session, at: &str, below: bool) -> Vec<(String, u8, String)> {
    let found = session.locks(&path(at), below, &mut patient()).unwrap();
    let seen =
        |FoundLock { path, lock, .. }: FoundLock| (path.to_string(), lock.token.0[0], lock.user);
    found.into_iter().map(seen).collect()
}

fn change(local: &str, value: Option<&str>) -> PropertyChange {
    let name = PropertyName { namespace: "urn:x".to_owned(), local: local.to_owned() };
    PropertyChange { name, value: value.map(str::to_owned) }
}

fn set(
    session: &mut Session,
    n: u8,
    at: &str,
    changes: Vec<PropertyChange>,
) -> Result<(), Refusal> {
    let change = session.set_properties(id(n), &path(at), changes, Expect::Any, &mut patient());
    commit(session, change)
}

fn properties(session: &Session, at: &str) -> Vec<String> {
    let found = session.properties(&path(at), &mut patient()).unwrap();
    found.into_iter().map(|Property { name, value }| format!("{}={value}", name.local)).collect()
}

fn code<T>(result: Result<T, Refusal>) -> ErrorCode {
    result.err().unwrap().code
}

#[test]
fn locks_are_seen_from_the_root_of_each_user() {
    let fixture = Fixture::new();
    fixture.with_writer(|| {
        let mut ann = fixture.session("ann");
        make_folder(&mut ann, 1, "d");
        put(&mut ann, 2, "d/f", b"content");
        lock(&mut ann, 3, "d", request(1, true)).unwrap();
        lock(&mut ann, 4, "d/f", request(2, false)).unwrap();
        let at = |path: &str, token| (path.to_owned(), token, "ann".to_owned());
        assert_eq!(locks(&ann, "d/f", false), [at("/d/f", 2), at("/d", 1)]);
        assert_eq!(locks(&ann, "d", true), [at("/d", 1), at("/d/f", 2)]);
        assert_eq!(locks(&ann, "", false), []);
        let address = "192.0.2.1".parse().unwrap();
        let below = Principal { root: path("d"), ..Principal::new("eve", address) };
        let mut eve = fixture.session_of(below);
        assert_eq!(locks(&eve, "f", false), [at("/f", 2), at("/", 1)]);
        assert_eq!(locks(&eve, "", true), [at("/", 1), at("/f", 2)]);
        // The lock belongs to the account that made it, and its paths are those of the user.
        let refused = eve.unlock(id(5), &path("f"), token(2), &mut patient()).err().unwrap();
        assert_eq!(refused.code, ErrorCode::Changed);
        assert!(refused.message.starts_with("/f: "), "{refused}");
        let change = ann.unlock(id(6), &path("d/f"), token(2), &mut patient());
        commit(&mut ann, change).unwrap();
        assert_eq!(locks(&eve, "f", false), [at("/", 1)]);
        // A reader sees locks, and makes none.
        let reader = Principal { rights: Rights::Read, ..Principal::new("bob", address) };
        let mut bob = fixture.session_of(reader);
        assert_eq!(locks(&bob, "d", false), [at("/d", 1)]);
        assert_eq!(code(lock(&mut bob, 7, "d", request(3, false))), ErrorCode::Denied);
        assert_eq!(code(lock(&mut eve, 8, "none", request(3, false))), ErrorCode::NotFound);
        let owner = "o".repeat(limits::LOCK_OWNER + 1);
        let long = LockRequest { owner, ..request(3, false) };
        assert_eq!(code(lock(&mut eve, 8, "f", long)), ErrorCode::Limit);
        lock(&mut eve, 8, "f", LockRequest { seconds: u32::MAX, ..request(3, false) }).unwrap();
        let found = eve.locks(&path("f"), false, &mut patient()).unwrap();
        let expires = found.iter().map(|found| found.lock.expires_ms).max().unwrap();
        assert_eq!(expires, 1 + 1000 * u64::from(limits::LOCK_SECONDS));
    });
    let log = fixture.log();
    let of = |command: &str| log.iter().filter(|line| line[0] == command).count();
    assert_eq!((of("lock"), of("unlock")), (6, 2));
}

#[test]
fn locks_expire_and_are_extended() {
    let fixture = Fixture::new();
    fixture.with_writer(|| {
        let mut ann = fixture.session("ann");
        make_folder(&mut ann, 1, "d");
        put(&mut ann, 2, "d/f", b"content");
        lock(&mut ann, 3, "d", request(1, true)).unwrap();
        fixture.state.now_ms.store(50_000, SeqCst);
        // The lock is found from a path below the locked one.
        let change = ann.refresh_lock(id(4), &path("d/f"), token(1), 100, &mut patient());
        commit(&mut ann, change).unwrap();
        fixture.state.now_ms.store(149_999, SeqCst);
        let found = ann.locks(&path("d"), false, &mut patient()).unwrap();
        assert_eq!((found.len(), found[0].lock.deep, &*found[0].lock.owner), (1, true, "<o/>"));
        fixture.state.now_ms.store(150_000, SeqCst);
        assert_eq!(locks(&ann, "d", true), []);
        let late = ann.refresh_lock(id(5), &path("d"), token(1), 100, &mut patient());
        assert_eq!(code(late), ErrorCode::Changed);
    });
}

#[test]
fn uploads_to_locked_paths_are_refused_before_their_content() {
    let fixture = Fixture::new();
    fixture.with_writer(|| {
        let (mut ann, mut eve) = (fixture.session("ann"), fixture.session("eve"));
        make_folder(&mut ann, 1, "d");
        put(&mut ann, 2, "f", b"content");
        lock(&mut ann, 3, "f", request(1, false)).unwrap();
        lock(&mut ann, 4, "d", request(2, false)).unwrap();
        make_folder(&mut ann, 5, "e");
        put(&mut ann, 6, "e/f", b"content");
        lock(&mut ann, 7, "e", request(3, true)).unwrap();
        let begin = |session: &Session, at: &str, size| {
            let request = PutRequest { size, ..PutRequest::new(id(9), path(at)) };
            session.begin_upload(request, &mut patient()).map(|upload| upload.discard())
        };
        let paths = [("f", None), ("f", Some(1 << 20)), ("d/new", None), ("e/f", None)];
        for (at, size) in paths {
            assert_eq!(code(begin(&eve, at, size)), ErrorCode::Locked, "{at}");
            assert_eq!(code(begin(&ann, at, size)), ErrorCode::Locked, "{at}, without its token");
        }
        begin(&eve, "g", None).unwrap();
        eve.set_lock_tokens(vec![token(1)]).unwrap();
        assert_eq!(code(begin(&eve, "f", None)), ErrorCode::Locked, "the token of another account");
        ann.set_lock_tokens(vec![token(1), token(2)]).unwrap();
        begin(&ann, "f", None).unwrap();
        begin(&ann, "d/new", None).unwrap();
        let many = vec![token(1); limits::LOCK_TOKENS + 1];
        assert_eq!(code(ann.set_lock_tokens(many)), ErrorCode::Limit);
    });
}

#[test]
fn properties_are_set_listed_and_copied() {
    let fixture = Fixture::new();
    fixture.with_writer(|| {
        let mut ann = fixture.session("ann");
        make_folder(&mut ann, 1, "d");
        put(&mut ann, 2, "f", b"content");
        put(&mut ann, 3, "g", b"other");
        let value = "v".repeat(limits::PROPERTY_VALUE);
        set(&mut ann, 4, "f", vec![change("a", Some("1")), change("large", Some(&value))]).unwrap();
        set(&mut ann, 5, "f", vec![change("large2", Some(&value))]).unwrap();
        set(&mut ann, 6, "g", vec![change("b", Some("2"))]).unwrap();
        set(&mut ann, 7, "d", vec![change("c", Some("3"))]).unwrap();
        set(&mut ann, 8, "", vec![change("r", Some("0"))]).unwrap();
        assert_eq!(properties(&ann, ""), ["r=0"]);
        let of = ann.properties_of(&[path("g"), path("none"), path("f")], &mut patient()).unwrap();
        assert_eq!(of.iter().map(Vec::len).collect::<Vec<_>>(), [1, 0, 3]);
        let long = "v".repeat(limits::PROPERTY_VALUE + 1);
        let too_long = set(&mut ann, 9, "f", vec![change("a", Some(&long))]);
        assert_eq!(code(too_long), ErrorCode::Limit);
        assert_eq!(code(set(&mut ann, 9, "none", vec![change("a", None)])), ErrorCode::NotFound);
        // A copy has exactly the properties of its source, which need several changes.
        let request = CopyRequest {
            id: id(10),
            from: path("f"),
            to: path("g"),
            if_match: IfMatch::Any,
            expect: Expect::Any,
            copies: 0,
        };
        let Located::Here(copy) = ann.copy(request, &mut patient()).unwrap() else {
            panic!("the content is here")
        };
        let made = ann.commit(copy, &mut patient()).unwrap();
        assert!(made.digest.is_some() && made.lsn.number >= made.version.number + 2, "{made:?}");
        assert_eq!(properties(&ann, "g"), properties(&ann, "f"));
        assert_eq!(properties(&ann, "g").len(), 3);
        // So has the copy of a folder.
        make_folder(&mut ann, 11, "e");
        let change = ann.copy_properties(id(12), &path("d"), &path("e"), &mut patient()).unwrap();
        commit(&mut ann, Ok(change.unwrap())).unwrap();
        assert_eq!(properties(&ann, "e"), ["c=3"]);
        let change = ann.copy_properties(id(13), &path("d"), &path("e"), &mut patient()).unwrap();
        assert!(change.is_none(), "they are equal");
    });
}

fn sha256_of(session: &Session, at: &str) -> ContentHashes {
    match session.sha256(&path(at), &mut patient()).unwrap() {
        Located::Here(hashes) => hashes,
        Located::Elsewhere(holders) => panic!("{holders:?}"),
    }
}

#[test]
fn hashes_are_computed_once_and_stored() {
    let fixture = Fixture::new();
    fixture.with_writer(|| {
        let mut ann = fixture.session("ann");
        let content: Vec<u8> = (0..700_000_u32).flat_map(u32::to_be_bytes).collect();
        put(&mut ann, 1, "f", &content);
        let before = fixture.state.applied.load(SeqCst);
        let found: Vec<ContentHashes> = std::thread::scope(|scope| {
            let hash = |_| scope.spawn(|| sha256_of(&fixture.session("eve"), "f"));
            let threads: Vec<_> = (0..8).map(hash).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let whole = digest(&SHA256, &content);
        assert!(found.iter().all(|hashes| hashes.sha256.0 == whole.as_ref()));
        assert!(found[0].fit(content.len() as u64) && found[0].pieces.len() == 3);
        assert_eq!(fixture.state.applied.load(SeqCst), before + 1, "one change records them");
        assert_eq!(sha256_of(&ann, "f"), found[0]);
        assert_eq!(fixture.state.applied.load(SeqCst), before + 1);
        // A master that has forgotten them gets them again.
        ann.record_sha256(&path("f"), &mut patient()).unwrap();
        assert_eq!(fixture.state.applied.load(SeqCst), before + 2);
        let Located::Here(open) = ann.open(&path("f"), IfMatch::Any, &mut patient()).unwrap()
        else {
            panic!("the content is here")
        };
        assert_eq!(open.known_sha256().unwrap().as_ref(), Some(&found[0]));
        let staging = fs::read_dir(fixture.root().join(".relais/staging")).unwrap();
        assert_eq!(staging.count(), 0, "nothing is left");
    });
}

#[test]
fn another_worker_may_hash_the_content_and_a_client_may_give_up() {
    let fixture = Fixture::new();
    fixture.with_writer(|| {
        let mut ann = fixture.session("ann");
        put(&mut ann, 1, "f", b"content");
        let version = ann.stat(&path("f"), &mut patient()).unwrap().entry.version.unwrap();
        let staging = Staging::open(&Folder::open(&fixture.root()).unwrap()).unwrap();
        let claimed = staging.claim(&StagedName::for_hashing(version)).unwrap();
        let mut impatient = Waiting::at_most(Duration::from_millis(100));
        let given_up = ann.sha256(&path("f"), &mut impatient);
        assert_eq!(code(given_up), ErrorCode::Cut);
        // The other worker dies. Its lock goes, and the computation that waited is the result.
        drop(claimed);
        let hashes = sha256_of(&ann, "f");
        assert_eq!(hashes.sha256.0, digest(&SHA256, b"content").as_ref());
    });
}

#[test]
fn damaged_content_gets_no_hashes() {
    let fixture = Fixture::new();
    let mut ann = fixture.session("ann");
    fixture.with_writer(|| put(&mut ann, 1, "f", b"content"));
    let file = fixture.root().join("f");
    fs::write(&file, b"damaged").unwrap();
    // The catalogue believes that the file is still the same.
    let store = CatalogStore::open(&fixture.own.folder).unwrap();
    let meta = Folder::open(&fixture.root()).unwrap().stat(&path("f")).unwrap();
    store.update_disk_meta(&path("f"), &meta).unwrap();
    assert_eq!(code(ann.sha256(&path("f"), &mut patient())), ErrorCode::Damaged);
}

#[test]
fn uploads_bring_their_hashes() {
    for (hashes_uploads, size) in [(true, Some(2_500_000)), (true, None), (false, None)] {
        let fixture = Fixture::with_sha256(hashes_uploads);
        let session = fixture.session("ann");
        let content: Vec<u8> = (0..625_000_u32).flat_map(u32::to_be_bytes).collect();
        // The second session resumes the upload, and hashes its first bytes again.
        let request = |offset| PutRequest { size, offset, ..PutRequest::new(id(1), path("f")) };
        let mut upload = session.begin_upload(request(0), &mut patient()).unwrap();
        upload.write(&content[..1_000_001]).unwrap();
        drop(upload);
        let mut upload = session.begin_upload(request(1_000_001), &mut patient()).unwrap();
        upload.write(&content[1_000_001..]).unwrap();
        let change = upload.finish(None, &mut patient()).unwrap();
        let mut submitting = fixture.session("ann");
        let end = fixture.take_proposal(&mut submitting, change);
        let hashes = end.hashes.filter(|hashes| hashes.fit(content.len() as u64));
        assert_eq!(hashes.is_some(), hashes_uploads);
        if let Some(hashes) = hashes {
            assert_eq!(hashes.sha256.0, digest(&SHA256, &content).as_ref());
            let last = digest(&SHA256, &content[2 * (1 << 20)..]);
            assert_eq!((hashes.pieces.len(), &hashes.pieces[2].0[..]), (3, last.as_ref()));
        }
    }
}
