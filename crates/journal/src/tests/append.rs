//! Appends batches to a storage that counts calls and fails on demand.

use std::cell::{Cell, RefCell};
use std::io;

use rustix::io::Errno;

use super::*;
use crate::format::{FORMAT, FileHeader};
use crate::location::Storage;
use crate::recover::{JournalEnd, make_durable};
use crate::writer::JournalWriter;

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
    let chain = tail.end.chain;
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
    assert_eq!((tail.end.last, tail.end.chain), (version(1, 1), chain));
}

#[test]
fn a_full_disk_is_truncated_and_later_batches_succeed() {
    for full in [Errno::NOSPC, Errno::DQUOT, Errno::FBIG] {
        let store = Store::default();
        let mut tail = tail(&store);
        tail.append(&changes(1, 1..=1)).unwrap();
        let chain = tail.end.chain;
        store.calls.borrow_mut().clear();
        store.write_fails.set(Some(full));
        for _ in 0..3 {
            assert!(matches!(tail.append(&changes(1, 2..=9)), Err(JournalError::NoSpace { .. })));
        }
        assert_eq!((tail.end.last, tail.end.chain), (version(1, 1), chain));
        store.write_fails.set(None);
        tail.append(&changes(1, 2..=2)).unwrap();
        let calls = store.calls.borrow();
        let Call::Write(at) = calls[0] else { panic!("{calls:?}") };
        let (write, cut) = (Call::Write(at), Call::Cut(at));
        assert_eq!(calls[..], [write, cut, write, cut, write, cut, write, Call::Sync]);
        assert_eq!(tail.end.last, version(1, 2));
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
        let store = Store::default();
        make_durable(&&store, Path::new("/j"), newest, at, size).unwrap();
        assert_eq!(*store.calls.borrow(), calls);
        if newest.is_some() {
            assert_eq!(*store.written.borrow(), [b'r'; 200], "the same bytes as were there");
        }
        store.sync_fails.set(true);
        assert_eq!(
            make_durable(&&store, Path::new("/j"), newest, at, size).is_err(),
            !calls.is_empty()
        );
    }
}
