//! Tests of the catalogue writer and its readers on a real folder.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use relais_engine::{Owner, ProposalChannel};
use relais_os::{ProcessMailbox, Received};
use relais_proto::{
    Annotations, Change, ChangeId, ContentHashes, Digest, ErrorCode, LockRequest, LockToken, Lsn,
    PageBuilder, PropertyChange, PropertyName, Refusal, Sha256, TreePath, metric,
};
use relais_storage::{
    CatalogReader, CatalogStore, ListOutcome, Proposal, QUIET, ReplicaDriverConfig, SlaveIdentity,
    StartParameters, WatchMode, WriterLock,
};
use relais_tree::Folder;
use tempfile::TempDir;

use super::CatalogWriter;
use crate::changes::channel::SessionEnd;
use crate::hints::Hint;
use crate::replicator::local_coordinator::LocalCoordinator;
use crate::replicator::mailbox::LinkMailbox;
use crate::replicator::replica_connections::ReplicaConnections;
use crate::scoreboard::Scoreboard;

const ANY: StartParameters =
    StartParameters { standalone: false, requested_port: 0, bound_port: 40_000 };
/// Deadline of each wait; far longer than any step takes.
const DEADLINE: Duration = Duration::from_secs(30);

fn bad_name() -> std::ffi::OsString {
    std::os::unix::ffi::OsStringExt::from_vec(b"bad\xff".to_vec())
}

struct Fixture {
    dir: TempDir,
    own: SlaveIdentity,
    writer: Option<CatalogWriter>,
    hints: Arc<ProcessMailbox<Hint>>,
    coordinator: Option<LocalCoordinator>,
    reader: CatalogReader,
}

impl Fixture {
    /// Creates a folder that `prepare` fills before the writer starts.
    fn new(prepare: impl FnOnce(&Path)) -> Self {
        relais_storage::ignore_sigio().unwrap();
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        let own = SlaveIdentity::acquire(&Folder::open(dir.path()).unwrap(), ANY).unwrap();
        let reader = CatalogReader::new(&own.folder);
        let mut fixture = Self {
            dir,
            own,
            writer: None,
            hints: Arc::new(ProcessMailbox::new().unwrap()),
            coordinator: None,
            reader,
        };
        fixture.start();
        fixture
    }

    fn start(&mut self) {
        let root = Folder::open(self.dir.path()).unwrap();
        let own = &self.own.folder;
        let lock =
            WriterLock::try_acquire(own).unwrap().expect("no other process has the writer lock");
        let store = CatalogStore::open(own).unwrap();
        let (events, mailbox) = LinkMailbox::new().unwrap();
        let outgoing = mailbox.outgoing.clone();
        let scoreboard = Arc::new(Scoreboard::of(1, 1, 1));
        let config = ReplicaDriverConfig {
            slave: relais_proto::SlaveId([2; 16]),
            folder: self.own.folder_id,
            progress: scoreboard.progress.clone(),
            uploads: scoreboard.uploads.clone(),
            is_sole: true,
            watch: WatchMode::Add,
            writer_token: lock.new_token().unwrap(),
        };
        let (folder, slave) = (config.folder, config.slave);
        self.coordinator =
            Some(LocalCoordinator::start(own, folder, slave, &store, events, outgoing).unwrap());
        let connections = ReplicaConnections::new(own, scoreboard, mailbox, None).unwrap();
        let writer =
            CatalogWriter::start(root, lock, store, config, connections, self.hints.clone());
        self.writer = Some(writer.unwrap());
        self.wait("a complete catalogue", |fixture| {
            fixture.reader.ask(CatalogStore::is_complete).unwrap()
        });
    }

    fn stop(&mut self) {
        let began = Instant::now();
        drop((self.writer.take(), self.coordinator.take()));
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "the catalogue writer took {:?} to end",
            began.elapsed()
        );
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn names(&mut self, folder: &str) -> Vec<String> {
        let folder = TreePath::new(folder).unwrap();
        let (mut names, mut after) = (Vec::new(), String::new());
        loop {
            let mut page = PageBuilder::new();
            match self
                .reader
                .ask(|store| store.list(&folder, &after, None, &mut |entry| page.push(entry)))
                .unwrap()
            {
                ListOutcome::Page { last, more, .. } => {
                    names.extend(page.finish().iter().map(|entry| entry.name));
                    after = last;
                    if !more {
                        return names;
                    }
                }
                other => return vec![format!("{other:?}")],
            }
        }
    }

    /// Has the writer make a change of a session; returns its number.
    fn propose(&mut self, n: u8, change: Change) -> Result<Lsn, Refusal> {
        let channel = SessionEnd::open(&self.own.folder, &Owner::from_text("ann")).unwrap();
        self.wait("a greeting", |_| channel.read_greeting().unwrap() == Received::Message(()));
        assert!(channel.propose(&Proposal::new(ChangeId([n; 16]), change)).unwrap());
        channel.prepare_wait();
        let mut result = None;
        self.wait("a result", |_| {
            if let Received::Message(message) = channel.read_result().unwrap() {
                result = Some(message);
            }
            result.is_some()
        });
        result.unwrap().map(|receipt| receipt.version)
    }

    fn annotations(&mut self) -> Annotations {
        self.reader.ask(CatalogStore::annotations).unwrap()
    }

    fn digest(&mut self, name: &str) -> Option<Digest> {
        let path = TreePath::new(name).unwrap();
        let meta = Folder::open(self.dir.path()).unwrap().stat(&path).unwrap();
        let facts = self.reader.ask(|store| store.facts_of(&path, &meta)).unwrap();
        if facts.is_none() {
            self.hints.send(&Hint::Different(path)).unwrap();
        }
        facts.and_then(|facts| facts.digest)
    }

    fn wait(&mut self, what: &str, mut until: impl FnMut(&mut Self) -> bool) {
        let began = Instant::now();
        while !until(self) {
            assert!(began.elapsed() < DEADLINE, "no {what} after {DEADLINE:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn wait_for_names(&mut self, folder: &str, expected: &[&str]) {
        self.wait(&format!("{folder}: {expected:?}"), |fixture| fixture.names(folder) == expected);
    }

    fn wait_for_digest(&mut self, name: &str, content: &[u8]) {
        let expected = Digest(blake3::hash(content).into());
        self.wait(&format!("digest of {name}"), |fixture| fixture.digest(name) == Some(expected));
    }
}

#[test]
fn scan_finds_served_entries_and_counts_skipped_ones() {
    let mut fixture = Fixture::new(|dir| {
        fs::create_dir_all(dir.join("sub/deep")).unwrap();
        fs::write(dir.join("b"), "bb").unwrap();
        fs::write(dir.join("a"), "a").unwrap();
        fs::write(dir.join("sub/deep/c"), "ccc").unwrap();
        symlink("a", dir.join("link")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, dir.join("fifo"), rustix::fs::Mode::RUSR).unwrap();
        fs::write(dir.join(bad_name()), "x").unwrap();
        fs::write(dir.join("esc\u{1b}"), "x").unwrap();
    });
    fixture.wait_for_names("", &["a", "b", "sub"]);
    fixture.wait_for_names("sub/deep", &["c"]);
    assert_eq!(fixture.names("nothing"), ["NotFound"]);
    assert_eq!(fixture.names("a"), ["NotFolder"]);
    let metrics = fixture.reader.ask(CatalogStore::metrics).unwrap();
    assert_eq!(
        (metrics.get(metric::FILES), metrics.get(metric::FOLDERS), metrics.get(metric::BYTES)),
        (3, 2, 6)
    );
    assert_eq!(
        (
            metrics.get(metric::SKIPPED_LINKS),
            metrics.get(metric::SKIPPED_SPECIAL),
            metrics.get(metric::SKIPPED_NAMES)
        ),
        (1, 1, 2)
    );
    fixture.wait_for_digest("sub/deep/c", b"ccc");
    fixture.wait("all digests", |fixture| {
        fixture.reader.ask(CatalogStore::metrics).unwrap().get(metric::UNHASHED) == 0
    });

    fs::remove_file(fixture.path("link")).unwrap();
    fs::remove_file(fixture.dir.path().join(bad_name())).unwrap();
    fixture.wait("fewer skipped", |fixture| {
        fixture.reader.ask(CatalogStore::metrics).unwrap().skipped() == 2
    });
}

#[test]
fn scan_finds_changes_made_while_no_writer_ran() {
    let mut fixture = Fixture::new(|dir| {
        fs::create_dir(dir.join("gone")).unwrap();
        fs::write(dir.join("gone/x"), "x").unwrap();
        fs::write(dir.join("edited"), "old").unwrap();
        fs::write(dir.join("same"), "same").unwrap();
    });
    fixture.wait_for_names("", &["edited", "gone", "same"]);
    fixture.wait_for_digest("same", b"same");
    fixture.stop();
    fs::remove_dir_all(fixture.path("gone")).unwrap();
    fs::write(fixture.path("edited"), "new").unwrap();
    fs::write(fixture.path("fresh"), "fresh").unwrap();
    fixture.start();
    fixture.wait_for_names("", &["edited", "fresh", "same"]);
    assert!(fixture.digest("same").is_some(), "an unchanged file keeps its digest");
    fixture.wait_for_digest("edited", b"new");
    let metrics = fixture.reader.ask(CatalogStore::metrics).unwrap();
    assert_eq!(
        (metrics.get(metric::FILES), metrics.get(metric::FOLDERS), metrics.get(metric::BYTES)),
        (3, 0, 12)
    );
}

#[test]
fn watcher_follows_additions_renames_and_removals() {
    let mut fixture = Fixture::new(|_| {});
    fs::create_dir_all(fixture.path("a/b/c")).unwrap();
    fs::write(fixture.path("a/b/c/deep"), "1").unwrap();
    fixture.wait_for_names("a/b/c", &["deep"]);
    fs::rename(fixture.path("a/b"), fixture.path("moved")).unwrap();
    fixture.wait_for_names("moved/c", &["deep"]);
    // The removal at the old path is a change of its own.
    fixture.wait_for_names("a", &[]);
    fs::write(fixture.path("moved/c/after"), "2").unwrap();
    fixture.wait_for_names("moved/c", &["after", "deep"]);
    fs::remove_file(fixture.path("moved/c/deep")).unwrap();
    fixture.wait_for_names("moved/c", &["after"]);
    fs::remove_dir_all(fixture.path("moved")).unwrap();
    fixture.wait_for_names("", &["a"]);
    fs::write(fixture.path("x"), "file").unwrap();
    fixture.wait_for_names("", &["a", "x"]);
    fs::remove_file(fixture.path("x")).unwrap();
    fs::create_dir(fixture.path("x")).unwrap();
    fs::write(fixture.path("x/y"), "y").unwrap();
    fixture.wait_for_names("x", &["y"]);
}

#[test]
fn file_that_is_being_written_is_not_listed() {
    let mut fixture = Fixture::new(|_| {});
    let mut file = File::create(fixture.path("growing")).unwrap();
    let began = Instant::now();
    while began.elapsed() < QUIET * 3 {
        file.write_all(b"more").unwrap();
        assert_eq!(fixture.names(""), [] as [&str; 0], "after {:?}", began.elapsed());
        std::thread::sleep(QUIET / 4);
    }
    // The file is quiet, but still open. One that is quiet for less time is listed before it.
    fs::write(fixture.path("later"), "whole").unwrap();
    fixture.wait_for_names("", &["later"]);
    drop(file);
    fixture.wait_for_names("", &["growing", "later"]);
}

#[test]
fn new_content_of_equal_size_and_time_gets_a_new_digest() {
    let mut fixture = Fixture::new(|dir| fs::write(dir.join("f"), "one").unwrap());
    fixture.wait_for_digest("f", b"one");
    let time = fs::metadata(fixture.path("f")).unwrap().modified().unwrap();
    let write = |name: &Path, content: &[u8]| {
        let mut file = File::options().write(true).create(true).truncate(false).open(name).unwrap();
        file.write_all(content).unwrap();
        file.set_modified(time).unwrap();
    };
    let digest = |content: &[u8]| Some(Digest(blake3::hash(content).into()));
    // The file is once replaced and once overwritten.
    write(&fixture.path("aside"), b"two");
    fs::rename(fixture.path("aside"), fixture.path("f")).unwrap();
    assert_ne!(fixture.digest("f"), digest(b"one"));
    fixture.wait_for_digest("f", b"two");
    write(&fixture.path("f"), b"six");
    assert_ne!(fixture.digest("f"), digest(b"two"));
    fixture.wait_for_digest("f", b"six");
}

#[test]
fn big_folder_is_listed_in_pages() {
    let mut fixture = Fixture::new(|dir| {
        for n in 0..5000 {
            File::create(dir.join(format!("file-{n:05}"))).unwrap();
        }
    });
    fixture.wait("5000 names", |fixture| fixture.names("").len() == 5000);
    let names = fixture.names("");
    assert!(names.is_sorted());
    let mut page = PageBuilder::new();
    let outcome = fixture
        .reader
        .ask(|store| {
            store.list(&TreePath::root(), "file-04998", None, &mut |entry| page.push(entry))
        })
        .unwrap();
    assert_eq!(outcome, ListOutcome::Page { last: "file-04999".to_owned(), count: 1, more: false });
}

#[test]
fn catalogue_is_incomplete_until_a_new_writer_has_scanned() {
    let mut fixture = Fixture::new(|dir| fs::write(dir.join("f"), "x").unwrap());
    fixture.wait_for_names("", &["f"]);
    let root = Folder::open(fixture.dir.path()).unwrap();
    let second = SlaveIdentity::acquire(&root, ANY).unwrap();
    assert!(
        fixture.reader.ask(CatalogStore::is_complete).unwrap(),
        "the first slave keeps the writer lock"
    );
    assert!(WriterLock::try_acquire(&second.folder).unwrap().is_none());
    fixture.stop();
    fs::write(fixture.path("g"), "y").unwrap();
    drop(second);
    let _third = SlaveIdentity::acquire(&root, ANY).unwrap();
    assert!(
        !fixture.reader.ask(CatalogStore::is_complete).unwrap(),
        "the catalogue of an earlier writer is incomplete"
    );
    fixture.start();
    fixture.wait_for_names("", &["f", "g"]);
}

#[test]
fn damaged_catalogue_is_named_in_the_error() {
    let mut fixture = Fixture::new(|dir| fs::write(dir.join("f"), "x").unwrap());
    // The last connection that closes would write everything into one file, so the reader moves
    // away first.
    let elsewhere = tempfile::tempdir().unwrap();
    let other = SlaveIdentity::acquire(&Folder::open(elsewhere.path()).unwrap(), ANY).unwrap();
    fixture.reader = CatalogReader::new(&other.folder);
    fixture.stop();
    let file = fixture.path(".relais/catalogue.db");
    let mut bytes = fs::read(&file).unwrap();
    bytes[..16].fill(7);
    fs::write(&file, bytes).unwrap();
    let Err(error) = CatalogStore::open(&fixture.own.folder) else { panic!("it opens") };
    assert!(error.to_string().contains("catalogue.db is damaged"), "{error}");
}

#[test]
fn file_that_changes_before_hashing_gets_its_last_digest() {
    let mut fixture = Fixture::new(|_| {});
    for content in ["first", "second, longer", "third"] {
        fs::write(fixture.path("f"), content).unwrap();
        // The digest is computed at about this time.
        std::thread::sleep(Duration::from_millis(2600));
    }
    fs::write(fixture.path("f"), "fourth and last").unwrap();
    let began = Instant::now();
    fixture.wait_for_digest("f", b"fourth and last");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(fixture.reader.ask(CatalogStore::metrics).unwrap().get(metric::BYTES), 15);
}

#[test]
fn hint_reveals_a_change_through_a_hard_link() {
    let mut fixture = Fixture::new(|dir| fs::write(dir.join("f"), "content").unwrap());
    fixture.wait_for_digest("f", b"content");
    let elsewhere = tempfile::tempdir_in(fixture.dir.path().parent().unwrap()).unwrap();
    // A hard link changes the ctime, and a write through it the content, without an event in the
    // folder.
    fs::hard_link(fixture.path("f"), elsewhere.path().join("g")).unwrap();
    fixture.wait_for_digest("f", b"content");
    fs::write(elsewhere.path().join("g"), "another content").unwrap();
    fixture.wait_for_digest("f", b"another content");
    fixture.wait("the new size", |fixture| {
        fixture.reader.ask(CatalogStore::metrics).unwrap().get(metric::BYTES) == 15
    });
}

fn property(at: &str, value: &str) -> Change {
    let name = PropertyName { namespace: "urn:x".to_owned(), local: "p".to_owned() };
    let changes = vec![PropertyChange { name, value: Some(value.to_owned()) }];
    Change::SetProperties { path: TreePath::new(at).unwrap(), changes }
}

#[test]
fn annotations_survive_a_lost_catalogue_and_a_lost_journal() {
    let mut fixture = Fixture::new(|dir| {
        fs::create_dir(dir.join("d")).unwrap();
        fs::write(dir.join("d/f"), "content").unwrap();
    });
    let path = |text: &str| TreePath::new(text).unwrap();
    // The file has no number yet, so the change waits for it.
    fixture.propose(1, property("d/f", "1")).unwrap();
    fixture.propose(2, property("", "root")).unwrap();
    let row = fixture.reader.ask(|store| store.row(&path("d/f"))).unwrap().unwrap();
    let hashes = ContentHashes { sha256: Sha256([7; 32]), piece_size: 1 << 20, pieces: vec![] };
    fixture.propose(3, Change::RecordSha256 { put: row.content.unwrap(), hashes }).unwrap();
    let lock = |token| LockRequest {
        token: LockToken([token; 16]),
        user: "ann".to_owned(),
        owner: String::new(),
        exclusive: true,
        deep: true,
        seconds: 600,
    };
    fixture.propose(4, Change::Lock { path: path("d"), lock: lock(1) }).unwrap();
    let refused = fixture.propose(5, property("d/f", "2")).unwrap_err();
    assert_eq!((refused.code, refused.path), (ErrorCode::Locked, Some(path("d"))));
    let before = fixture.annotations();
    let counts = |all: &Annotations| (all.properties.len(), all.locks.len(), all.hashes.len());
    assert_eq!(counts(&before), (2, 1, 1));
    fixture.stop();
    fixture.start();
    assert_eq!(fixture.annotations(), before);
    fixture.stop();
    for name in ["catalogue.db", "catalogue.db-wal", "catalogue.db-shm"] {
        fs::remove_file(fixture.dir.path().join(".relais").join(name)).ok();
    }
    // The reader has the former file open.
    fixture.reader = CatalogReader::new(&fixture.own.folder);
    fixture.start();
    assert_eq!(fixture.annotations(), before);
    fixture.stop();
    fs::remove_file(fixture.path(".relais/journal")).unwrap();
    fs::remove_file(fixture.path(".relais/snapshot")).ok();
    fixture.start();
    // The history begins again, which ends the locks.
    let after = fixture.annotations();
    assert_eq!(after, Annotations { locks: Vec::new(), ..before });
    fixture.propose(6, property("d/f", "3")).unwrap();
    assert_eq!(fixture.annotations().properties[1].1.value, "3");
}
