//! Helpers of the journal's tests.

mod append;
mod files;
mod implementations;
mod memory_journal;
mod random;
mod recovery;

use std::path::{Path, PathBuf};

use relais_proto::{Change, ChangeId, Digest, FileTime, LogEntry, Lsn, Mode, TreePath};

use crate::{FileJournal, Journal, JournalError};

const ID: [u8; 16] = *b"0123456789abcdef";

fn version(epoch: u32, number: u64) -> Lsn {
    Lsn { epoch, number }
}

fn change(epoch: u32, number: u64) -> LogEntry {
    let path = |text: String| TreePath::new(&text).unwrap();
    let change = match number % 5 {
        0 => Change::Put {
            path: path(format!("a/file {number}")),
            size: number,
            digest: Digest([7; 32]),
            mtime: FileTime { seconds: -5, nanos: 999_999_999 },
            mode: Mode::new(0o755),
        },
        1 => Change::MakeFolder { path: path(format!("folder{number}")), mode: Mode::new(0o755) },
        2 => Change::Remove { path: path("a/b".to_owned()), recursive: true },
        3 => Change::Move { from: path("a".to_owned()), to: path(format!("b{number}")) },
        _ => Change::Withdraw { of: version(epoch, number - 1) },
    };
    LogEntry {
        version: version(epoch, number),
        id: ChangeId([3; 16]),
        time_ms: 1_700_000_000_000 + number,
        change,
    }
}

fn changes(epoch: u32, numbers: std::ops::RangeInclusive<u64>) -> Vec<LogEntry> {
    numbers.map(|number| change(epoch, number)).collect()
}

/// A journal file whose content the test may change.
struct Temp {
    dir: tempfile::TempDir,
}

impl Temp {
    fn new() -> Self {
        // In memory if possible, because thousands of syncs to a disk take minutes.
        let shm = Path::new("/dev/shm");
        let dir = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() };
        Self { dir: dir.unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("journal")
    }

    /// Makes a journal with these batches; also returns their offsets and the end of the last.
    fn with(batches: &[Vec<LogEntry>]) -> (Self, Vec<usize>) {
        let temp = Self::new();
        let mut journal = open(&temp.path()).unwrap().0;
        let mut starts = vec![temp.bytes().len()];
        for batch in batches {
            journal.append(batch).unwrap();
            starts.push(temp.bytes().len());
        }
        (temp, starts)
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.path()).unwrap()
    }

    fn set(&self, bytes: &[u8]) {
        std::fs::write(self.path(), bytes).unwrap();
    }
}

fn entries(journal: &dyn Journal, after: Lsn) -> Vec<LogEntry> {
    journal.read(after).unwrap().map(Result::unwrap).collect()
}

fn open(path: &Path) -> Result<(FileJournal, Vec<LogEntry>), JournalError> {
    let journal = FileJournal::open(path, ID)?;
    let read = entries(&journal, Lsn::default());
    Ok((journal, read))
}

/// Returns the error of an open that must fail and leave the file unchanged.
fn refused(temp: &Temp) -> JournalError {
    let before = temp.bytes();
    let error = open(&temp.path()).map(|(_, read)| read.len()).expect_err("it opened");
    assert!(temp.bytes() == before, "an open that fails leaves the file alone");
    assert!(error.to_string().contains(temp.path().to_str().unwrap()), "{error}");
    error
}
