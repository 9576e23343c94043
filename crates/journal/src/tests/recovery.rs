//! Recovery: complete files, torn ends and damage.

use std::time::{Duration, Instant};

use super::*;
use crate::format::{BATCH_BYTES, BATCH_HEADER, FILE_HEADER, FileHeader, LONGEST};

fn three() -> [Vec<LogEntry>; 3] {
    [changes(1, 1..=3), changes(1, 4..=5), changes(1, 6..=9)]
}

fn damaged_at(temp: &Temp, wanted: usize, what: &dyn std::fmt::Display) {
    match refused(temp) {
        JournalError::Damaged { offset, .. } => {
            assert_eq!(usize::try_from(offset).unwrap(), wanted, "{what}")
        }
        other => panic!("{what}: {other}"),
    }
}

#[test]
fn appended_changes_are_read_and_the_chain_continues() {
    let batches = [changes(1, 1..=1), changes(1, 2..=60), changes(2, 5..=5), changes(2, 6..=4000)];
    let (temp, _) = Temp::with(&batches);
    let at_once = open(&temp.path()).unwrap().0.writer.end.chain;
    let piecemeal = Temp::new();
    let mut chains = vec![open(&piecemeal.path()).unwrap().0.writer.end.chain];
    for (count, batch) in batches.iter().enumerate() {
        let (mut journal, read) = open(&piecemeal.path()).unwrap();
        assert_eq!(read, batches[..count].concat());
        assert_eq!(journal.last(), read.last().map(|change| change.version).unwrap_or_default());
        assert_eq!(journal.writer.end.chain, chains[count]);
        journal.append(batch).unwrap();
        assert!(!chains.contains(&journal.writer.end.chain));
        chains.push(journal.writer.end.chain);
    }
    assert_eq!(at_once, chains[4], "the chain is that of the batches, not of the file");
    let (journal, read) = open(&temp.path()).unwrap();
    assert_eq!((journal.last(), read), (version(2, 4000), batches.concat()));
}

#[test]
fn a_batch_torn_at_any_byte_is_cut_off_and_no_other() {
    let (temp, starts) = Temp::with(&three());
    let good = temp.bytes();
    let [.., start, end] = starts[..] else { panic!("{starts:?}") };
    let timeline = open(&temp.path()).unwrap().0.initial_timelines()[0].id;
    let chain = Temp::with(&three()[..2]);
    let chain = open(&chain.0.path()).unwrap().0.writer.end.chain;
    for at in start..end {
        let kept = &good[..at];
        let zeros = [kept, &vec![0; end - at]].concat();
        let others: Vec<u8> = good[at..].iter().map(|byte| !byte).collect();
        let garbage = [kept, &others].concat();
        let magic = [kept, &b"\xff\xfebatch\n".repeat(end - at)[..end - at]].concat();
        // Blocks of this file at a wrong offset.
        let earlier = [kept, &good[starts[0]..][..end - at]].concat();
        let mut holed = good.clone();
        holed[at] ^= 1;
        for (name, torn) in [
            ("cut", kept),
            ("zeros", &zeros),
            ("garbage", &garbage),
            ("magic", &magic),
            ("earlier", &earlier),
            ("hole", &holed),
        ] {
            temp.set(torn);
            let (mut journal, read) =
                open(&temp.path()).unwrap_or_else(|error| panic!("{name} at {at}: {error}"));
            assert_eq!(read, three()[..2].concat(), "{name} at {at}");
            assert_eq!((journal.last(), journal.writer.end.chain), (version(1, 5), chain));
            assert!(temp.bytes() == good[..start], "{name} at {at}");
            // The same batch of the same process has the same bytes.
            journal.writer.timeline = timeline;
            journal.append(&three()[2]).unwrap();
            assert!(temp.bytes() == good, "{name} at {at}");
        }
    }
}

#[test]
fn garbage_after_a_good_end_is_cut_off() {
    let (temp, _) = Temp::with(&three());
    let good = temp.bytes();
    let longest = usize::try_from(LONGEST).unwrap();
    for len in [1, BATCH_HEADER - 1, BATCH_HEADER, 4096, longest] {
        for byte in [0, 0xff, b'\n'] {
            temp.set(&[&good[..], &vec![byte; len]].concat());
            assert_eq!(open(&temp.path()).unwrap().1.len(), 9);
            assert!(temp.bytes() == good);
        }
    }
    // More bytes than the longest batch: not torn.
    temp.set(&[&good[..], &vec![0; longest + 1]].concat());
    damaged_at(&temp, good.len(), &"too much garbage");
}

#[test]
fn any_bit_flipped_before_the_last_batch_is_damage() {
    let (temp, starts) = Temp::with(&three());
    let good = temp.bytes();
    for at in starts[0]..starts[2] {
        let batch = if at < starts[1] { starts[0] } else { starts[1] };
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            temp.set(&bad);
            damaged_at(&temp, batch, &format!("byte {at} bit {bit}"));
        }
        for with in [0, 0xff, good[at].wrapping_add(1)] {
            if with != good[at] {
                let mut bad = good.clone();
                bad[at] = with;
                temp.set(&bad);
                damaged_at(&temp, batch, &format!("byte {at} is {with}"));
            }
        }
    }
}

#[test]
fn stretches_lost_before_the_last_batch_are_damage() {
    let (temp, starts) = Temp::with(&three());
    let good = temp.bytes();
    for (from, to, wanted) in [
        (starts[0], starts[1], starts[0]),
        (starts[0], starts[2], starts[0]),
        (starts[1], starts[2], starts[1]),
        (starts[1] - 5, starts[1] + 5, starts[0]),
    ] {
        let mut bad = good.clone();
        bad[from..to].fill(0);
        temp.set(&bad);
        damaged_at(&temp, wanted, &format!("zeros from {from} to {to}"));
    }
    // A good header with a bad batch and more bytes after it: not torn.
    let mut bad = good.clone();
    bad[starts[1] + BATCH_HEADER..].fill(0);
    temp.set(&bad);
    damaged_at(&temp, starts[1], &"zeros from the middle to the end");
    // Two bad batches, the last one cut off.
    for end in starts[2] + BATCH_HEADER..good.len() {
        let mut bad = good[..end].to_vec();
        bad[starts[1]] ^= 1;
        temp.set(&bad);
        damaged_at(&temp, starts[1], &format!("two bad ones, cut at {end}"));
    }
}

#[test]
fn moved_and_foreign_batches_are_rejected() {
    let same = [changes(1, 1..=1), changes(1, 6..=6)]
        .map(|batch| batch.into_iter().map(|c| LogEntry { version: version(1, 1), ..c }).collect());
    let [a, b]: [Vec<LogEntry>; 2] = same;
    let ((first, starts), (second, _)) =
        (Temp::with(&[a.clone(), changes(1, 2..=2)]), Temp::with(&[b]));
    let good = first.bytes();
    // The other file's batch has the same offset and another salt.
    let foreign = [&good[..FILE_HEADER], &second.bytes()[FILE_HEADER..]].concat();
    first.set(&foreign);
    assert_eq!(open(&first.path()).unwrap().1, []);
    // The second batch in place of the first.
    first.set(&[&good[..starts[0]], &good[starts[1]..]].concat());
    assert_eq!(open(&first.path()).unwrap().1, []);
    // A good batch of this file, after another first batch.
    first.set(&good);
    let header = FileHeader::parse(good[..FILE_HEADER].try_into().unwrap()).unwrap();
    let mut other = good.clone();
    let mut batch = good[starts[0]..starts[1] - 32].to_vec();
    batch[BATCH_HEADER + 12] ^= 1;
    let len = u32::try_from(batch.len() - BATCH_HEADER).unwrap();
    header.key().seal(&mut batch, len, 1, 60, [9; 16], &header.chain());
    other[starts[0]..starts[1]].copy_from_slice(&batch);
    first.set(&other);
    // It is the last one, so it counts as torn; the chain rejects it.
    let (opened, read) = open(&first.path()).unwrap();
    assert_eq!((opened.last(), read.len()), (version(1, 1), 1));
}

#[test]
fn sealed_nonsense_is_damage_even_at_the_end() {
    let (temp, starts) = Temp::with(&[changes(1, 1..=1)]);
    let good = temp.bytes();
    let header = FileHeader::parse(good[..FILE_HEADER].try_into().unwrap()).unwrap();
    let payload = &good[starts[0] + BATCH_HEADER..starts[1] - 32];
    let mut skipped = payload.to_vec();
    skipped[11] = 2;
    skipped[3] = 0;
    for (payload, count) in [
        (&payload[..payload.len() - 1], 1),
        (&[payload, &[0]].concat()[..], 1),
        (payload, 0),
        (payload, 2),
        (&[payload, payload].concat()[..], 2),
        (&skipped[..], 1),
    ] {
        let mut batch = [&[0; BATCH_HEADER][..], payload].concat();
        header.key().seal(
            &mut batch,
            u32::try_from(payload.len()).unwrap(),
            count,
            60,
            [9; 16],
            &header.chain(),
        );
        temp.set(&[&good[..FILE_HEADER], &batch].concat());
        damaged_at(&temp, FILE_HEADER, &format!("{count} in {} bytes", payload.len()));
    }
    let mut batch = vec![0; BATCH_HEADER + BATCH_BYTES + 1];
    header.key().seal(
        &mut batch,
        u32::try_from(BATCH_BYTES + 1).unwrap(),
        1,
        60,
        [9; 16],
        &header.chain(),
    );
    temp.set(&[&good[..FILE_HEADER], &batch].concat());
    damaged_at(&temp, FILE_HEADER, &"over the cap");
}

#[test]
fn a_hundred_thousand_changes_are_read_quickly() {
    let temp = Temp::new();
    let mut journal = open(&temp.path()).unwrap().0;
    for number in 1..=50_000 {
        journal.append(&changes(1, number..=number)).unwrap();
    }
    for batch in 0..50 {
        journal.append(&changes(1, 50_001 + batch * 1000..=51_000 + batch * 1000)).unwrap();
    }
    let chain = journal.writer.end.chain;
    drop(journal);
    let began = Instant::now();
    let (journal, read) = open(&temp.path()).unwrap();
    // A release build takes a tenth of this; the rest is for a busy machine.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!((journal.writer.end.chain, read.len()), (chain, 100_000));
}
