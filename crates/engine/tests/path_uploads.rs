//! Uploads by path: cut, continued, appended, and never joined to other content.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking, in its helper functions too")]

mod host;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use relais_cluster::{Entry, FileContent};
use relais_engine::{
    Committed, Located, PathUpload, PendingUpload, Principal, Protocol, Session, Upload,
    UploadStart,
};
use relais_os::SplicePipe;
use relais_proto::{Digest, ErrorCode, FileTime, IfMatch, Lsn, Mode, Refusal, TreePath};

use self::host::{Fixture, Waiting};

fn path(text: &str) -> TreePath {
    TreePath::new(text).unwrap()
}

fn patient() -> Waiting {
    Waiting::at_most(Duration::from_secs(30))
}

fn begin(session: &Session, start: UploadStart) -> Result<Upload, Refusal> {
    match session.begin_path_upload(&path("f"), start, None, &mut patient())? {
        PathUpload::Ready(upload) => Ok(upload),
        PathUpload::NeedsPrefix { .. } => panic!("the content is here"),
    }
}

fn commit(session: &mut Session, upload: Upload) -> Result<Committed, Refusal> {
    let change = upload.finish(None, &mut patient())?;
    session.commit(change, &mut patient())
}

/// Uploads `text` to `f`.
fn put(session: &mut Session, start: UploadStart, text: &str) -> Result<Committed, Refusal> {
    let mut upload = begin(session, start)?;
    upload.write(text.as_bytes())?;
    commit(session, upload)
}

/// Begins to upload `text` to `f`, and is cut.
fn cut(session: &Session, start: UploadStart, text: &str) {
    let mut upload = begin(session, start).unwrap();
    upload.write(text.as_bytes()).unwrap();
}

fn pending(session: &Session) -> PendingUpload {
    session.pending_upload(&path("f"), &mut patient()).unwrap()
}

fn code<T>(result: Result<T, Refusal>) -> ErrorCode {
    result.err().unwrap().code
}

impl Fixture {
    fn text(&self) -> String {
        fs::read_to_string(self.root().join("f")).unwrap()
    }

    /// Returns the names of the staged files.
    fn staged(&self) -> Vec<String> {
        let names = fs::read_dir(self.root().join(".relais/staging")).unwrap();
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

#[test]
fn repeated_uploads_are_new_changes_of_any_size() {
    let fixture = Fixture::new();
    fixture.with_writer(|| {
        let mut session = fixture.session("ann");
        let first = put(&mut session, UploadStart::New, "same").unwrap();
        let second = put(&mut session, UploadStart::New, "same").unwrap();
        assert!(second.version > first.version && fixture.text() == "same");
        put(&mut session, UploadStart::New, "").unwrap();
        assert_eq!(fixture.text(), "");
        put(&mut session, UploadStart::Append, "more").unwrap();
        assert_eq!((fixture.text().as_str(), fixture.staged()), ("more", Vec::new()));
        assert_eq!(fixture.engine.host().uploads().usage().number, 0);
    });
    assert!(fixture.log().iter().all(|line| *line == ["put", "/f", "ok"]));
}

#[test]
fn cut_upload_is_continued_while_the_old_file_is_shown() {
    let fixture = Fixture::new();
    fixture.with_writer(|| {
        let mut session = fixture.session("ann");
        put(&mut session, UploadStart::New, "old").unwrap();
        cut(&session, UploadStart::New, "0123456789");
        assert_eq!(fixture.engine.host().uploads().usage().bytes, 10);
        let mut later = fixture.session("ann");
        assert_eq!(pending(&later), PendingUpload::Here(10));
        assert_eq!(later.stat(&path("f"), &mut patient()).unwrap().entry.size, 3);
        let opened = later.open(&path("f"), IfMatch::Any, &mut patient()).unwrap();
        let Located::Here(content) = opened else { panic!("the old content is here") };
        assert_eq!(content.size(), 3);
        assert_eq!(code(begin(&later, UploadStart::At(11))), ErrorCode::BadOffset);
        assert_eq!(pending(&later), PendingUpload::Here(10), "a bad offset discards nothing");
        cut(&later, UploadStart::At(7), "xyz");
        cut(&later, UploadStart::Append, "!");
        assert_eq!(pending(&session), PendingUpload::Here(11));
        put(&mut later, UploadStart::Append, "?").unwrap();
        assert_eq!(fixture.text(), "0123456xyz!?");
        assert_eq!((pending(&session), fixture.staged()), (PendingUpload::None, Vec::new()));
        assert_eq!(fixture.engine.host().uploads().usage().number, 0);
    });
}

/// Writes `bytes` through a pipe.
fn write_from_pipe(upload: &mut Upload, bytes: &[u8]) {
    let mut pipe = SplicePipe::new().unwrap();
    for piece in bytes.chunks(60_000) {
        pipe.fill(|writer, _| Ok(rustix::io::write(writer, piece)?)).unwrap();
        upload.write_from(&mut pipe).unwrap();
    }
}

#[test]
fn large_upload_is_cut_continued_and_hashed() {
    let fixture = Fixture::new();
    fixture.with_writer(|| {
        let mut session = fixture.session("ann");
        let bytes: Vec<u8> = (0..5_000_003_u32).map(|at| (at % 251) as u8).collect();
        let mut upload = begin(&session, UploadStart::New).unwrap();
        upload.write(&bytes[..1_500_000]).unwrap();
        assert!(upload.is_large());
        write_from_pipe(&mut upload, &bytes[1_500_000..2_600_001]);
        drop(upload);
        // The staged file is unlocked at once, although a thread has hashed it.
        assert_eq!(pending(&session), PendingUpload::Here(2_600_001));
        let mut upload = begin(&session, UploadStart::At(2_600_001)).unwrap();
        upload.write(&bytes[2_600_001..3_900_000]).unwrap();
        write_from_pipe(&mut upload, &bytes[3_900_000..]);
        let committed = commit(&mut session, upload).unwrap();
        assert_eq!(committed.digest, Some(Digest(blake3::hash(&bytes).into())));
        assert!(fs::read(fixture.root().join("f")).unwrap() == bytes);

        // Appended to, discarded in the middle, and then replaced.
        let mut upload = begin(&session, UploadStart::Append).unwrap();
        write_from_pipe(&mut upload, &bytes[..3_000_000]);
        upload.discard();
        assert_eq!(pending(&session), PendingUpload::None);
        let mut upload = begin(&session, UploadStart::Append).unwrap();
        write_from_pipe(&mut upload, &bytes[..1_100_000]);
        let committed = commit(&mut session, upload).unwrap();
        let all = [&bytes, &bytes[..1_100_000]].concat();
        assert_eq!(committed.digest, Some(Digest(blake3::hash(&all).into())));
        assert!(fs::read(fixture.root().join("f")).unwrap() == all);
    });
}

#[test]
fn new_and_discarded_uploads_drop_what_was_cut() {
    let fixture = Fixture::new();
    fixture.with_writer(|| {
        let mut session = fixture.session("ann");
        for start in [UploadStart::New, UploadStart::At(0)] {
            cut(&session, UploadStart::New, "0123456789");
            put(&mut session, start, "new").unwrap();
            assert_eq!((fixture.text().as_str(), pending(&session)), ("new", PendingUpload::None));
        }
        cut(&session, UploadStart::New, "0123456789");
        begin(&session, UploadStart::Append).unwrap().discard();
        assert_eq!(pending(&session), PendingUpload::None);
        // Nothing of the client has come.
        for start in [UploadStart::New, UploadStart::Append, UploadStart::At(2)] {
            drop(begin(&session, start).unwrap());
            assert_eq!((pending(&session), fixture.staged()), (PendingUpload::None, Vec::new()));
        }
        assert_eq!(fixture.engine.host().uploads().usage().number, 0);
    });
}

#[test]
fn present_content_is_a_prefix_that_is_not_sent_again() {
    let fixture = Fixture::new();
    fixture.with_writer(|| {
        let mut session = fixture.session("ann");
        let text = "0123456789".repeat(300_000);
        put(&mut session, UploadStart::New, &text).unwrap();
        let made = put(&mut session, UploadStart::Append, "end").unwrap();
        assert_eq!(fixture.text(), text.clone() + "end");
        assert_eq!(made.digest.unwrap().0, *blake3::hash((text + "end").as_bytes()).as_bytes());
        put(&mut session, UploadStart::At(4), "rest").unwrap();
        assert_eq!(fixture.text(), "0123rest");
        put(&mut session, UploadStart::At(8), "").unwrap();
        assert_eq!(fixture.text(), "0123rest");
        assert_eq!(code(begin(&session, UploadStart::At(9))), ErrorCode::BadOffset);
        session.begin_path_upload(&path("g"), UploadStart::At(1), None, &mut patient()).err();
        assert_eq!(fixture.staged(), [""; 0], "refused uploads leave nothing");
    });
}

#[test]
fn concurrent_change_is_a_conflict_and_never_a_mixture() {
    let fixture = Fixture::new();
    fixture.with_writer(|| {
        let (mut ann, mut bob) = (fixture.session("ann"), fixture.session("bob"));
        for start in [UploadStart::Append, UploadStart::At(3)] {
            put(&mut bob, UploadStart::New, "old").unwrap();
            let mut upload = begin(&ann, start).unwrap();
            upload.write(b" and more").unwrap();
            put(&mut bob, UploadStart::New, "other").unwrap();
            assert_eq!(code(commit(&mut ann, upload)), ErrorCode::Conflict);
            assert_eq!((fixture.text().as_str(), fixture.staged()), ("other", Vec::new()));
        }
        // The version is known after a cut too.
        cut(&ann, UploadStart::Append, " and more");
        put(&mut bob, UploadStart::New, "third").unwrap();
        assert_eq!(pending(&ann), PendingUpload::Here(14));
        assert_eq!(code(put(&mut ann, UploadStart::Append, "!")), ErrorCode::Conflict);
        assert_eq!((fixture.text().as_str(), pending(&ann)), ("third", PendingUpload::None));
        put(&mut ann, UploadStart::Append, "!").unwrap();
        assert_eq!(fixture.text(), "third!");
        // A file that was not there must still not be there.
        let begun = |session: &Session| {
            let append = UploadStart::Append;
            let begun = session.begin_path_upload(&path("g"), append, None, &mut patient());
            let PathUpload::Ready(mut upload) = begun.unwrap() else { panic!("there is no file") };
            upload.write(b"first").unwrap();
            upload
        };
        let (first, second) = (begun(&ann), begun(&bob));
        commit(&mut bob, second).unwrap();
        assert_eq!(code(commit(&mut ann, first)), ErrorCode::Conflict);
    });
}

#[test]
fn change_after_the_size_was_asked_is_refused() {
    let fixture = Fixture::new();
    fixture.with_writer(|| {
        let (mut ann, mut bob) = (fixture.session("ann"), fixture.session("bob"));
        put(&mut bob, UploadStart::New, "old").unwrap();
        assert_eq!(pending(&ann), PendingUpload::None);
        put(&mut bob, UploadStart::New, "other").unwrap();
        assert_eq!(code(begin(&ann, UploadStart::Append)), ErrorCode::Changed);
        assert_eq!(pending(&ann), PendingUpload::None);
        // Another session of the same user is cut in between.
        cut(&fixture.session("ann"), UploadStart::New, "0123456789");
        assert_eq!(code(begin(&ann, UploadStart::At(3))), ErrorCode::Changed);
        assert_eq!(pending(&ann), PendingUpload::Here(10));
        put(&mut ann, UploadStart::Append, "!").unwrap();
        assert_eq!(fixture.text(), "0123456789!");
    });
}

#[test]
fn half_copied_prefix_is_no_cut_upload() {
    let fixture = Fixture::new();
    fixture.with_writer(|| {
        let mut session = fixture.session("ann");
        put(&mut session, UploadStart::New, "0123456789").unwrap();
        cut(&session, UploadStart::Append, "more");
        // The process was killed while it copied.
        let staging = fixture.root().join(".relais/staging");
        let part = fixture.staged().into_iter().find(|name| !name.ends_with(".base")).unwrap();
        fs::OpenOptions::new().write(true).open(staging.join(&part)).unwrap().set_len(5).unwrap();
        assert_eq!((pending(&session), fixture.staged()), (PendingUpload::None, Vec::new()));
        // A cut before the end of the prefix keeps the part of the client.
        cut(&session, UploadStart::Append, "more");
        cut(&session, UploadStart::At(4), "xy");
        assert_eq!(pending(&session), PendingUpload::Here(6));
        put(&mut session, UploadStart::Append, "z").unwrap();
        assert_eq!(fixture.text(), "0123xyz");
    });
}

#[test]
fn newer_session_ends_the_older_one_of_the_same_key() {
    let fixture = Fixture::new();
    fixture.with_writer(|| {
        let ended = Arc::new(AtomicU32::new(0));
        let address = "192.0.2.1:5".parse().unwrap();
        let counter = ended.clone();
        let disconnect = Arc::new(move || {
            counter.fetch_add(1, SeqCst);
        });
        let principal = Principal::new("ann", std::net::IpAddr::from([192, 0, 2, 1]));
        let older =
            Session::new(fixture.engine.clone(), principal, Protocol::Ftp, address, disconnect);
        let mut newer = fixture.session("ann");
        for round in 1..=2 {
            let mut upload = begin(&older, UploadStart::New).unwrap();
            upload.write(b"012").unwrap();
            std::thread::scope(|scope| {
                let ended = ended.clone();
                scope.spawn(move || {
                    while ended.load(SeqCst) < round {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    upload.write(b"345").unwrap();
                    drop(upload);
                });
                if round == 1 {
                    assert_eq!(pending(&newer), PendingUpload::Here(6), "its last bytes count");
                } else {
                    put(&mut newer, UploadStart::Append, "6").unwrap();
                    assert_eq!(fixture.text(), "0123456");
                }
            });
        }
    });
}

#[test]
fn complete_upload_that_is_not_handed_in_stays_pending() {
    let fixture = Fixture::new();
    fixture.with_writer(|| {
        let (mut ann, mut bob) = (fixture.session("ann"), fixture.session("bob"));
        put(&mut bob, UploadStart::New, "old").unwrap();
        let finish = |session: &Session, start| {
            let mut upload = begin(session, start).unwrap();
            upload.write(b"+").unwrap();
            upload.finish(None, &mut patient()).unwrap()
        };
        let (first, second) = (finish(&ann, UploadStart::Append), finish(&ann, UploadStart::New));
        ann.keep_upload(first);
        assert_eq!(pending(&ann), PendingUpload::Here(4));
        assert_eq!(fixture.engine.host().uploads().usage().number, 2);
        // The older one is pending already.
        ann.keep_upload(second);
        assert_eq!(fixture.engine.host().uploads().usage().number, 1);
        put(&mut bob, UploadStart::New, "new").unwrap();
        assert_eq!(code(put(&mut ann, UploadStart::Append, "!")), ErrorCode::Conflict);
        let change = finish(&ann, UploadStart::New);
        ann.keep_upload(change);
        put(&mut ann, UploadStart::Append, "!").unwrap();
        assert_eq!((fixture.text().as_str(), fixture.staged()), ("+!", Vec::new()));
    });
    let log = fixture.log();
    assert_eq!(log.iter().filter(|[.., result]| result == "cut").count(), 3, "{log:?}");
}

#[test]
fn uploads_belong_to_their_user_and_address() {
    let fixture = Fixture::new();
    fixture.with_writer(|| {
        let at = |user: &str, address: [u8; 4]| {
            let principal = Principal::new(user, address.into());
            let address = (std::net::IpAddr::from(address), 5).into();
            Session::new(fixture.engine.clone(), principal, Protocol::Ftp, address, Arc::new(|| {}))
        };
        for (user, is_shared) in [("ann", false), ("", true), ("anonymous", true)] {
            cut(&at(user, [192, 0, 2, 1]), UploadStart::New, "part");
            assert_eq!(pending(&at(user, [192, 0, 2, 1])), PendingUpload::Here(4));
            let elsewhere = pending(&at(user, [192, 0, 2, 2]));
            assert_eq!(elsewhere == PendingUpload::None, is_shared, "{user}");
        }
        assert_eq!(pending(&fixture.session("bob")), PendingUpload::None);
        let mut reader = Principal::new("ann", std::net::IpAddr::from([192, 0, 2, 1]));
        reader.rights = relais_auth::Rights::Read;
        let reader = fixture.session_of(reader);
        assert_eq!(pending(&reader), PendingUpload::None);
        assert_eq!(code(begin(&reader, UploadStart::New)), ErrorCode::Denied);
    });
}

#[test]
fn space_and_limits_are_checked_before_the_first_byte() {
    let fixture = Fixture::new();
    fixture.with_writer(|| {
        let session = fixture.session("ann");
        let announce = |size| {
            let (path, start) = (path("f"), UploadStart::New);
            session.begin_path_upload(&path, start, Some(size), &mut patient()).map(drop)
        };
        announce(5).unwrap();
        assert_eq!(code(announce(u64::MAX / 2)), ErrorCode::NoSpace);
        assert_eq!(fixture.staged(), [""; 0]);
        // All rows of the account are of uploads that are being sent.
        let begin_at = |name: &str| {
            let (path, start) = (path(name), UploadStart::New);
            session.begin_path_upload(&path, start, None, &mut patient())
        };
        let sent: Vec<_> = (0..50).map(|n| begin_at(&format!("f{n}")).unwrap()).collect();
        assert_eq!(code(begin_at("f50")), ErrorCode::Busy);
        assert_eq!(fixture.staged().len(), 50);
        drop(sent);
        std::thread::sleep(Duration::from_millis(200));
        drop(begin_at("f50").unwrap());
    });
}

#[test]
fn folders_and_the_root_take_no_upload() {
    let fixture = Fixture::new();
    fixture.with_writer(|| {
        let session = fixture.session("ann");
        let root = TreePath::root();
        assert_eq!(session.pending_upload(&root, &mut patient()).unwrap(), PendingUpload::None);
        let begun = session.begin_path_upload(&root, UploadStart::New, None, &mut patient());
        assert_eq!(code(begun), ErrorCode::IsFolder);
        let below =
            session.begin_path_upload(&path("none/f"), UploadStart::New, None, &mut patient());
        assert_eq!(code(below), ErrorCode::NotFound);
        assert_eq!(fixture.staged(), [""; 0]);
    });
}

#[test]
fn prefix_of_another_slave_is_complete_or_nothing_is_kept() {
    let fixture = Fixture::new();
    let session = fixture.session("ann");
    let version = Lsn { epoch: 1, number: 1 };
    let digest = Digest(*blake3::hash(b"0123456789").as_bytes());
    let mtime = FileTime { seconds: 1, nanos: 0 };
    let content = FileContent { put: version, digest, size: 10, mtime };
    let entry = Entry { version, mode: Mode::new(0o644), content: Some(content) };
    fixture.complete_catalogue().put_entry(&path("f"), &entry, None, &[]).unwrap();
    let begin = |start| {
        let begun = session.begin_path_upload(&path("f"), start, None, &mut patient());
        let PathUpload::NeedsPrefix { upload, content } = begun.unwrap() else {
            panic!("it is here")
        };
        assert_eq!((content.version(), content.size()), (version, 10));
        upload
    };
    let mut upload = begin(UploadStart::Append);
    upload.write(b"01234").unwrap();
    drop(upload);
    assert_eq!((pending(&session), fixture.staged()), (PendingUpload::None, Vec::new()));
    let mut upload = begin(UploadStart::Append);
    upload.write(b"01234").unwrap();
    assert_eq!(code(upload.complete(&mut patient())), ErrorCode::Cut);
    let mut upload = begin(UploadStart::Append);
    upload.write(b"01234x6789").unwrap();
    assert_eq!(code(upload.complete(&mut patient())), ErrorCode::Damaged);
    let mut upload = begin(UploadStart::At(4));
    assert_eq!((upload.length(), code(upload.write(b"01234"))), (4, ErrorCode::BadRequest));
    drop(upload);
    assert_eq!(fixture.staged(), [""; 0]);
    let mut upload = begin(UploadStart::At(4));
    upload.write(b"0123").unwrap();
    let mut upload = upload.complete(&mut patient()).unwrap();
    upload.write(b"more").unwrap();
    drop(upload);
    assert_eq!(pending(&session), PendingUpload::Here(8));
}

#[test]
fn upload_that_was_cut_on_another_slave_only_starts_again() {
    let fixture = Fixture::new();
    fixture.with_writer(|| {
        let mut session = fixture.session("ann");
        put(&mut session, UploadStart::New, "old").unwrap();
        let elsewhere = |known| *fixture.state.elsewhere.lock().unwrap() = known;
        for (known, reported, refused) in [
            (Some(true), PendingUpload::Elsewhere, ErrorCode::Conflict),
            (None, PendingUpload::None, ErrorCode::NoChanges),
        ] {
            elsewhere(known);
            assert_eq!(pending(&session), reported);
            assert_eq!(code(begin(&session, UploadStart::Append)), refused);
            assert_eq!(code(begin(&session, UploadStart::At(2))), refused);
            assert_eq!(fixture.staged(), [""; 0]);
            put(&mut session, UploadStart::New, "new").unwrap();
            // What was cut here is known to be the newest.
            cut(&session, UploadStart::New, "cut");
            assert_eq!(pending(&session), PendingUpload::Here(3));
            put(&mut session, UploadStart::Append, "!").unwrap();
            assert_eq!(fixture.text(), "cut!");
        }
        assert!(fixture.state.changes.load(SeqCst) >= 8);
    });
}

#[test]
fn upload_that_has_just_ended_on_another_slave_is_not_cut() {
    let fixture = Fixture::new();
    fixture.with_writer(|| {
        let mut session = fixture.session("ann");
        put(&mut session, UploadStart::New, "old").unwrap();
        let elsewhere = |known| *fixture.state.elsewhere.lock().unwrap() = known;
        std::thread::scope(|scope| {
            elsewhere(Some(true));
            // Its end is reported a moment after its change.
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(200));
                elsewhere(Some(false));
            });
            assert_eq!(pending(&session), PendingUpload::None);
            elsewhere(Some(true));
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(200));
                elsewhere(Some(false));
            });
            put(&mut session, UploadStart::Append, "er").unwrap();
        });
        assert_eq!(fixture.text(), "older");
    });
}
