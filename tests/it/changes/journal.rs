//! The journal of a standalone slave: torn ends, damage, and the rebuild of the catalogue.
//!
//! A torn end was never acknowledged and is dropped. Damage before the end stops the start. The
//! catalogue can be rebuilt from the journal.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;

use relais_proto::{Lsn, Reply, Request};

use super::{journal_of, open, tree, with_files};
use crate::harness::{
    ProgramBuilder, RawClient, SOON, Standalone, content, eventually, make_folder, path, put,
    remove, rename, resume,
};

#[track_caller]
fn version_at(wire: &mut RawClient, name: &str) -> Option<Lsn> {
    match wire.ask(&Request::Stat(path(name))) {
        Reply::Details { entry, .. } => entry.version,
        other => panic!("{other:?}"),
    }
}

/// Returns a killed slave with some changes, its files and its last change.
fn killed() -> (Standalone, Vec<(String, Vec<u8>)>, Lsn) {
    let mut slave = with_files(&[], &[("f", b"one"), ("folder/x", b"two")]);
    let last = open(&slave).put("g", b"three").unwrap();
    let before = tree(&slave.root);
    slave.program.kill();
    (slave, before, last)
}

#[test]
fn a_torn_end_is_dropped() {
    // Of any length, of zeros, and like the beginning of a record.
    for torn in [vec![0; 1], vec![0; 4096], vec![0xff; 7], content(1, 100), content(2, 5000)] {
        let (mut slave, before, last) = killed();
        File::options().append(true).open(journal_of(&slave)).unwrap().write_all(&torn).unwrap();
        slave.restart();
        let mut wire = open(&slave);
        assert_eq!(tree(&slave.root), before);
        assert_eq!(version_at(&mut wire, "g"), Some(last));
        let next = wire.put("h", b"four").unwrap();
        assert_eq!((next.epoch, next.number), (last.epoch, last.number + 1));
        // Later changes survive the next start.
        slave.program.kill();
        slave.restart();
        assert_eq!(version_at(&mut open(&slave), "h"), Some(next));
    }
}

/// A disk that loses the end of a synced batch: its change was acknowledged.
#[test]
fn acknowledged_changes_of_a_torn_batch_are_restored() {
    let (mut slave, before, last) = killed();
    let journal = File::options().write(true).open(journal_of(&slave)).unwrap();
    journal.set_len(journal.metadata().unwrap().len() - 1).unwrap();
    slave.restart();
    let mut wire = open(&slave);
    assert_eq!(tree(&slave.root), before);
    assert_eq!(version_at(&mut wire, "g"), Some(last));
    let next = wire.put("h", b"four").unwrap();
    assert!(next > last, "{next} after {last}");
    slave.program.stderr.wait_for(SOON, "a true message", |log| {
        log.contains("the journal gets the changes of the catalogue").then_some(())
    });
    assert!(!slave.program.stderr.text().contains("never acknowledged"));
    slave.program.kill();
    slave.restart();
    let mut wire = open(&slave);
    assert_eq!((version_at(&mut wire, "g"), version_at(&mut wire, "h")), (Some(last), Some(next)));
}

#[test]
fn status_shows_that_no_changes_are_taken() {
    let (mut slave, ..) = killed();
    slave.restart();
    let mut wire = open(&slave);
    wire.put("h", b"1").unwrap();
    fs::remove_file(journal_of(&slave)).unwrap();
    wire.put("i", b"2").unwrap_err();
    let client = slave.client();
    eventually(SOON, "status shows it", || {
        let json = client.command("status").ok().json();
        json["last_error"].as_str()?.contains("no changes are taken").then_some(())
    });
    // The next start takes changes again.
    drop(wire);
    slave.program.kill();
    slave.restart();
    open(&slave).put("i", b"2").unwrap();
    assert!(slave.client().command("status").ok().json()["last_error"].is_null());
}

#[test]
fn damage_in_the_middle_stops_the_start_and_is_named() {
    let (mut slave, ..) = killed();
    let journal = journal_of(&slave);
    let good = fs::read(&journal).unwrap();
    let file = File::options().write(true).open(&journal).unwrap();
    for at in [good.len() / 3, good.len() / 2] {
        file.write_all_at(&[good[at] ^ 1], at as u64).unwrap();
        let mut program = ProgramBuilder::new("ftpslave", slave.dir.path())
            .args(["0", "--standalone", "--root", slave.root.to_str().unwrap(), "--state"])
            .args([slave.dir.folder("state")])
            .start();
        assert_eq!(program.wait(SOON), 1, "damaged at {at}");
        program.stderr.wait_for(SOON, "the damage is named", |said| {
            (said.contains("journal") && said.contains("damaged")).then_some(())
        });
        assert_eq!(program.stdout.text(), "", "no client was invited");
        file.write_all_at(&good[at..=at], at as u64).unwrap();
    }
    // The start did not modify the journal: once it is repaired, the slave starts.
    assert!(fs::read(&journal).unwrap() == good);
    slave.restart();
    open(&slave).put("h", b"1").unwrap();
}

#[test]
fn the_catalogue_is_rebuilt_from_folder_and_journal() {
    let mut slave = with_files(
        &[],
        &[
            ("f", b"one"),
            ("folder/x", b"two"),
            ("gone", b"1"),
            ("moved", b"three"),
            ("tree/sub/y", b"four"),
        ],
    );
    let mut wire = open(&slave);
    let bytes = content(3, 100_000);
    let request = put("f", bytes.len());
    let changes = [
        make_folder("made"),
        remove("gone", false),
        rename("moved", "folder/moved"),
        rename("tree", "wood"),
    ];
    wire.upload(&request, &bytes).unwrap();
    let numbers: Vec<Lsn> = changes.iter().map(|change| wire.change(change).unwrap()).collect();
    let names = ["f", "folder", "folder/x", "folder/moved", "made", "wood", "wood/sub/y"];
    let before: Vec<Option<Lsn>> = names.iter().map(|name| version_at(&mut wire, name)).collect();
    assert!(before[0].is_some() && before[4] == Some(numbers[0]), "{before:?}");
    slave.program.kill();
    for file in fs::read_dir(slave.root.join(".relais")).unwrap().map(|entry| entry.unwrap()) {
        if file.file_name().to_str().unwrap().starts_with("catalogue.db") {
            fs::remove_file(file.path()).unwrap();
        }
    }
    slave.restart();
    let mut wire = open(&slave);
    // Until the scan of the folder is complete, no file has its number.
    let began = std::time::Instant::now();
    let mut after = Vec::new();
    while after != before && began.elapsed() < std::time::Duration::from_secs(10) {
        after = names.iter().map(|name| version_at(&mut wire, name)).collect();
    }
    assert_eq!(after, before);
    // No number is assigned twice, and no change is made twice.
    for (change, number) in changes.iter().zip(&numbers) {
        assert_eq!(wire.change(change), Ok(*number), "{change:?}");
    }
    assert!(matches!(
        wire.ask(&resume(&request)),
        Reply::Committed { version, .. }
            if Some(version) == before[0]
    ));
    assert!(wire.put("new", b"1").unwrap() > *numbers.last().unwrap());
}

#[test]
fn a_lost_or_old_journal_is_rebuilt_from_the_catalogue() {
    let mut slave = with_files(&[], &[("f", b"one"), ("folder/x", b"two")]);
    let journal = journal_of(&slave);
    for restored in [Some(fs::read(&journal).unwrap()), None] {
        let last = open(&slave).put("g", b"three").unwrap();
        let before = tree(&slave.root);
        slave.program.kill();
        match restored {
            Some(old) => fs::write(&journal, old).unwrap(),
            None => fs::remove_file(&journal).unwrap(),
        }
        slave.restart();
        let mut wire = open(&slave);
        assert_eq!(tree(&slave.root), before);
        assert_eq!(version_at(&mut wire, "g"), Some(last));
        // No number is given twice.
        let next = wire.put("h", b"four").unwrap();
        assert!(next.epoch > last.epoch, "{next} after {last}");
        slave.program.kill();
        slave.restart();
        assert_eq!(version_at(&mut open(&slave), "h"), Some(next));
    }
}

#[test]
fn edits_while_the_catalogue_was_lost_become_changes() {
    let mut slave = with_files(&[], &[("f", b"one"), ("folder/x", b"two"), ("kept", b"three")]);
    let mut wire = open(&slave);
    let kept = version_at(&mut wire, "kept");
    let last = wire.put("last", b"1").unwrap();
    slave.program.kill();
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(slave.root.join(format!(".relais/catalogue.db{end}")));
    }
    fs::write(slave.root.join("f"), "edited").unwrap();
    fs::remove_dir_all(slave.root.join("folder")).unwrap();
    fs::write(slave.root.join("new"), "new").unwrap();
    slave.restart();
    let mut wire = open(&slave);
    for name in ["f", "new"] {
        eventually(SOON, name, || (version_at(&mut wire, name)? > last).then_some(()));
    }
    assert_eq!(wire.fetch("f").unwrap(), b"edited");
    assert_eq!(wire.fetch("new").unwrap(), b"new");
    assert!(wire.fetch("folder/x").is_err() && !slave.root.join("folder").exists());
    eventually(SOON, "the number", || (version_at(&mut wire, "kept") == kept).then_some(()));
    wire.change(&make_folder("folder")).unwrap();
}

#[test]
fn removed_content_leaves_the_disk() {
    let mut slave = with_files(&[], &[("tree/a/b/c", b"1"), ("tree/d", b"2"), ("f", b"3")]);
    let mut wire = open(&slave);
    let removed = slave.root.join(".relais/removed");
    let is_empty = || fs::read_dir(&removed).map_or(true, |mut entries| entries.next().is_none());
    wire.change(&remove("tree", true)).unwrap();
    eventually(SOON, "the content is off the disk", || is_empty().then_some(()));
    // Also if the slave dies before the deletion.
    for n in 0..20 {
        wire.change(&make_folder(&format!("tree{n}"))).unwrap();
        wire.put(&format!("tree{n}/x"), b"1").unwrap();
    }
    for n in 0..20 {
        wire.change(&remove(&format!("tree{n}"), true)).unwrap();
    }
    slave.program.kill();
    slave.restart();
    eventually(SOON, "the content is off the disk", || is_empty().then_some(()));
    assert_eq!(tree(&slave.root).len(), 1);
}

#[test]
fn a_shortened_journal_keeps_all_numbers_and_ids() {
    let mut slave = with_files(&[], &[("f", b"one")]);
    let mut wire = open(&slave);
    // Paths so long that a few hundred changes fill the journal.
    let mut folder = "d".repeat(250);
    wire.change(&make_folder(&folder)).unwrap();
    while folder.len() < 3500 {
        folder = format!("{folder}/{}", "d".repeat(250));
        wire.change(&make_folder(&folder)).unwrap();
    }
    let (a, b) = (format!("{folder}/a"), format!("{folder}/b"));
    let kept = wire.put(&a, b"two").unwrap();
    let again = put("g", 5);
    let asked = wire.upload(&again, b"three").unwrap();
    let size = |slave: &Standalone| fs::metadata(journal_of(slave)).unwrap().len();
    let mut longest = 0;
    for round in 0..700 {
        let (from, to) = if round % 2 == 0 { (&a, &b) } else { (&b, &a) };
        wire.send(&[rename(from, to), rename(to, from), rename(from, to)]);
        for _ in 0..3 {
            wire.committed().unwrap();
        }
        longest = longest.max(size(&slave));
        if size(&slave) < longest {
            break;
        }
    }
    assert!((7 << 20..9 << 20).contains(&longest), "{longest} bytes");
    assert!(size(&slave) < 1 << 20, "the journal was shortened");
    let last = wire.put("h", b"four").unwrap();
    let at = if slave.root.join(&a).exists() { &a } else { &b };
    let moved = version_at(&mut wire, at);
    assert!(moved > Some(kept));
    // The catalogue may be removed: numbers and ids come from snapshot and journal.
    slave.program.kill();
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(slave.root.join(format!(".relais/catalogue.db{end}")));
    }
    slave.restart();
    let mut wire = open(&slave);
    eventually(SOON, "the numbers are restored", || {
        (version_at(&mut wire, at) == moved).then_some(())
    });
    assert_eq!(version_at(&mut wire, "h"), Some(last));
    assert_eq!(wire.upload(&again, b"three"), Ok(asked), "the change was made before");
    let next = wire.put("i", b"five").unwrap();
    assert_eq!((next.epoch, next.number), (last.epoch, last.number + 1));
}
