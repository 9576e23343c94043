//! Appends batches to a storage that counts calls and fails on demand.

use std::cell::{Cell, RefCell};
use std::io;

use relais_proto::{Mode, limits};
use rustix::io::Errno;

use super::*;
use crate::format::{BATCH_BYTES, BATCH_CHANGES, FORMAT, FileHeader};
use crate::recover::{JournalEnd, RecoveredJournal, make_durable};
use crate::writer::{JournalWriter, Storage};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Read(u64),
    Write(u64),
    Sync,
    Cut(u64),
}

#[derive(Default)]
struct Store {
    calls: RefCell<Vec<Call>>,
    written: RefCell<Vec<u8>>,
    write_fails: Cell<Option<Errno>>,
    sync_fails: Cell<bool>,
    cut_fails: Cell<bool>,
}

impl Storage for &Store {
    fn read(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        self.calls.borrow_mut().push(Call::Read(at));
        bytes.fill(b'r');
        Ok(())
    }

    fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        assert!(!bytes.is_empty());
        self.written.borrow_mut().clone_from(&bytes.to_vec());
        self.calls.borrow_mut().push(Call::Write(at));
        self.write_fails.get().map_or(Ok(()), |error| Err(error.into()))
    }

    fn sync(&self) -> io::Result<()> {
        self.calls.borrow_mut().push(Call::Sync);
        if self.sync_fails.get() { Err(Errno::IO.into()) } else { Ok(()) }
    }

    fn cut(&self, at: u64) -> io::Result<()> {
        self.calls.borrow_mut().push(Call::Cut(at));
        if self.cut_fails.get() { Err(Errno::IO.into()) } else { Ok(()) }
    }

    fn is_in_place(&self) -> io::Result<bool> {
        Ok(true)
    }
}

fn tail(store: &Store) -> JournalWriter<&Store> {
    let header = FileHeader { format: FORMAT, id: ID, salt: [1; 16] };
    JournalWriter::new(store, Path::new("/j"), JournalEnd::of_empty(&header), [9; 16])
}

#[test]
fn a_batch_is_one_write_and_then_one_sync() {
    let store = Store::default();
    let mut tail = tail(&store);
    tail.append(&changes(1, 1..=1)).unwrap();
    tail.append(&[]).unwrap();
    tail.append(&changes(1, 2..=4000)).unwrap();
    tail.append(&changes(1, 4001..=4001)).unwrap();
    let calls = store.calls.borrow();
    let [
        Call::Write(first),
        Call::Sync,
        Call::Write(second),
        Call::Sync,
        Call::Write(third),
        Call::Sync,
    ] = calls[..]
    else {
        panic!("{calls:?}");
    };
    assert!(first == 60 && first < second && second < third);
}

#[test]
fn after_a_failed_sync_the_disk_is_not_used_again() {
    let store = Store::default();
    let mut tail = tail(&store);
    tail.append(&changes(1, 1..=1)).unwrap();
    let chain = tail.chain();
    store.sync_fails.set(true);
    assert!(matches!(tail.append(&changes(1, 2..=2)), Err(JournalError::Io { .. })));
    store.sync_fails.set(false);
    let calls = store.calls.borrow().len();
    for batch in [changes(1, 2..=2), changes(1, 3..=3), Vec::new()] {
        assert!(matches!(
            tail.append(&batch),
            Err(JournalError::Failed(path)) if path == Path::new("/j")
        ));
    }
    assert_eq!(store.calls.borrow().len(), calls);
    assert_eq!((tail.last(), tail.chain()), (version(1, 1), chain));
}

#[test]
fn a_full_disk_is_truncated_and_later_batches_succeed() {
    for full in [Errno::NOSPC, Errno::DQUOT, Errno::FBIG] {
        let store = Store::default();
        let mut tail = tail(&store);
        tail.append(&changes(1, 1..=1)).unwrap();
        let chain = tail.chain();
        store.calls.borrow_mut().clear();
        store.write_fails.set(Some(full));
        for _ in 0..3 {
            assert!(matches!(tail.append(&changes(1, 2..=9)), Err(JournalError::NoSpace { .. })));
        }
        assert_eq!((tail.last(), tail.chain()), (version(1, 1), chain));
        store.write_fails.set(None);
        tail.append(&changes(1, 2..=2)).unwrap();
        let calls = store.calls.borrow();
        let Call::Write(at) = calls[0] else { panic!("{calls:?}") };
        let (write, cut) = (Call::Write(at), Call::Cut(at));
        assert_eq!(calls[..], [write, cut, write, cut, write, cut, write, Call::Sync]);
        assert_eq!(tail.last(), version(1, 2));
    }
}

#[test]
fn other_write_errors_are_permanent() {
    for (write, cut) in [(Errno::IO, false), (Errno::NOSPC, true)] {
        let store = Store::default();
        let mut tail = tail(&store);
        store.write_fails.set(Some(write));
        store.cut_fails.set(cut);
        assert!(matches!(tail.append(&changes(1, 1..=1)), Err(JournalError::Io { .. })));
        store.write_fails.set(None);
        store.cut_fails.set(false);
        assert!(matches!(tail.append(&changes(1, 1..=1)), Err(JournalError::Failed(_))));
        assert!(!store.calls.borrow().contains(&Call::Sync));
    }
}

#[test]
fn numbers_rise_by_one_in_an_epoch_and_epochs_rise() {
    let store = Store::default();
    let mut tail = tail(&store);
    let cases = [
        (vec![(0, 0)], false),
        (vec![(0, 2)], false),
        (vec![(1, 0)], false),
        (vec![(1, 5)], true),
        (vec![(1, 5)], false),
        (vec![(1, 7)], false),
        (vec![(1, 4)], false),
        (vec![(0, 6)], false),
        (vec![(1, 6), (1, 6)], false),
        (vec![(1, 6), (1, 8)], false),
        (vec![(1, 7), (1, 6)], false),
        (vec![(1, 6), (1, 7)], true),
        (vec![(1, 8), (3, 1), (3, 2)], true),
        (vec![(2, 3)], false),
        (vec![(4, u64::MAX)], true),
        (vec![(4, 1)], false),
        (vec![(4, 0)], false),
    ];
    for (numbers, good) in cases {
        let numbered = |&(epoch, number): &(u32, u64)| LogEntry {
            version: version(epoch, number),
            ..change(1, 1)
        };
        let batch: Vec<_> = numbers.iter().map(numbered).collect();
        let (before, calls) = (tail.last(), store.calls.borrow().len());
        match tail.append(&batch) {
            Ok(()) => assert!(good && tail.last() == batch[batch.len() - 1].version, "{numbers:?}"),
            Err(JournalError::Order { .. }) => {
                assert!(
                    !good && tail.last() == before && store.calls.borrow().len() == calls,
                    "{numbers:?}"
                );
            }
            Err(other) => panic!("{numbers:?}: {other}"),
        }
    }
}

#[test]
fn batches_over_a_cap_are_rejected() {
    let (temp, _) = Temp::with(&[]);
    let mut journal = open(&temp.path()).unwrap().0;
    let most = u64::try_from(BATCH_CHANGES).unwrap();
    assert!(matches!(
        journal.append(&changes(1, 1..=most + 1)),
        Err(JournalError::TooLarge { changes: 4097 })
    ));
    journal.append(&changes(1, 1..=most)).unwrap();
    // Each of these takes 8,229 bytes, so at most 2,038 of them fit.
    let long = TreePath::new(["x".repeat(255).as_str(); 16].join("/")).unwrap();
    assert_eq!(long.as_str().len(), limits::PATH);
    let moved = |number| LogEntry {
        change: Change::Move { from: long.clone(), to: long.clone() },
        ..change(1, number)
    };
    let each = 12 + 16 + 8 + 1 + 2 * (2 + limits::PATH);
    let fit = u64::try_from(BATCH_BYTES / each).unwrap();
    let batch: Vec<_> = (most + 1..=most + fit + 1).map(moved).collect();
    assert!(matches!(journal.append(&batch), Err(JournalError::TooLarge { .. })));
    journal.append(&batch[..batch.len() - 1]).unwrap();
    assert_eq!(journal.last(), version(1, most + fit));
    drop(journal);
    assert_eq!(open(&temp.path()).unwrap().1.len(), BATCH_CHANGES + BATCH_BYTES / each);
}

#[test]
fn changes_that_would_not_decode_are_rejected() {
    let store = Store::default();
    let mut tail = tail(&store);
    let put = |size, nanos| {
        let put = Change::Put {
            path: TreePath::new("a").unwrap(),
            size,
            digest: Digest([0; 32]),
            mtime: FileTime { seconds: 0, nanos },
            mode: Mode::new(0o644),
        };
        [LogEntry { change: put, ..change(1, 1) }]
    };
    for (size, nanos) in [(limits::FILE_SIZE + 1, 0), (0, 1_000_000_000)] {
        assert!(matches!(
            tail.append(&put(size, nanos)),
            Err(JournalError::Unreadable(v)) if v == version(1, 1)
        ));
    }
    assert!(store.calls.borrow().is_empty());
    tail.append(&put(limits::FILE_SIZE, 999_999_999)).unwrap();
}

#[test]
fn the_last_batch_is_rewritten_and_synced_at_open() {
    let header = FileHeader { format: FORMAT, id: ID, salt: [1; 16] };
    let empty = JournalEnd::of_empty(&header);
    let (start, end) = (empty.at, empty.at + 200);
    for (newest, at, size, calls) in [
        (None, start, start, vec![]),
        (None, start, start + 1, vec![Call::Cut(start), Call::Sync]),
        (Some(start), end, end, vec![Call::Read(start), Call::Write(start), Call::Sync]),
        (
            Some(start),
            end,
            end + 9,
            vec![Call::Cut(end), Call::Read(start), Call::Write(start), Call::Sync],
        ),
    ] {
        let found = RecoveredJournal { end: JournalEnd { at, ..empty.clone() }, newest, size };
        let store = Store::default();
        make_durable(&&store, Path::new("/j"), &found).unwrap();
        assert_eq!(*store.calls.borrow(), calls);
        if newest.is_some() {
            assert_eq!(*store.written.borrow(), [b'r'; 200], "the same bytes as were there");
        }
        store.sync_fails.set(true);
        assert_eq!(make_durable(&&store, Path::new("/j"), &found).is_err(), !calls.is_empty());
    }
}
