//! Creation, locking and binding of the file, and rejection of other files.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::Barrier;

use rustix::fs::{CWD, FileType, Mode};

use super::*;
use crate::format::{FORMAT, FileHeader};

#[test]
fn is_created_with_mode_0600_and_no_other_file() {
    let temp = Temp::new();
    // Left by a creator that was stopped.
    std::fs::write(temp.dir.path().join("journal.new"), [1; 500]).unwrap();
    std::fs::set_permissions(temp.dir.path().join("journal.new"), PermissionsExt::from_mode(0o644))
        .unwrap();
    let (journal, read) = open(&temp.path()).unwrap();
    assert_eq!((journal.last(), read.len()), (version(0, 0), 0));
    let meta = temp.path().metadata().unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.len()), (0o600, 60));
    assert_eq!(std::fs::read_dir(temp.dir.path()).unwrap().count(), 1);
    let before = temp.bytes();
    drop(journal);
    open(&temp.path()).unwrap();
    assert!(temp.bytes() == before, "opening an empty journal again changes nothing");
}

#[test]
fn a_second_open_is_refused() {
    let temp = Temp::new();
    let mut first = open(&temp.path()).unwrap().0;
    let error = open(&temp.path()).map(drop).unwrap_err();
    assert!(matches!(&error, JournalError::InUse(path) if *path == temp.path()), "{error}");
    first.append(&changes(1, 1..=2)).unwrap();
    drop(first);
    assert_eq!(open(&temp.path()).unwrap().1.len(), 2);
}

#[test]
fn concurrent_creators_get_one_file() {
    for _ in 0..50 {
        let temp = Temp::new();
        let (start, end) = (Barrier::new(8), Barrier::new(8));
        let won = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        let opened = open(&temp.path());
                        end.wait();
                        match opened {
                            Ok((mut journal, _)) => journal.append(&changes(1, 1..=1)).is_ok(),
                            Err(JournalError::InUse(_)) => false,
                            Err(other) => panic!("{other}"),
                        }
                    })
                })
                .collect();
            threads.into_iter().map(|thread| usize::from(thread.join().unwrap())).sum::<usize>()
        });
        assert_eq!(won, 1);
        assert_eq!(open(&temp.path()).unwrap().1.len(), won);
    }
}

#[test]
fn processes_that_open_and_close_take_turns() {
    for _ in 0..100 {
        let temp = Temp::new();
        let start = Barrier::new(8);
        let turn = || {
            start.wait();
            match open(&temp.path()) {
                Ok((mut journal, read)) => {
                    let next = read.len() as u64 + 1;
                    journal.append(&changes(1, next..=next)).unwrap();
                    1
                }
                Err(JournalError::InUse(_)) => 0,
                Err(other) => panic!("{other}"),
            }
        };
        let turns: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(turn)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(open(&temp.path()).unwrap().1.len(), turns);
        assert!(turns > 0 && std::fs::read_dir(temp.dir.path()).unwrap().count() == 1);
    }
}

#[test]
fn a_journal_of_another_id_is_rejected() {
    let (temp, _) = Temp::with(&[changes(1, 1..=3)]);
    let before = temp.bytes();
    let error = FileJournal::open(&temp.path(), [0xab; 16]).unwrap_err();
    assert!(matches!(error, JournalError::Foreign { .. }));
    let text = error.to_string();
    assert!(
        text.contains("30313233343536373839616263646566") && text.contains(&"ab".repeat(16)),
        "{text}"
    );
    assert!(temp.bytes() == before);
}

#[test]
fn another_format_is_rejected() {
    for format in [FORMAT - 1, FORMAT + 1] {
        let temp = Temp::new();
        temp.set(&FileHeader { format, id: ID, salt: [0; 16] }.encode());
        assert!(matches!(refused(&temp), JournalError::Format { found, .. } if found == format));
    }
}

#[test]
fn other_kinds_of_files_are_rejected_at_once() {
    let temp = Temp::new();
    let other = temp.dir.path().join("other");
    std::fs::write(&other, "precious").unwrap();
    symlink(&other, temp.path()).unwrap();
    assert!(matches!(open(&temp.path()), Err(JournalError::NotRegular(_))));
    let new = temp.dir.path().join("second");
    symlink(&other, temp.dir.path().join("second.new")).unwrap();
    assert!(matches!(open(&new), Err(JournalError::NotRegular(_))));
    assert_eq!(std::fs::read(&other).unwrap(), b"precious");
    let pipe = temp.dir.path().join("pipe");
    rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    assert!(matches!(open(&pipe), Err(JournalError::NotRegular(_))));
    let socket = temp.dir.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    assert!(matches!(open(&socket), Err(JournalError::NotRegular(_))));
    assert!(matches!(open(temp.dir.path()), Err(JournalError::NotRegular(_))));
    assert!(matches!(open(Path::new("/")), Err(JournalError::NotRegular(_))));
    assert!(matches!(open(&temp.dir.path().join("no/folder")), Err(JournalError::Io { .. })));
}

#[test]
fn an_incomplete_header_is_damage() {
    let (temp, _) = Temp::with(&[changes(1, 1..=1)]);
    let good = temp.bytes();
    for len in 0..60 {
        temp.set(&good[..len]);
        assert!(matches!(refused(&temp), JournalError::Damaged { offset: 0, .. }), "{len}");
    }
    for bit in 0..60 * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        temp.set(&bad);
        assert!(matches!(refused(&temp), JournalError::Damaged { offset: 0, .. }), "bit {bit}");
    }
}

#[test]
fn nothing_is_stored_in_a_file_that_lost_its_name() {
    type Step = fn(&Path);
    let steps: [Step; 3] = [
        |path| std::fs::remove_file(path).unwrap(),
        |path| std::fs::rename(path, path.with_extension("old")).unwrap(),
        |path| {
            let copy = path.with_extension("copy");
            std::fs::copy(path, &copy).unwrap();
            std::fs::rename(copy, path).unwrap();
        },
    ];
    for step in steps {
        let (temp, _) = Temp::with(&[changes(1, 1..=3)]);
        let mut journal = open(&temp.path()).unwrap().0;
        step(&temp.path());
        let error = journal.append(&changes(1, 4..=4)).unwrap_err();
        assert!(matches!(&error, JournalError::Gone(path) if *path == temp.path()), "{error}");
        assert!(error.to_string().contains("removed or replaced"), "{error}");
        assert!(matches!(journal.append(&changes(1, 4..=4)), Err(JournalError::Failed(_))));
    }
}

#[test]
fn nothing_is_stored_in_a_moved_folder() {
    let temp = Temp::new();
    let (folder, moved) = (temp.dir.path().join("state"), temp.dir.path().join("moved"));
    std::fs::create_dir(&folder).unwrap();
    let mut journal = open(&folder.join("journal")).unwrap().0;
    journal.append(&changes(1, 1..=1)).unwrap();
    std::fs::rename(&folder, &moved).unwrap();
    assert!(matches!(journal.append(&changes(1, 2..=2)), Err(JournalError::Gone(_))));
    drop(journal);
    let (mut journal, read) = open(&moved.join("journal")).unwrap();
    assert_eq!(read, changes(1, 1..=1), "the refused batch is not in it");
    std::fs::remove_dir_all(&moved).unwrap();
    assert!(matches!(journal.append(&changes(1, 2..=2)), Err(JournalError::Gone(_))));
}

#[test]
fn a_folder_that_is_open_may_be_moved() {
    use std::os::fd::AsRawFd;

    let temp = Temp::new();
    let (folder, moved) = (temp.dir.path().join("state"), temp.dir.path().join("moved"));
    std::fs::create_dir(&folder).unwrap();
    let opened = std::fs::File::open(&folder).unwrap();
    let path = PathBuf::from(format!("/proc/self/fd/{}/journal", opened.as_raw_fd()));
    let mut journal = open(&path).unwrap().0;
    std::fs::rename(&folder, &moved).unwrap();
    journal.append(&changes(1, 1..=1)).unwrap();
    drop(journal);
    assert_eq!(open(&moved.join("journal")).unwrap().1, changes(1, 1..=1));
}

#[test]
fn each_opening_has_its_own_timeline() {
    let temp = Temp::new();
    let mut journal = open(&temp.path()).unwrap().0;
    let first = journal.timeline();
    assert_eq!(journal.initial_timelines(), []);
    journal.append(&changes(1, 1..=2)).unwrap();
    journal.append(&changes(1, 3..=3)).unwrap();
    drop(journal);
    let second = open(&temp.path()).unwrap().0.timeline();
    let mut journal = open(&temp.path()).unwrap().0;
    let third = journal.timeline();
    journal.append(&changes(1, 4..=4)).unwrap();
    let fourth = journal.begin_timeline().unwrap();
    journal.truncate().unwrap();
    assert_eq!(journal.timeline(), fourth);
    journal.append(&changes(2, 1..=1)).unwrap();
    assert!(first != second && second != third && third != fourth);
    drop(journal);
    let after = |epoch, number, id| relais_proto::Timeline { after: version(epoch, number), id };
    assert_eq!(open(&temp.path()).unwrap().0.initial_timelines(), [after(2, 0, fourth)]);
    let temp = Temp::new();
    let ids = [1, 2].map(|n| {
        let mut journal = open(&temp.path()).unwrap().0;
        journal.append(&changes(1, 2 * n - 1..=2 * n)).unwrap();
        journal.timeline()
    });
    assert_eq!(
        open(&temp.path()).unwrap().0.initial_timelines(),
        [after(1, 0, ids[0]), after(1, 2, ids[1])]
    );
}

#[test]
fn a_truncated_journal_stays_locked() {
    let (temp, _) = Temp::with(&[changes(1, 1..=3)]);
    let (mut journal, _) = open(&temp.path()).unwrap();
    // A file that a crash left under the temporary name is replaced.
    std::fs::write(temp.dir.path().join("journal.new"), "rubbish").unwrap();
    journal.truncate().unwrap();
    assert!(matches!(open(&temp.path()), Err(JournalError::InUse(_))));
    journal.append(&changes(1, 4..=6)).unwrap();
    drop(journal);
    assert_eq!(open(&temp.path()).unwrap().1, changes(1, 4..=6));
    assert_eq!(std::fs::read_dir(temp.dir.path()).unwrap().count(), 1);
}

#[test]
fn a_failed_truncation_keeps_the_old_journal() {
    let (temp, _) = Temp::with(&[changes(1, 1..=3)]);
    let (mut journal, _) = open(&temp.path()).unwrap();
    std::fs::create_dir(temp.dir.path().join("journal.new")).unwrap();
    assert!(journal.truncate().is_err());
    journal.append(&changes(1, 4..=4)).unwrap();
    drop(journal);
    assert_eq!(open(&temp.path()).unwrap().1, changes(1, 1..=4));
}
