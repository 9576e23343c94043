use super::*;

#[test]
fn a_reset_journal_takes_any_number_and_stays_locked() {
    let (temp, _) = Temp::with(&[changes(1, 1..=3)]);
    let (mut journal, _) = open(&temp.path()).unwrap();
    let before = journal.size();
    // A file that a crash left under the temporary name is replaced.
    std::fs::write(temp.dir.path().join("journal.new"), "rubbish").unwrap();
    journal.reset().unwrap();
    assert!(journal.size() < before && journal.last() == Lsn::default());
    assert!(matches!(open(&temp.path()), Err(JournalError::InUse(_))));
    journal.append(&changes(1, 4..=6)).unwrap();
    drop(journal);
    assert_eq!(open(&temp.path()).unwrap().1, changes(1, 4..=6));
    assert_eq!(std::fs::read_dir(temp.dir.path()).unwrap().count(), 1);
}

#[test]
fn a_failed_reset_keeps_the_old_journal() {
    let (temp, _) = Temp::with(&[changes(1, 1..=3)]);
    let (mut journal, _) = open(&temp.path()).unwrap();
    std::fs::create_dir(temp.dir.path().join("journal.new")).unwrap();
    assert!(journal.reset().is_err());
    journal.append(&changes(1, 4..=4)).unwrap();
    drop(journal);
    assert_eq!(open(&temp.path()).unwrap().1, changes(1, 1..=4));
}

#[test]
fn a_reader_sees_the_changes_stored_at_its_creation() {
    let (temp, _) = Temp::with(&[changes(1, 1..=3)]);
    let (mut journal, _) = open(&temp.path()).unwrap();
    let reader = journal.reader().unwrap();
    journal.append(&changes(1, 4..=6)).unwrap();
    let all = journal.reader().unwrap();
    journal.reset().unwrap();
    for (reader, last) in [(&reader, 3), (&all, 6), (&reader, 3)] {
        let mut read = Vec::new();
        reader
            .read(&mut |change| {
                read.push(change);
                Ok(())
            })
            .unwrap();
        assert_eq!(read, changes(1, 1..=last));
    }
}
