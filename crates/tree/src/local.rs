//! Making, replacing and removing files right in a pinned folder, by single names.
//!
//! The client keeps its received files and its own notes so, the slave its own folder. No name
//! leads out of the folder, no link is followed, and no file that has a second name is written.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;
use std::time::Instant;

use relais_proto::{FileTime, LogRateLimiter};
use rustix::fs::{
    AtFlags, FileType, FlockOperation, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps,
    fchmod, fchown, flock, fstat, futimens, mkdirat, openat, renameat, renameat_with, unlinkat,
};
use rustix::io::Errno;

use crate::error::{TreeError, UnservedKind};
use crate::folder::{Folder, OpenFile, meta_of};
use crate::meta::{Meta, MetaKind};

/// Times that a file may be replaced between opening and locking it before this gives up.
const TRIES: usize = 16;
/// Flags of every file opened here; see `resolve.rs` for the reasons.
const ALWAYS: OFlags =
    OFlags::NOFOLLOW.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);
/// Mode of a new file: for its owner alone, until it is complete and gets its own.
const NEW_FILE: Mode = Mode::from_raw_mode(0o600);
/// setuid, setgid and sticky.
const SPECIAL: u32 = 0o7000;
/// setgid.
const SETGID: u32 = 0o2000;

/// One part of a name, as the system takes it.
pub(crate) fn part(name: &OsStr) -> Result<&OsStr, TreeError> {
    match name.as_bytes() {
        b"" | b"." | b".." => Err(bad_name()),
        bytes if bytes.iter().any(|b| matches!(b, b'/' | 0)) => Err(bad_name()),
        _ => Ok(name),
    }
}

fn bad_name() -> TreeError {
    TreeError::Io("use the name", std::io::ErrorKind::InvalidInput.into())
}

/// A file that may be written: regular, with one name only.
fn own_file(file: &File) -> Result<Meta, TreeError> {
    let meta = meta_of(file.as_fd())?;
    match meta.kind {
        MetaKind::Folder => Err(TreeError::IsFolder),
        MetaKind::Link => Err(TreeError::NotServed(UnservedKind::Link)),
        MetaKind::Special => Err(TreeError::NotServed(UnservedKind::Special)),
        MetaKind::File if meta.nlink > 1 => Err(TreeError::Io(
            "use the file",
            std::io::Error::other("it has a second name, which would change with it"),
        )),
        MetaKind::File => Ok(meta),
    }
}

impl Folder {
    fn open_part(&self, name: &OsStr, flags: OFlags) -> Result<File, TreeError> {
        let opened = openat(self, part(name)?, flags | ALWAYS, NEW_FILE);
        opened.map(File::from).map_err(|e| TreeError::from_errno("open", e))
    }

    /// Opens a file for reading and writing, made where it is missing, and takes its lock. It is
    /// held until the file and all its duplicates are closed.
    ///
    /// # Errors
    /// [`TreeError::InUse`] where another process holds the lock; [`TreeError::NotServed`] or
    /// [`TreeError::IsFolder`] where the name is none of a regular file.
    pub fn create_or_open_part(&self, name: impl AsRef<OsStr>) -> Result<File, TreeError> {
        self.open_locked(part(name.as_ref())?, OFlags::CREATE)
    }

    /// As [`Self::create_or_open_part`], where the file is there already.
    ///
    /// # Errors
    /// [`TreeError::NotFound`], or as [`Self::create_or_open_part`].
    pub fn open_part_locked(&self, name: impl AsRef<OsStr>) -> Result<File, TreeError> {
        self.open_locked(part(name.as_ref())?, OFlags::empty())
    }

    fn open_locked(&self, name: &OsStr, make: OFlags) -> Result<File, TreeError> {
        for _ in 0..TRIES {
            let file = self.open_part(name, OFlags::RDWR | make)?;
            // A name that was removed between two steps is tried again.
            match meta_of(file.as_fd())?.nlink {
                0 => continue,
                _ => own_file(&file)?,
            };
            lock(&file)?;
            if self.is_named(&file, name)? {
                own_file(&file)?;
                return Ok(file);
            }
        }
        Err(TreeError::InUse)
    }

    /// Whether `name` still stands for the open `file`.
    fn is_named(&self, file: &File, name: &OsStr) -> Result<bool, TreeError> {
        let ours = meta_of(file.as_fd())?;
        match self.stat_part(name.as_bytes()) {
            Ok(there) => Ok((there.dev, there.ino) == (ours.dev, ours.ino)),
            Err(TreeError::NotFound) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Makes a file that was not there.
    ///
    /// # Errors
    /// [`TreeError::Taken`] where anything has the name, a link included.
    pub fn create_new(&self, name: impl AsRef<OsStr>) -> Result<File, TreeError> {
        self.open_part(name.as_ref(), OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)
    }

    /// As [`Self::create_new`], and takes the lock of the new file.
    ///
    /// # Errors
    /// As [`Self::create_new`]; [`TreeError::InUse`] where somebody has found and locked it at once.
    pub fn create_new_locked(&self, name: impl AsRef<OsStr>) -> Result<File, TreeError> {
        let file = self.create_new(name)?;
        lock(&file)?;
        Ok(file)
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// [`TreeError::NotFound`], [`TreeError::IsFolder`], [`TreeError::NotServed`].
    pub fn open_read(&self, name: impl AsRef<OsStr>) -> Result<OpenFile, TreeError> {
        let file = self.open_part(name.as_ref(), OFlags::RDONLY)?;
        let meta = meta_of(file.as_fd())?;
        match meta.kind {
            MetaKind::File => Ok(OpenFile { file, meta }),
            MetaKind::Folder => Err(TreeError::IsFolder),
            _ => Err(TreeError::NotServed(UnservedKind::Special)),
        }
    }

    /// Gives `from` the name `to`, which replaces a file of that name.
    ///
    /// # Errors
    /// [`TreeError::IsFolder`] where a folder has the name `to`.
    pub fn rename(&self, from: impl AsRef<OsStr>, to: impl AsRef<OsStr>) -> Result<(), TreeError> {
        let (from, to) = (part(from.as_ref())?, part(to.as_ref())?);
        // Where `from` is a folder too, the system would replace an empty folder.
        if self.stat_part(to.as_bytes()).is_ok_and(|meta| meta.kind == MetaKind::Folder) {
            return Err(TreeError::IsFolder);
        }
        renameat(self, from, self, to).map_err(|e| TreeError::from_errno("rename", e))
    }

    /// Gives `from` the name `to`, which nothing may have.
    ///
    /// # Errors
    /// [`TreeError::Taken`] where anything has the name `to`.
    pub fn rename_noreplace(
        &self,
        from: impl AsRef<OsStr>,
        to: impl AsRef<OsStr>,
    ) -> Result<(), TreeError> {
        let (from, to) = (part(from.as_ref())?, part(to.as_ref())?);
        match renameat_with(self, from, self, to, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            // Some file systems do not know the flag. A second name does the same for files.
            Err(Errno::INVAL | Errno::NOSYS) => self.link_then_unlink(from, to),
            Err(e) => Err(TreeError::from_errno("rename", e)),
        }
    }

    fn link_then_unlink(&self, from: &OsStr, to: &OsStr) -> Result<(), TreeError> {
        rustix::fs::linkat(self, from, self, to, AtFlags::empty())
            .map_err(|e| TreeError::from_errno("rename", e))?;
        self.unlink(from)
    }

    /// Removes a name that is none of a folder.
    ///
    /// # Errors
    /// [`TreeError::NotFound`], [`TreeError::IsFolder`].
    pub fn unlink(&self, name: impl AsRef<OsStr>) -> Result<(), TreeError> {
        unlinkat(self, part(name.as_ref())?, AtFlags::empty())
            .map_err(|e| TreeError::from_errno("remove", e))
    }

    /// Makes a folder right in this one.
    ///
    /// # Errors
    /// [`TreeError::Taken`] where anything has the name.
    pub fn make_folder(&self, name: impl AsRef<OsStr>, private: bool) -> Result<(), TreeError> {
        let mode = Mode::from_raw_mode(if private { 0o700 } else { 0o777 });
        mkdirat(self, part(name.as_ref())?, mode)
            .map_err(|e| TreeError::from_naming("make the folder", e))
    }

    /// Makes a folder right in this one, with exactly these permission bits. Group and setgid are those that the system gives it.
    ///
    /// # Errors
    /// [`TreeError::Taken`] where anything has the name.
    pub fn make_folder_as(
        &self,
        name: impl AsRef<OsStr>,
        mode: relais_proto::Mode,
    ) -> Result<(), TreeError> {
        let name = part(name.as_ref())?;
        mkdirat(self, name, Mode::from_raw_mode(mode.bits()))
            .map_err(|e| TreeError::from_errno("make the folder", e))?;
        let set = self.sub_of_bytes(name.as_bytes()).and_then(|made| set_mode(&made, mode));
        set.inspect_err(|_| {
            if let Err(e) = self.remove_folder(name) {
                log::warn!("a folder that did not get its mode is left behind: {e}");
            }
        })
    }

    /// Prepares a file for a name in this folder: it gets the permission bits, and in a setgid folder the folder's group, as a file
    /// that is made there. Whether anything was changed.
    ///
    /// # Errors
    /// What the system says.
    pub fn prepare(&self, file: &File, mode: relais_proto::Mode) -> Result<bool, TreeError> {
        static OTHER_GROUP: LogRateLimiter = LogRateLimiter::new();
        let failed = |e| TreeError::from_errno("set the group", e);
        let (ours, found) = (fstat(self).map_err(failed)?, fstat(file).map_err(failed)?);
        let mut changed = false;
        if ours.st_mode & SETGID != 0 && ours.st_gid != found.st_gid {
            match fchown(file, None, Some(Gid::from_raw(ours.st_gid))) {
                Ok(()) => changed = true,
                Err(Errno::PERM) => {
                    if let Some(more) = OTHER_GROUP.allow(Instant::now()) {
                        log::warn!(
                            "files in a setgid folder do not get its group {}: this program's user is not in it{more}",
                            ours.st_gid
                        );
                    }
                }
                Err(e) => return Err(failed(e)),
            }
        }
        if found.st_mode & (SPECIAL | 0o777) != mode.bits() {
            set_mode(file, mode)?;
            changed = true;
        }
        Ok(changed)
    }
}

fn lock(file: &File) -> Result<(), TreeError> {
    loop {
        return match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(()),
            Err(Errno::INTR) => continue,
            Err(Errno::WOULDBLOCK) => Err(TreeError::InUse),
            Err(e) => Err(TreeError::from_errno("lock", e)),
        };
    }
}

/// Sets the time of last modification; that of last access becomes the same.
///
/// # Errors
/// What the system says.
pub fn set_times(file: &File, mtime: FileTime) -> Result<(), TreeError> {
    let time = Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanos.into() };
    futimens(file, &Timestamps { last_access: time, last_modification: time })
        .map_err(|e| TreeError::from_errno("set the time", e))
}

/// Sets the permission bits. A file loses setuid, setgid and sticky; a folder keeps what it has of them, since the system gives
/// a folder the setgid of the folder that it is made in.
///
/// # Errors
/// What the system says.
pub fn set_mode(of: impl AsFd, mode: relais_proto::Mode) -> Result<(), TreeError> {
    let failed = |e| TreeError::from_errno("set the mode", e);
    let found = fstat(&of).map_err(failed)?.st_mode;
    let special = match FileType::from_raw_mode(found) {
        FileType::Directory => found & SPECIAL,
        _ => 0,
    };
    let wanted = mode.bits() | special;
    if wanted == found & (SPECIAL | 0o777) {
        return Ok(());
    }
    fchmod(&of, Mode::from_raw_mode(wanted)).map_err(failed)
}

/// The process's umask. The system tells it only to who sets it, so the first call sets it for a moment to the strictest that is usual.
#[must_use]
pub fn umask() -> relais_proto::Mode {
    static UMASK: OnceLock<relais_proto::Mode> = OnceLock::new();
    *UMASK.get_or_init(|| {
        let umask = rustix::process::umask(Mode::RWXG | Mode::RWXO);
        rustix::process::umask(umask);
        relais_proto::Mode::new(umask.as_raw_mode())
    })
}
