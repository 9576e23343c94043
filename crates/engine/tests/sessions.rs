//! Sessions over a host in the same process: pending changes, freshness, uploads and their log.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking, in its helper functions too")]

mod host;

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use relais_engine::{CopyRequest, Located, MOST_PENDING, PreparedChange, Session, UploadProgress};
use relais_proto::{
    Change, ChangeId, Digest, ErrorCode, Expect, FileContent, FileTime, IfMatch, Kind, Lsn, Mode,
    PutRequest, TreeEntry, TreePath, WaitReason,
};
use relais_storage::CommitReceipt;
use relais_tree::Folder;

use self::host::{Fixture, ROOM, Waiting, WriterEnd};

fn path(text: &str) -> TreePath {
    TreePath::new(text).unwrap()
}

fn patient() -> Waiting {
    Waiting::at_most(Duration::from_secs(30))
}

/// Prepares to make the folder `d` with a number.
fn folder(session: &Session, n: usize) -> PreparedChange {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.to_be_bytes());
    session.make_folder(ChangeId(id), &path(&format!("d{n}")), &mut patient()).unwrap()
}

/// Returns the numbers of the folders that the writer has been asked to make.
fn numbers(end: &WriterEnd) -> Vec<usize> {
    let number = |change: &Change| match change {
        Change::MakeFolder { path, .. } => path.as_str()[1..].parse().unwrap(),
        other => panic!("{other:?}"),
    };
    end.take_all().iter().map(number).collect()
}

fn receipt(number: u64) -> CommitReceipt {
    CommitReceipt::new(Lsn { epoch: 1, number })
}

fn answers(session: &mut Session) -> Vec<u64> {
    std::iter::from_fn(|| session.answer(&mut patient()))
        .map(|answer| answer.unwrap().version.number)
        .collect()
}

/// Submits changes from `first` on until one has to wait; a writer greets on the channel.
fn submit(fixture: &Fixture, session: &mut Session, first: usize, most: usize) -> usize {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(300) {
                fixture.state.opened.lock().unwrap().iter().for_each(WriterEnd::greet);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let full = |n: &usize| {
            let change = folder(session, *n);
            session.submit(change, &mut patient()).unwrap().is_some()
        };
        (first..first + most).find(full).unwrap_or(first + most)
    })
}

fn last_end(fixture: &Fixture) -> WriterEnd {
    fixture.state.opened.lock().unwrap().pop().unwrap()
}

#[test]
fn successor_gets_unanswered_changes_in_order() {
    let fixture = Fixture::new();
    let mut session = fixture.session("ann");
    assert!(!session.has_pending());
    assert_eq!(submit(&fixture, &mut session, 1, 5), 6);
    let writer = last_end(&fixture);
    assert_eq!(numbers(&writer), [1, 2, 3, 4, 5]);
    for number in [11, 12] {
        writer.answer(Ok(receipt(number)));
    }
    assert_eq!(answers(&mut session), [11, 12]);
    drop(writer);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while fixture.state.opened.lock().unwrap().is_empty() {
                std::thread::sleep(Duration::from_millis(1));
            }
            fixture.state.opened.lock().unwrap()[0].greet();
        });
        assert_eq!(answers(&mut session), [0_u64; 0]);
    });
    let writer = last_end(&fixture);
    assert_eq!(numbers(&writer), [3, 4, 5]);
    for number in [13, 14, 15] {
        writer.answer(Ok(receipt(number)));
    }
    assert!(session.has_pending());
    assert_eq!(answers(&mut session), [13, 14, 15]);
    assert!(!session.has_pending());
    // The writer dies while no change is pending.
    drop(writer);
    assert_eq!(submit(&fixture, &mut session, 6, 1), 7);
    assert_eq!(numbers(&last_end(&fixture)), [6]);
    drop(session);
    let log = fixture.log();
    assert_eq!(log.len(), 6);
    assert!(log[..5].iter().all(|[command, _, result]| (&**command, &**result) == ("mkdir", "ok")));
    assert_eq!(log[5], ["mkdir", "/d6", "cut"]);
}

#[test]
fn pending_changes_are_limited() {
    let fixture = Fixture::new();
    let mut session = fixture.session("ann");
    // The channel is full first, then the session.
    let mut next = submit(&fixture, &mut session, 0, 1000);
    assert_eq!(next, ROOM);
    let writer = last_end(&fixture);
    for _ in 0..10 {
        writer.take_all();
        next = submit(&fixture, &mut session, next, 1000);
    }
    assert_eq!(next, MOST_PENDING);
}

#[test]
fn change_waits_for_a_writer() {
    let fixture = Fixture::new();
    let mut session = fixture.session("ann");
    let began = Instant::now();
    let change = folder(&session, 1);
    let Err(refused) = session.submit(change, &mut patient()) else { panic!("there is no writer") };
    assert_eq!(refused.code, ErrorCode::NoChanges);
    assert!((5..10).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    // While the folder is being scanned the change keeps waiting, until its client goes.
    let _store = relais_storage::CatalogStore::open(&fixture.own.folder).unwrap();
    let lock = fixture.root().join(".relais/lock");
    fs::write(lock, "token").unwrap();
    let mut waiting = Waiting::at_most(Duration::from_millis(6000));
    let change = folder(&session, 1);
    let Err(refused) = session.submit(change, &mut waiting) else { panic!("there is no writer") };
    assert_eq!((refused.code, &waiting.reasons[..]), (ErrorCode::Cut, &[WaitReason::Scanning][..]));
    fixture.engine.begin_stop();
    let change = folder(&session, 1);
    let Err(refused) = session.submit(change, &mut patient()) else { panic!("it stops") };
    assert_eq!(refused.code, ErrorCode::Draining);
    assert!(!session.has_pending());
}

#[test]
fn commands_wait_for_changes_that_the_user_has_seen() {
    let fixture = Fixture::new();
    fixture.complete_catalogue();
    let mut session = fixture.session("ann");
    session.observe(Lsn { epoch: 1, number: 9 });
    session.observe(Lsn { epoch: 1, number: 3 });
    let mut waiting = Waiting::at_most(Duration::from_millis(50));
    let root = TreePath::root();
    assert_eq!(session.stat(&root, &mut waiting).unwrap_err().code, ErrorCode::Cut);
    assert_eq!(waiting.reasons, [WaitReason::CatchingUp]);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(30));
            fixture.state.applied.store(9, SeqCst);
        });
        let details = session.stat(&root, &mut patient()).unwrap();
        assert!(details.lsn.number >= 9 && details.entry.name.is_empty());
    });
}

#[test]
fn uploads_resume_in_another_session() {
    let fixture = Fixture::new();
    fixture.with_writer(|| {
        let (first, mut second) = (fixture.session("ann"), fixture.session("ann"));
        let id = ChangeId([7; 16]);
        let request =
            |offset| PutRequest { size: Some(6), offset, ..PutRequest::new(id, path("f")) };
        let mut upload = first.begin_upload(request(0), &mut patient()).unwrap();
        upload.write(b"abc").unwrap();
        drop(upload);
        let progress = second.find_upload(id, &path("f"), 6, &mut patient()).unwrap();
        assert!(matches!(progress, UploadProgress::Staged { offset: 3, .. }), "{progress:?}");
        let mut upload = second.begin_upload(request(3), &mut patient()).unwrap();
        upload.write(b"def").unwrap();
        let digest = Digest(blake3::hash(b"abcdef").into());
        let change = upload.finish(Some(digest), &mut patient()).unwrap();
        let made = second.commit(change, &mut patient()).unwrap();
        assert_eq!((made.digest, made.is_current), (Some(digest), true));
        assert_eq!(fs::read(fixture.root().join("f")).unwrap(), b"abcdef");
        // A repeated put is the same change. The catalogue writer decides when it is answered.
        let progress = second.find_upload(id, &path("f"), 6, &mut patient()).unwrap();
        assert!(matches!(progress, UploadProgress::Staged { offset: 6, .. }), "{progress:?}");
        let upload = second.begin_upload(request(6), &mut patient()).unwrap();
        let change = upload.finish(Some(digest), &mut patient()).unwrap();
        assert_eq!(second.commit(change, &mut patient()).unwrap().version, made.version);
        // There is nothing to wait for once the file has other content.
        let other = PutRequest::new(ChangeId([8; 16]), path("f"));
        let change = second.begin_upload(other, &mut patient()).unwrap();
        let change = change.finish(None, &mut patient()).unwrap();
        second.commit(change, &mut patient()).unwrap();
        let progress = first.find_upload(id, &path("f"), 6, &mut patient()).unwrap();
        let UploadProgress::Committed(again) = progress else { panic!("{progress:?}") };
        assert_eq!((again.version, again.is_current), (made.version, false));
    });
    let results = fixture.log().map_results();
    assert_eq!(results, ["cut", "ok", "ok", "ok"]);
}

#[test]
fn damaged_and_discarded_uploads_leave_nothing() {
    let fixture = Fixture::new();
    fixture.with_writer(|| {
        let session = fixture.session("ann");
        let begin = |n| {
            let request = PutRequest::new(ChangeId([n; 16]), path("f"));
            let mut upload = session.begin_upload(request, &mut patient()).unwrap();
            upload.write(b"abc").unwrap();
            upload
        };
        let Err(refused) = begin(1).finish(Some(Digest([0; 32])), &mut patient()) else {
            panic!("another digest")
        };
        assert_eq!(refused.code, ErrorCode::Damaged);
        begin(2).discard();
        let staging = fixture.root().join(".relais/staging");
        assert_eq!(fs::read_dir(&staging).unwrap().count(), 0);
        // An upload that is dropped stays.
        drop(begin(3));
        assert_eq!(fs::read_dir(&staging).unwrap().count(), 1);
    });
    assert_eq!(fixture.log().map_results(), ["damaged", "cut", "cut"], "each upload has one line");
}

trait Results {
    fn map_results(self) -> Vec<String>;
}

impl Results for Vec<[String; 3]> {
    fn map_results(self) -> Vec<String> {
        self.into_iter().map(|[_, _, result]| result).collect()
    }
}

#[test]
fn content_is_read_in_any_range_and_checked_at_its_end() {
    let fixture = Fixture::new();
    fixture.with_writer(|| {
        let mut session = fixture.session("ann");
        let request = PutRequest::new(ChangeId([1; 16]), path("f"));
        let mut upload = session.begin_upload(request, &mut patient()).unwrap();
        upload.write(b"0123456789").unwrap();
        let change = upload.finish(None, &mut patient()).unwrap();
        session.commit(change, &mut patient()).unwrap();
        let open = || match session.open(&path("f"), IfMatch::Any, &mut patient()).unwrap() {
            Located::Here(content) => content,
            Located::Elsewhere(holders) => panic!("{holders:?}"),
        };
        let mut content = open();
        assert_eq!((content.size(), content.range(4, 3).unwrap()), (10, 3));
        assert_eq!(content.range(8, u64::MAX).unwrap(), 2);
        let mut some = [0; 3];
        content.file().read_exact_at(&mut some, 4).unwrap();
        content.add_sent(3);
        assert_eq!(&some, b"456");
        let digest = Digest(blake3::hash(b"0123456789").into());
        assert_eq!(content.digest(&mut patient()).unwrap(), digest);
        content.finish().unwrap();
        assert_eq!(open().range(11, 1).unwrap_err().code, ErrorCode::BadOffset);
        // Another program writes the file while it is sent.
        drop(open());
        let content = open();
        fs::write(fixture.root().join("f"), "other").unwrap();
        assert_eq!(content.finish().unwrap_err().code, ErrorCode::Changed);
    });
    assert_eq!(fixture.log().map_results(), ["ok", "ok", "bad-offset", "cut", "changed"]);
    let host = &fixture.state;
    let counted = |counter: &AtomicU64| counter.load(SeqCst);
    // Ten bytes were put, and three were sent; one range began above 0 and lasted to the end.
    assert_eq!((counted(&host.transferred), counted(&host.resumes)), (13, 1));
    assert_eq!(counted(&host.transfers), 0);
}

#[test]
fn copies_have_the_content_time_and_mode_of_the_file() {
    let fixture = Fixture::new();
    fixture.with_writer(|| {
        let mut session = fixture.session("ann");
        let content: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_be_bytes).collect();
        let mut request = PutRequest::new(ChangeId([1; 16]), path("f"));
        request.mtime = Some(FileTime { seconds: 77, nanos: 0 });
        request.mode = Some(Mode::new(0o600));
        let mut upload = session.begin_upload(request, &mut patient()).unwrap();
        upload.write(&content).unwrap();
        let change = upload.finish(None, &mut patient()).unwrap();
        session.commit(change, &mut patient()).unwrap();
        let copy = |if_match| CopyRequest {
            id: ChangeId([2; 16]),
            from: path("f"),
            to: path("g"),
            if_match,
            expect: Expect::Absent,
            copies: 0,
        };
        let other = session.copy(copy(IfMatch::Digest(Digest([9; 32]))), &mut patient());
        assert_eq!(other.err().unwrap().code, ErrorCode::Changed);
        let digest = Digest(blake3::hash(&content).into());
        let made = session.copy(copy(IfMatch::Digest(digest)), &mut patient()).unwrap();
        let Located::Here(change) = made else { panic!("the content is here") };
        let made = session.commit(change, &mut patient()).unwrap();
        assert_eq!(made.digest, Some(digest));
        assert!(fs::read(fixture.root().join("g")).unwrap() == content);
        let (f, g) =
            (fs::metadata(fixture.root().join("f")), fs::metadata(fixture.root().join("g")));
        let (f, g) = (f.unwrap(), g.unwrap());
        assert_eq!((f.mtime(), f.mode() & 0o777), (77, 0o600));
        assert_eq!((g.mtime(), g.mode() & 0o777), (77, 0o600));
        assert_ne!(f.ino(), g.ino());
        let missing =
            session.copy(CopyRequest { from: path("none"), ..copy(IfMatch::Any) }, &mut patient());
        assert_eq!(missing.err().unwrap().code, ErrorCode::NotFound);
    });
    let log = fixture.log();
    assert_eq!(
        log[1..],
        [["cp", "/f", "changed"], ["cp", "/f", "ok"], ["cp", "/none", "not-found"]]
    );
}

/// Puts a file of 7 bytes.
fn put_content(session: &mut Session, name: &str) {
    let request = PutRequest::new(ChangeId([1; 16]), path(name));
    let mut upload = session.begin_upload(request, &mut patient()).unwrap();
    upload.write(b"content").unwrap();
    let change = upload.finish(None, &mut patient()).unwrap();
    session.commit(change, &mut patient()).unwrap();
}

#[test]
fn a_damaged_file_is_not_copied() {
    let fixture = Fixture::new();
    let mut session = fixture.session("ann");
    fixture.with_writer(|| put_content(&mut session, "f"));
    // The disk has other bytes than those that the digest names.
    let meta = &Folder::open(&fixture.root()).unwrap().stat(&path("f")).unwrap();
    let version = Lsn { epoch: 1, number: 1 };
    let (size, mtime, digest) = (7, meta.mtime, Digest([5; 32]));
    let content = Some(FileContent { put: version, digest, size, mtime });
    let entry = TreeEntry { version, mode: meta.mode, content };
    fixture.complete_catalogue().put_entry(&path("f"), &entry, Some(meta), &[]).unwrap();
    let request = CopyRequest {
        id: ChangeId([2; 16]),
        from: path("f"),
        to: path("g"),
        if_match: IfMatch::Any,
        expect: Expect::Any,
        copies: 0,
    };
    let damaged = session.copy(request, &mut patient());
    assert_eq!(damaged.err().unwrap().code, ErrorCode::Damaged);
    let staging = fixture.root().join(".relais/staging");
    assert_eq!(fs::read_dir(staging).unwrap().count(), 0, "nothing stays staged");
}

#[test]
fn each_of_several_paths_has_its_own_answer() {
    let fixture = Fixture::new();
    fixture.with_writer(|| {
        let mut session = fixture.session("ann");
        put_content(&mut session, "f");
        let paths = [path("f"), path("none"), TreePath::root()];
        let list = session.stat_many(&paths, &mut patient()).unwrap();
        let [Ok((file, digest)), Err(refusal), Ok((root, None))] = list.results.as_slice() else {
            panic!("{list:?}")
        };
        assert_eq!((file.name.as_str(), file.size), ("f", 7));
        assert_eq!(*digest, Some(Digest(blake3::hash(b"content").into())));
        assert_eq!(refusal.code, ErrorCode::NotFound);
        assert_eq!((root.name.as_str(), root.kind), ("", Kind::Folder));
    });
}
