//! Makes, replaces and removes files directly in a pinned folder, by single names.
//!
//! The client keeps received files and its own state this way, and the slave its own folder. No
//! name leads out of the folder, no link is followed, and no file with a second name is written.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;
use std::time::Instant;

use relais_proto::{FileTime, LogRateLimiter};
use rustix::fs::{
    AtFlags, FileType, FlockOperation, Gid, Mode, OFlags, Timespec, Timestamps, fchmod, fchown,
    flock, fstat, futimens, mkdirat, openat, renameat, unlinkat,
};
use rustix::io::Errno;

use crate::error::TreeError;
use crate::folder::{Folder, OpenFile, meta_of};
use crate::meta::{Meta, MetaKind};

/// Attempts to open and lock a file that is replaced in between.
const TRIES: usize = 16;
/// Flags of every opened file; `resolve.rs` has the reasons.
const ALWAYS: OFlags =
    OFlags::NOFOLLOW.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);
/// Mode of a new file: only for its owner, until it is complete and gets its own mode.
const NEW_FILE: Mode = Mode::from_raw_mode(0o600);
/// Bits of setuid, setgid and sticky.
const SPECIAL: u32 = 0o7000;
/// The setgid bit.
const SETGID: u32 = 0o2000;

/// Checks one part of a name and returns it for a system call.
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

/// Checks that a file may be written: it is regular and has one name only.
fn check_own(meta: &Meta) -> Result<(), TreeError> {
    meta.check_file()?;
    if meta.nlink > 1 {
        let reason = "it has a second name, which would change with it";
        return Err(TreeError::Io("use the file", std::io::Error::other(reason)));
    }
    Ok(())
}

impl Folder {
    fn open_part(&self, name: &OsStr, flags: OFlags) -> Result<File, TreeError> {
        let opened = openat(self, part(name)?, flags | ALWAYS, NEW_FILE);
        let operation = if flags.contains(OFlags::CREATE) { "create the file" } else { "open" };
        opened.map(File::from).map_err(|e| TreeError::from_errno(operation, e))
    }

    /// Opens or makes a file for reading and writing, and locks it.
    ///
    /// The lock is held until the file and all its duplicates are closed.
    ///
    /// # Errors
    /// [`TreeError::InUse`] if another process holds the lock; [`TreeError::NotServed`] or
    /// [`TreeError::IsFolder`] if the name is not of a regular file.
    pub fn create_or_open_part(&self, name: impl AsRef<OsStr>) -> Result<File, TreeError> {
        self.open_locked(name.as_ref(), OFlags::CREATE)
    }

    /// Opens and locks an existing file like [`Self::create_or_open_part`].
    ///
    /// # Errors
    /// [`TreeError::NotFound`], or as for [`Self::create_or_open_part`].
    pub fn open_part_locked(&self, name: impl AsRef<OsStr>) -> Result<File, TreeError> {
        self.open_locked(name.as_ref(), OFlags::empty())
    }

    fn open_locked(&self, name: &OsStr, make: OFlags) -> Result<File, TreeError> {
        for _ in 0..TRIES {
            let file = self.open_part(name, OFlags::RDWR | make)?;
            let opened = meta_of(file.as_fd())?;
            // Retries if the name was removed between two steps.
            if opened.nlink == 0 {
                continue;
            }
            check_own(&opened)?;
            lock(&file)?;
            match self.stat_part(name.as_bytes()) {
                Ok(named) if (named.dev, named.ino) == (opened.dev, opened.ino) => {
                    return check_own(&named).map(|()| file);
                }
                Ok(_) | Err(TreeError::NotFound) => {}
                Err(e) => return Err(e),
            }
        }
        Err(TreeError::InUse)
    }

    /// Makes a new file.
    ///
    /// # Errors
    /// [`TreeError::Taken`] if any entry, a link included, has the name.
    pub fn create_new(&self, name: impl AsRef<OsStr>) -> Result<File, TreeError> {
        self.open_part(name.as_ref(), OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)
    }

    /// Makes a file without a name, which is gone once it is closed.
    ///
    /// # Errors
    /// Those of the system call, also if the file system has no such files.
    pub fn create_unnamed(&self) -> Result<File, TreeError> {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::EXCL | OFlags::CLOEXEC;
        let opened = openat(self, ".", flags, NEW_FILE);
        opened.map(File::from).map_err(|e| TreeError::from_errno("make a file without a name", e))
    }

    /// Makes a new file and locks it.
    ///
    /// # Errors
    /// As for [`Self::create_new`]; [`TreeError::InUse`] if another process locked the file first.
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
        OpenFile::new(self.open_part(name.as_ref(), OFlags::RDONLY)?)
    }

    /// Renames `from` to `to`; replaces a file of that name.
    ///
    /// # Errors
    /// [`TreeError::IsFolder`] if a folder has the name `to`.
    pub fn rename(&self, from: impl AsRef<OsStr>, to: impl AsRef<OsStr>) -> Result<(), TreeError> {
        let (from, to) = (part(from.as_ref())?, part(to.as_ref())?);
        // If `from` is a folder too, the system would replace an empty folder.
        if self.stat_part(to.as_bytes()).is_ok_and(|meta| meta.kind == MetaKind::Folder) {
            return Err(TreeError::IsFolder);
        }
        self.rename_file(from, to)
    }

    /// Renames a file like [`Self::rename`], in one system call without a check of the target.
    ///
    /// The caller knows that `from` is a file. The system never replaces a folder by a file.
    ///
    /// # Errors
    /// [`TreeError::IsFolder`] if a folder has the name `to`.
    pub fn rename_file(
        &self,
        from: impl AsRef<OsStr>,
        to: impl AsRef<OsStr>,
    ) -> Result<(), TreeError> {
        renameat(self, part(from.as_ref())?, self, part(to.as_ref())?)
            .map_err(|e| TreeError::from_errno("rename", e))
    }

    /// Removes an entry that is not a folder.
    ///
    /// # Errors
    /// [`TreeError::NotFound`], [`TreeError::IsFolder`].
    pub fn unlink(&self, name: impl AsRef<OsStr>) -> Result<(), TreeError> {
        unlinkat(self, part(name.as_ref())?, AtFlags::empty())
            .map_err(|e| TreeError::from_errno("remove", e))
    }

    /// Removes an empty direct subfolder.
    ///
    /// # Errors
    /// [`TreeError::NotEmpty`], [`TreeError::NotFound`], [`TreeError::NotFolder`], or an error of
    /// the system.
    pub fn remove_folder(&self, name: impl AsRef<OsStr>) -> Result<(), TreeError> {
        unlinkat(self, part(name.as_ref())?, AtFlags::REMOVEDIR)
            .map_err(|e| TreeError::from_errno("remove the folder", e))
    }

    /// Makes a subfolder.
    ///
    /// # Errors
    /// [`TreeError::Taken`] if any entry has the name.
    pub fn make_folder(&self, name: impl AsRef<OsStr>, private: bool) -> Result<(), TreeError> {
        let mode = Mode::from_raw_mode(if private { 0o700 } else { 0o777 });
        mkdirat(self, part(name.as_ref())?, mode)
            .map_err(|e| TreeError::from_naming("make the folder", e))
    }

    /// Makes a subfolder with exactly these permission bits. The system sets group and setgid.
    ///
    /// # Errors
    /// [`TreeError::Taken`] if any entry has the name.
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

    /// Prepares a file for a name in this folder; returns whether anything was changed.
    ///
    /// The file gets the permission bits. In a setgid folder it also gets the folder's group, like
    /// a file that is made there.
    ///
    /// # Errors
    /// Errors of the system.
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
                            "files in a setgid folder do not get its group {}: \
                             this program's user is not a member{more}",
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

    /// Returns whether new files in this folder get its group, see [`Self::prepare`].
    ///
    /// # Errors
    /// Errors of fstat.
    pub fn gives_group(&self) -> Result<bool, TreeError> {
        let found = fstat(self).map_err(|e| TreeError::from_errno("look at", e))?;
        Ok(found.st_mode & SETGID != 0)
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

/// Sets the modification time, and the access time to the same value.
///
/// # Errors
/// Errors of the system.
pub fn set_times(file: &File, mtime: FileTime) -> Result<(), TreeError> {
    let time = Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanos.into() };
    futimens(file, &Timestamps { last_access: time, last_modification: time })
        .map_err(|e| TreeError::from_errno("set the time", e))
}

/// Gives a complete file its permission bits and its time, and returns its metadata.
///
/// # Errors
/// Errors of the system.
pub fn complete_file(
    file: &File,
    mode: relais_proto::Mode,
    mtime: FileTime,
) -> Result<Meta, TreeError> {
    fchmod(file, Mode::from_raw_mode(mode.bits()))
        .map_err(|e| TreeError::from_errno("set the mode", e))?;
    set_times(file, mtime)?;
    meta_of(file.as_fd())
}

/// Sets the permission bits.
///
/// A file loses setuid, setgid and sticky. A folder keeps them, because the system gives a new
/// folder the setgid bit of its parent.
///
/// # Errors
/// Errors of the system.
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

/// Returns the umask of the process.
///
/// The system returns the umask only when it is set. The first call therefore sets it for a moment
/// to the strictest usual value.
#[must_use]
pub fn umask() -> relais_proto::Mode {
    static UMASK: OnceLock<relais_proto::Mode> = OnceLock::new();
    *UMASK.get_or_init(|| {
        let umask = rustix::process::umask(Mode::RWXG | Mode::RWXO);
        rustix::process::umask(umask);
        relais_proto::Mode::new(umask.as_raw_mode())
    })
}
