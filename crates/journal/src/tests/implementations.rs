//! The contract of the trait, tested over all implementations.

use relais_proto::limits;

use super::memory_journal::MemoryJournal;
use super::*;
use crate::Snapshot;
use crate::format::{BATCH_BYTES, BATCH_CHANGES};

/// Runs a test over an empty journal of each kind.
fn over_each(test: fn(&mut dyn Journal)) {
    test(&mut MemoryJournal::default());
    let temp = Temp::new();
    test(&mut open(&temp.path()).unwrap().0);
}

fn all(journal: &dyn Journal) -> Vec<LogEntry> {
    entries(journal, Lsn::default())
}

#[test]
fn entries_are_read_from_a_number() {
    over_each(|journal| {
        assert_eq!((all(journal), journal.last()), (vec![], Lsn::default()));
        journal.append(&changes(1, 1..=3)).unwrap();
        journal.append(&[]).unwrap();
        journal.append(&changes(1, 4..=5)).unwrap();
        journal.append(&changes(2, 3..=4)).unwrap();
        let whole = [changes(1, 1..=5), changes(2, 3..=4)].concat();
        assert_eq!((all(journal), journal.last()), (whole.clone(), version(2, 4)));
        for (after, skipped) in [((1, 1), 1), ((1, 3), 3), ((1, 9), 5), ((2, 3), 6), ((2, 4), 7)] {
            assert_eq!(entries(journal, version(after.0, after.1)), whole[skipped..], "{after:?}");
        }
    });
}

#[test]
fn a_reader_sees_the_entries_stored_at_its_creation() {
    over_each(|journal| {
        journal.append(&changes(1, 1..=3)).unwrap();
        let three = journal.read(version(1, 1)).unwrap();
        journal.append(&changes(1, 4..=6)).unwrap();
        let six = journal.read(Lsn::default()).unwrap();
        journal.truncate().unwrap();
        journal.append(&changes(1, 7..=7)).unwrap();
        let read = |entries: crate::Entries| {
            std::thread::spawn(|| entries.map(Result::unwrap).collect::<Vec<_>>()).join().unwrap()
        };
        assert_eq!(read(three), changes(1, 2..=3));
        assert_eq!(read(six), changes(1, 1..=6));
    });
}

#[test]
fn truncation_keeps_the_snapshot_and_the_timeline() {
    over_each(|journal| {
        assert_eq!(journal.snapshot().unwrap(), None);
        let empty = journal.size();
        journal.append(&changes(1, 1..=3)).unwrap();
        assert!(journal.size() > empty);
        for payload in [vec![], vec![7; 100_000], b"state".to_vec()] {
            let snapshot = Snapshot { made_ms: 9, payload };
            journal.save_snapshot(&snapshot).unwrap();
            assert_eq!(journal.snapshot().unwrap(), Some(snapshot));
        }
        let timeline = journal.timeline();
        assert_eq!(all(journal), changes(1, 1..=3), "the snapshot alone removes nothing");
        journal.truncate().unwrap();
        assert_eq!((all(journal), journal.last()), (vec![], Lsn::default()));
        assert_eq!((journal.size(), journal.timeline()), (empty, timeline));
        assert_eq!(journal.snapshot().unwrap().unwrap().payload, b"state");
        journal.append(&changes(1, 8..=9)).unwrap();
        assert_eq!(all(journal), changes(1, 8..=9));
    });
}

#[test]
fn another_timeline_has_another_id() {
    over_each(|journal| {
        let first = journal.timeline();
        let second = journal.begin_timeline().unwrap();
        assert_eq!(journal.timeline(), second);
        let third = journal.begin_timeline().unwrap();
        assert!(first != second && second != third && third != first);
        assert_eq!(journal.initial_timelines(), []);
    });
}

#[test]
fn numbers_rise_by_one_in_an_epoch_and_epochs_rise() {
    over_each(|journal| {
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
            let before = (journal.last(), journal.size());
            match journal.append(&batch) {
                Ok(()) => {
                    assert!(good && journal.last() == batch[batch.len() - 1].version, "{numbers:?}")
                }
                Err(JournalError::Order { .. }) => {
                    assert!(!good && (journal.last(), journal.size()) == before, "{numbers:?}")
                }
                Err(other) => panic!("{numbers:?}: {other}"),
            }
        }
    });
}

#[test]
fn batches_over_a_cap_are_rejected() {
    over_each(|journal| {
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
        assert_eq!(all(journal).len(), BATCH_CHANGES + BATCH_BYTES / each);
    });
}

#[test]
fn entries_that_would_not_decode_are_rejected() {
    over_each(|journal| {
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
        let empty = journal.size();
        for (size, nanos) in [(limits::FILE_SIZE + 1, 0), (0, 1_000_000_000)] {
            assert!(matches!(
                journal.append(&put(size, nanos)),
                Err(JournalError::Unreadable(v)) if v == version(1, 1)
            ));
        }
        assert_eq!((journal.size(), journal.last()), (empty, Lsn::default()));
        journal.append(&put(limits::FILE_SIZE, 999_999_999)).unwrap();
    });
}
