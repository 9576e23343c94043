//! The file of a journal: opens, locks, creates and writes it.
//!
//! A file gets its name after its header is on disk. So an incomplete header is damage, never the
//! result of a crash. Concurrent creators lock one temporary name; the lock stays with the file
//! when it is renamed.

use std::ffi::{OsStr, OsString};
use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::error::JournalError;
use crate::format::{FORMAT, FileHeader};

/// Attempts to open a file whose name was moved to another file meanwhile.
///
/// Another process creates a journal once, so the second attempt succeeds. A process that keeps
/// replacing the file has it in use.
const TRIES: usize = 8;

/// Opens and locks the file at `path`, or creates it with `id` in its header.
pub(super) fn open(path: &Path, id: [u8; 16]) -> Result<File, JournalError> {
    let location = JournalPath::new(path)?;
    for _ in 0..TRIES {
        if let Some(file) = location.lock(location.name, OFlags::empty())? {
            // Its creator may have stopped before the name was on disk.
            return location.sync().map(|()| file);
        }
        if let Some(file) = location.make(id)? {
            return Ok(file);
        }
    }
    Err(JournalError::InUse(path.to_owned()))
}

/// Creates a locked file with only a header beside the one at `path`, which the caller has locked.
pub(super) fn fresh(path: &Path, id: [u8; 16]) -> Result<File, JournalError> {
    let location = JournalPath::new(path)?;
    let Some(file) = location.lock(&location.temp(), OFlags::CREATE)? else {
        return Err(JournalError::InUse(path.to_owned()));
    };
    location.fill(&file, id).map_err(|error| location.io(error))?;
    Ok(file)
}

/// Renames the file that [`fresh`] created to `path`.
pub(super) fn publish(path: &Path) -> Result<(), JournalError> {
    let location = JournalPath::new(path)?;
    rustix::fs::renameat(&location.folder, location.temp(), &location.folder, location.name)
        .map_err(|error| location.io(error))?;
    location.sync()
}

/// The operations of a journal on its file. Tests use an implementation that fails.
pub(super) trait Storage {
    /// Fills `bytes` from the offset `at`.
    fn read(&self, bytes: &mut [u8], at: u64) -> io::Result<()>;
    /// Writes all of `bytes` at the offset `at`.
    fn write(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Waits until all written bytes are on disk.
    fn sync(&self) -> io::Result<()>;
    /// Truncates the file to `at` bytes.
    fn cut(&self, at: u64) -> io::Result<()>;
    /// Whether the file is still at its path, where the next process looks for it.
    fn is_in_place(&self) -> io::Result<bool>;
}

/// The open file of a journal, and its path.
#[derive(Debug)]
pub(super) struct LocatedFile {
    pub file: File,
    pub path: PathBuf,
}

impl Storage for LocatedFile {
    fn read(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(bytes, at)
    }

    fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn cut(&self, at: u64) -> io::Result<()> {
        self.file.set_len(at)
    }

    fn is_in_place(&self) -> io::Result<bool> {
        match std::fs::symlink_metadata(&self.path) {
            Ok(named) => {
                let meta = self.file.metadata()?;
                Ok((named.dev(), named.ino()) == (meta.dev(), meta.ino()))
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

struct JournalPath<'a> {
    path: &'a Path,
    folder: OwnedFd,
    name: &'a OsStr,
}

impl<'a> JournalPath<'a> {
    fn new(path: &'a Path) -> Result<Self, JournalError> {
        let name = path.file_name().ok_or_else(|| JournalError::NotRegular(path.to_owned()))?;
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let folder = rustix::fs::open(
            folder,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|error| JournalError::io(path, error))?;
        Ok(Self { path, folder, name })
    }

    fn io(&self, cause: impl Into<io::Error>) -> JournalError {
        JournalError::io(self.path, cause)
    }

    /// Opens and locks `name`; none if it is missing, or names another file after the lock.
    fn lock(&self, name: &OsStr, flags: OFlags) -> Result<Option<File>, JournalError> {
        // Without NONBLOCK a pipe at this path would block the process.
        let flags = flags
            | OFlags::RDWR
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::NOCTTY
            | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.folder, name, flags, Mode::RUSR | Mode::WUSR) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => {
                return Err(JournalError::NotRegular(self.path.to_owned()));
            }
            Err(error) => return Err(self.io(error)),
        };
        let meta = file.metadata().map_err(|error| self.io(error))?;
        if !meta.is_file() {
            return Err(JournalError::NotRegular(self.path.to_owned()));
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalError::InUse(self.path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(self.io(error)),
        }
        match rustix::fs::statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(now) => Ok((now.st_ino == meta.ino() && now.st_dev == meta.dev()).then_some(file)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.io(error)),
        }
    }

    /// The temporary name of a new file.
    fn temp(&self) -> OsString {
        let mut temp = OsString::from(self.name);
        temp.push(".new");
        temp
    }

    /// Creates the file; none if another process was faster.
    fn make(&self, id: [u8; 16]) -> Result<Option<File>, JournalError> {
        let temp = self.temp();
        let Some(file) = self.lock(&temp, OFlags::CREATE)? else { return Ok(None) };
        // Each creator holds this lock, so no other file appears before the rename.
        match rustix::fs::statat(&self.folder, self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {}
            Ok(_) => {
                return rustix::fs::unlinkat(&self.folder, &temp, AtFlags::empty())
                    .map(|()| None)
                    .map_err(|error| self.io(error));
            }
            Err(error) => return Err(self.io(error)),
        }
        self.fill(&file, id).map_err(|error| self.io(error))?;
        rustix::fs::renameat(&self.folder, &temp, &self.folder, self.name)
            .map_err(|error| self.io(error))?;
        self.sync()?;
        Ok(Some(file))
    }

    /// Writes the header. A stopped creator may have left the file with any size and mode.
    fn fill(&self, file: &File, id: [u8; 16]) -> io::Result<()> {
        rustix::fs::fchmod(file, Mode::RUSR | Mode::WUSR)?;
        file.set_len(0)?;
        file.write_all_at(
            &FileHeader { format: FORMAT, id, salt: relais_os::random()? }.encode(),
            0,
        )?;
        file.sync_all()
    }

    fn sync(&self) -> Result<(), JournalError> {
        rustix::fs::fsync(&self.folder).map_err(|error| self.io(error))
    }
}
