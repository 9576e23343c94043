use std::path::PathBuf;

use relais_journal::FileJournal;
use relais_proto::{Change, ChangeId, Digest, FileTime, Mode, TreePath};

use super::*;

const CLUSTER: ClusterId = ClusterId([7; 16]);
const DAY: u64 = 24 * 60 * 60 * 1000;

fn change(number: u64) -> LogEntry {
    let name = format!("f{}", number % 7);
    let change = Change::Put {
        path: TreePath::new(name).unwrap(),
        size: number,
        digest: Digest([u8::try_from(number % 5).unwrap(); 32]),
        mtime: FileTime::default(),
        mode: Mode::new(0o644),
    };
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    LogEntry {
        version: Lsn { epoch: 1, number },
        id: ChangeId(id),
        time_ms: 100 * DAY + number,
        change,
    }
}

fn open(folder: &Path) -> Result<Store, StoreError> {
    let journal = FileJournal::open(&folder.join("journal"), CLUSTER.0)?;
    Store::open(Box::new(journal), folder, CLUSTER, None, u64::MAX)
}

/// A store of a running master.
struct Running {
    store: Store,
    ledger: MasterState,
}

impl Running {
    fn open(folder: &Path) -> Self {
        let mut store = open(folder).unwrap();
        let ledger = store.take_ledger();
        Self { store, ledger }
    }

    fn make(&mut self, numbers: std::ops::RangeInclusive<u64>) {
        let batch: Vec<LogEntry> = numbers.map(change).collect();
        self.store.append(&batch).unwrap();
        batch.into_iter().for_each(|numbered| drop(self.ledger.apply(numbered)));
    }

    fn shorten(&mut self, now_ms: u64) {
        if let Some(upto) = self.store.forgettable(&self.ledger, now_ms) {
            self.ledger.forget_ids(upto);
        }
        self.store.keep(&self.ledger, now_ms).unwrap();
    }
}

/// Formats the state, independent of the order of its maps.
fn shown(ledger: &MasterState) -> String {
    let mut ids: Vec<_> = ledger.ids().collect();
    ids.sort_unstable();
    let entries: Vec<_> = ledger.tree().iter().collect();
    let kept: Vec<_> = ledger.kept().collect();
    let safe: Vec<_> = kept.iter().map(|kept| ledger.tree().can_withdraw(kept.version)).collect();
    format!("{:?} {:?} {ids:?} {entries:?} {kept:?} {safe:?}", ledger.last(), ledger.chain())
}

fn copy(from: &Path, names: &[&str], to: &Path) {
    for name in names {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

#[test]
fn a_crash_while_shortening_leaves_the_same_state() {
    let (before, after) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut running = Running::open(after.path());
    running.make(1..=20);
    running.shorten(101 * DAY);
    running.make(21..=40);
    copy(after.path(), &["snapshot", "journal"], before.path());
    let wanted = shown(&running.ledger);
    running.shorten(102 * DAY);
    assert_eq!(shown(&running.ledger), wanted);
    drop(running);
    // Each step: the origin of the two files, and other files.
    let steps: [(&Path, &Path, &[&str]); 5] = [
        (before.path(), before.path(), &[]),
        (before.path(), before.path(), &["snapshot.new"]),
        (after.path(), before.path(), &[]),
        (after.path(), before.path(), &["journal.new"]),
        (after.path(), after.path(), &[]),
    ];
    for (place, (snapshot, journal, rubbish)) in steps.into_iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        copy(snapshot, &["snapshot"], folder.path());
        copy(journal, &["journal"], folder.path());
        rubbish
            .iter()
            .for_each(|name| std::fs::write(folder.path().join(name), "rubbish").unwrap());
        let mut running = Running::open(folder.path());
        assert_eq!(shown(&running.ledger), wanted, "step {place}");
        running.make(41..=45);
        let wanted = shown(&running.ledger);
        drop(running);
        let mut running = Running::open(folder.path());
        assert_eq!(shown(&running.ledger), wanted, "step {place}, and then more changes");
        running.shorten(103 * DAY);
        drop(running);
        assert_eq!(
            shown(&Running::open(folder.path()).ledger),
            wanted,
            "step {place}, and then shortened again"
        );
    }
}

#[test]
fn mismatched_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| -> PathBuf { folder.path().join(name) };
    let mut running = Running::open(folder.path());
    running.make(1..=20);
    running.shorten(101 * DAY);
    running.make(21..=40);
    drop(running);
    let snapshot = std::fs::read(file("snapshot")).unwrap();
    std::fs::remove_file(file("snapshot")).unwrap();
    let error = open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("change 1-21 does not follow change 1-0"), "{error}");
    let mut bad = snapshot.clone();
    bad[100] ^= 1;
    std::fs::write(file("snapshot"), bad).unwrap();
    let error = open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("snapshot is damaged at byte 0"), "{error}");
    std::fs::write(file("snapshot"), snapshot).unwrap();
    assert_eq!(Running::open(folder.path()).ledger.last().number, 40);
}

#[test]
fn a_journal_is_shortened_by_age_or_size() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = Running::open(folder.path());
    assert!(!running.store.is_old(u64::MAX), "there is nothing to shorten");
    running.make(1..=1);
    running.make(2..=2);
    assert!(!running.store.is_old(107 * DAY) && running.store.is_old(107 * DAY + 2));
    drop(running);
    let mut running = Running::open(folder.path());
    assert!(running.store.is_old(107 * DAY + 2), "also after a start");
    running.shorten(108 * DAY);
    assert!(!running.store.is_old(u64::MAX));
    running.make(3..=3);
    assert!(running.store.is_old(108 * DAY));
    drop(running);
    let mut running = Running::open(folder.path());
    (running.store.max_size, running.store.shorten_at) = (100, 100);
    running.make(4..=50);
    assert!(running.store.is_large());
    running.shorten(108 * DAY);
    assert!(!running.store.is_large() && running.store.shorten_at > 100, "of the snapshot's size");
}

#[test]
fn ids_are_kept_for_at_least_seven_days() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = Running::open(folder.path());
    let known = |ledger: &MasterState| {
        (1..=6).filter(|number| ledger.number_of(change(*number).id).is_some()).collect::<Vec<_>>()
    };
    running.make(1..=3);
    running.shorten(107 * DAY + 2);
    assert_eq!(known(&running.ledger), [2, 3], "the first is older than that");
    drop(running);
    let mut running = Running::open(folder.path());
    running.make(4..=6);
    running.ledger.shorten(Lsn { epoch: 1, number: 3 });
    running.shorten(107 * DAY + 3);
    assert_eq!(
        known(&running.ledger),
        [2, 3, 4, 5, 6],
        "how old those in the snapshot are is not known"
    );
    running.shorten(120 * DAY);
    assert_eq!(known(&running.ledger), [0u64; 0]);
}

#[test]
fn sole_folder_needs_no_list() {
    let temp = tempfile::tempdir().unwrap();
    let folder = FolderId([3; 16]);
    for _ in 0..2 {
        let journal = FileJournal::open(&temp.path().join("journal"), CLUSTER.0).unwrap();
        let journal = Box::new(journal);
        let mut store = Store::open(journal, temp.path(), CLUSTER, Some(folder), u64::MAX).unwrap();
        assert_eq!(*store.folders(), BTreeSet::from([folder]));
        store.know(folder).unwrap();
        assert!(!temp.path().join("folders").exists());
    }
}
