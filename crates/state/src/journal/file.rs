//! Opening, locking and making the journal's file.
//!
//! A file gets its name only once its header is on disk, so a header that is not whole is damage and never a crash while
//! it was made. Makers meet at one temporary name and lock it; the lock goes with the file when it is renamed.

use std::ffi::{OsStr, OsString};
use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::JournalError;
use super::format::{FORMAT, FileHeader};

/// How often to look again where the name came to mean another file meanwhile. Others make a journal once, so the second
/// look is good; whoever keeps replacing the file has it in use.
const TRIES: usize = 8;

/// The file at `path`, locked; made, with `id` in its header, where nothing was.
pub(super) fn open(path: &Path, id: [u8; 16]) -> Result<File, JournalError> {
    let place = Place::new(path)?;
    for _ in 0..TRIES {
        if let Some(file) = place.lock(place.name, OFlags::empty())? {
            // Whoever made it may have stopped before the name was on disk.
            return place.sync().map(|()| file);
        }
        if let Some(file) = place.make(id)? {
            return Ok(file);
        }
    }
    Err(JournalError::InUse(path.to_owned()))
}

/// Makes a file with nothing but its header, locked, beside the one at `path`, whose lock the caller has.
pub(super) fn fresh(path: &Path, id: [u8; 16]) -> Result<File, JournalError> {
    let place = Place::new(path)?;
    let Some(file) = place.lock(&place.temp(), OFlags::CREATE)? else {
        return Err(JournalError::InUse(path.to_owned()));
    };
    place.fill(&file, id).map_err(|error| place.io(error))?;
    Ok(file)
}

/// Puts what [`fresh`] has made in place of the file at `path`.
pub(super) fn put_in_place(path: &Path) -> Result<(), JournalError> {
    let place = Place::new(path)?;
    rustix::fs::renameat(&place.folder, place.temp(), &place.folder, place.name)
        .map_err(|error| place.io(error))?;
    place.sync()
}

/// Where a journal's file has its name.
#[derive(Debug)]
pub(super) struct Named {
    folder: OwnedFd,
    name: OsString,
}

impl Named {
    /// The place of the file at `path`.
    pub fn of(path: &Path) -> Result<Self, JournalError> {
        let place = Place::new(path)?;
        Ok(Self { name: place.name.to_owned(), folder: place.folder })
    }

    /// Whether `file` still has its name in the folder that it was opened in, wherever that folder is by now.
    pub fn is(&self, file: &File) -> io::Result<bool> {
        match rustix::fs::statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(named) => is_same(&named, &rustix::fs::fstat(file)?),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the folder still is the one that holds `path`.
    pub fn is_at(&self, path: &Path) -> io::Result<bool> {
        let now = match Place::new(path) {
            Ok(place) => place,
            Err(JournalError::Io { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {
                return Ok(false);
            }
            Err(error) => return Err(io::Error::other(error)),
        };
        is_same(&rustix::fs::fstat(&now.folder)?, &rustix::fs::fstat(&self.folder)?)
    }
}

fn is_same(one: &Stat, other: &Stat) -> io::Result<bool> {
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

struct Place<'a> {
    path: &'a Path,
    folder: OwnedFd,
    name: &'a OsStr,
}

impl<'a> Place<'a> {
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

    /// Opens and locks `name`; none where it is not there, or not the name of that file any more once it is locked.
    fn lock(&self, name: &OsStr, flags: OFlags) -> Result<Option<File>, JournalError> {
        // Without NONBLOCK a pipe in this place could hold us for ever.
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

    /// The name under which a file is made.
    fn temp(&self) -> OsString {
        let mut temp = OsString::from(self.name);
        temp.push(".new");
        temp
    }

    /// Makes the file; none where another was quicker.
    fn make(&self, id: [u8; 16]) -> Result<Option<File>, JournalError> {
        let temp = self.temp();
        let Some(file) = self.lock(&temp, OFlags::CREATE)? else { return Ok(None) };
        // Whoever makes the journal holds this lock, so what is not there now does not come before the rename.
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

    /// The name may be left from one who was stopped here, so size and mode may be anything.
    fn fill(&self, file: &File, id: [u8; 16]) -> io::Result<()> {
        rustix::fs::fchmod(file, Mode::RUSR | Mode::WUSR)?;
        file.set_len(0)?;
        file.write_all_at(&FileHeader { format: FORMAT, id, salt: crate::random()? }.encode(), 0)?;
        file.sync_all()
    }

    fn sync(&self) -> Result<(), JournalError> {
        rustix::fs::fsync(&self.folder).map_err(|error| self.io(error))
    }
}
