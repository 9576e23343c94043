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

use relais_os::display_path;
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
        let Some(file) = location.lock_new()? else { continue };
        // Each creator holds this lock, so no other file appears before the rename.
        match rustix::fs::statat(&location.folder, location.name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {
                location.fill(&file, id)?;
                return location.publish().map(|()| file);
            }
            // Another process was faster.
            Ok(_) => {
                rustix::fs::unlinkat(&location.folder, location.temp(), AtFlags::empty())
                    .map_err(|error| location.io(error))?;
            }
            Err(error) => return Err(location.io(error)),
        }
    }
    Err(JournalError::InUse(display_path(path)))
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

/// The path of a journal, and its open folder.
pub(super) struct JournalPath<'a> {
    path: &'a Path,
    folder: OwnedFd,
    name: &'a OsStr,
}

impl<'a> JournalPath<'a> {
    pub fn new(path: &'a Path) -> Result<Self, JournalError> {
        let name = path.file_name().ok_or_else(|| JournalError::NotRegular(display_path(path)))?;
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
                return Err(JournalError::NotRegular(display_path(self.path)));
            }
            Err(error) => return Err(self.io(error)),
        };
        let meta = file.metadata().map_err(|error| self.io(error))?;
        if !meta.is_file() {
            return Err(JournalError::NotRegular(display_path(self.path)));
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(JournalError::InUse(display_path(self.path)));
            }
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

    fn lock_new(&self) -> Result<Option<File>, JournalError> {
        self.lock(&self.temp(), OFlags::CREATE)
    }

    /// Creates a locked file with only a header beside the present one, which the caller has
    /// locked.
    pub fn fresh(&self, id: [u8; 16]) -> Result<File, JournalError> {
        let file = self.lock_new()?.ok_or_else(|| JournalError::InUse(display_path(self.path)))?;
        self.fill(&file, id).map(|()| file)
    }

    /// Writes the header. A stopped creator may have left the file with any size and mode.
    fn fill(&self, file: &File, id: [u8; 16]) -> Result<(), JournalError> {
        let fill = || {
            rustix::fs::fchmod(file, Mode::RUSR | Mode::WUSR)?;
            file.set_len(0)?;
            let header = FileHeader { format: FORMAT, id, salt: relais_os::random()? };
            file.write_all_at(&header.encode(), 0)?;
            file.sync_all()
        };
        fill().map_err(|error| self.io(error))
    }

    /// Gives the new file the name of the journal; on disk when this returns.
    pub fn publish(&self) -> Result<(), JournalError> {
        rustix::fs::renameat(&self.folder, self.temp(), &self.folder, self.name)
            .map_err(|error| self.io(error))?;
        self.sync()
    }

    fn sync(&self) -> Result<(), JournalError> {
        rustix::fs::fsync(&self.folder).map_err(|error| self.io(error))
    }
}
