//! A pinned folder, and opening what lies in it.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use relais_proto::TreePath;
use rustix::fs::{
    Access, AtFlags, Dir, Mode, OFlags, StatxAttributes, StatxFlags, accessat, fstat, open, openat,
    statat, statx,
};

use crate::error::{TreeError, UnservedKind};
use crate::list::FolderEntries;
use crate::meta::{Meta, MetaKind};
use crate::resolve::ResolveMethod;

/// A folder, held by its descriptor: it stays the same one whatever its path comes to mean.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
    way: ResolveMethod,
}

/// A regular file that was opened for reading, and what it was then.
#[derive(Debug)]
pub struct OpenFile {
    /// The file. Its offset may be shared: read with explicit offsets.
    pub file: File,
    /// What fstat said right after opening.
    pub meta: Meta,
}

impl OpenFile {
    /// What fstat says now.
    ///
    /// # Errors
    /// Those of fstat.
    pub fn meta_now(&self) -> Result<Meta, TreeError> {
        meta_of(self.file.as_fd())
    }

    /// Whether the content is still what it was when the file was opened. Whoever writes and then
    /// sets the time back is found by the ctime; a file that only lost its name, as when a
    /// new one is put in its place, still has its content.
    ///
    /// # Errors
    /// Those of fstat.
    pub fn is_unchanged(&self) -> Result<bool, TreeError> {
        let now = meta_of(self.file.as_fd())?;
        let lost_name = now.nlink < self.meta.nlink
            && (now.size, now.mtime) == (self.meta.size, self.meta.mtime);
        Ok(lost_name || now.same_content(&self.meta))
    }
}

/// What lies under one name of a folder.
#[derive(Debug, Clone, Copy)]
pub struct EntryInfo {
    /// As `stat_part` tells it.
    pub meta: Meta,
    /// Whether another file system, or another part of this one, is mounted there.
    pub mount_point: bool,
}

pub(crate) fn meta_of(fd: BorrowedFd<'_>) -> Result<Meta, TreeError> {
    fstat(fd).map(|stat| Meta::from_stat(&stat)).map_err(|e| TreeError::from_errno("look at", e))
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Folder {
    /// Pins the folder at `path`. Links in `path` itself are followed: whoever starts the program names it.
    ///
    /// # Errors
    /// [`TreeError::NotFound`], [`TreeError::NotFolder`], or what the system says.
    pub fn open(path: &Path) -> Result<Self, TreeError> {
        Self::open_by(path, ResolveMethod::best())
    }

    pub(crate) fn open_by(path: &Path, way: ResolveMethod) -> Result<Self, TreeError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = open(path, flags, Mode::empty())
            .map_err(|e| TreeError::from_errno("open the folder", e))?;
        Ok(Self { fd, way })
    }

    /// A second handle on the same folder.
    ///
    /// # Errors
    /// Those of duplicating a descriptor.
    pub fn try_clone(&self) -> Result<Self, TreeError> {
        let fd = self.fd.try_clone().map_err(|e| TreeError::Io("duplicate a descriptor", e))?;
        Ok(Self { fd, way: self.way })
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// [`TreeError::IsFolder`], [`TreeError::NotServed`] and the like, by what is there.
    pub fn open_file(&self, path: &TreePath) -> Result<OpenFile, TreeError> {
        if path.is_root() {
            return Err(TreeError::IsFolder);
        }
        let file = File::from(self.way.open(self.as_fd(), path.as_str(), OFlags::RDONLY)?);
        let meta = meta_of(file.as_fd())?;
        match meta.kind {
            MetaKind::File => Ok(OpenFile { file, meta }),
            MetaKind::Folder => Err(TreeError::IsFolder),
            MetaKind::Link => Err(TreeError::NotServed(UnservedKind::Link)),
            MetaKind::Special => Err(TreeError::NotServed(UnservedKind::Special)),
        }
    }

    /// Pins a folder that lies in this one.
    ///
    /// # Errors
    /// [`TreeError::NotFolder`], [`TreeError::NotServed`] and the like, by what is there.
    pub fn open_folder(&self, path: &TreePath) -> Result<Self, TreeError> {
        self.pin(path.as_str())
    }

    /// Pins a folder right in this one, by one part of a name. The server's own folder can be
    /// opened in this way only.
    ///
    /// # Errors
    /// As [`Self::open_folder`].
    pub fn sub(&self, part: &str) -> Result<Self, TreeError> {
        if relais_proto::check_part(part).is_err() {
            return Err(TreeError::NotFound);
        }
        self.pin(part)
    }

    /// As [`Self::sub`], for a name that may be any bytes without `/`.
    ///
    /// # Errors
    /// As [`Self::open_folder`].
    pub fn sub_of_bytes(&self, name: &[u8]) -> Result<Self, TreeError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if matches!(name, b"" | b"." | b"..") || name.contains(&b'/') {
            return Err(TreeError::NotFound);
        }
        let fd = openat(self, name, flags, Mode::empty())
            .map_err(|e| TreeError::from_errno("open the folder", e))?;
        Ok(Self { fd, way: self.way })
    }

    fn pin(&self, path: &str) -> Result<Self, TreeError> {
        let fd = self.way.open(self.as_fd(), path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        Ok(Self { fd, way: self.way })
    }

    /// What lies at `path`; a link is told as such, not followed.
    ///
    /// # Errors
    /// [`TreeError::NotFound`]; [`TreeError::NotServed`] where the way there leads over a link or a
    /// mount point, or ends at a mount point.
    pub fn stat(&self, path: &TreePath) -> Result<Meta, TreeError> {
        meta_of(
            self.way.open(self.as_fd(), path.as_str(), OFlags::PATH | OFlags::NOFOLLOW)?.as_fd(),
        )
    }

    /// What lies right in this folder under `name`, any bytes without `/`. A link is told as such;
    /// something mounted there is told by its own device.
    ///
    /// # Errors
    /// [`TreeError::NotFound`], or what the system says.
    pub fn stat_part(&self, name: &[u8]) -> Result<Meta, TreeError> {
        if name.is_empty() || name.contains(&b'/') {
            return Err(TreeError::NotFound);
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        statat(self, name, flags)
            .map(|stat| Meta::from_stat(&stat))
            .map_err(|e| TreeError::from_errno("look at", e))
    }

    /// As [`Self::stat_part`], and whether it is the top of another mount.
    ///
    /// # Errors
    /// As [`Self::stat_part`].
    pub fn survey(&self, name: &[u8]) -> Result<EntryInfo, TreeError> {
        if name.is_empty() || name.contains(&b'/') {
            return Err(TreeError::NotFound);
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let found = statx(self, name, flags, StatxFlags::BASIC_STATS)
            .map_err(|e| TreeError::from_errno("look at", e))?;
        Ok(EntryInfo {
            meta: Meta::from_statx(&found),
            mount_point: found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
        })
    }

    /// What the folder itself is.
    ///
    /// # Errors
    /// Those of fstat.
    pub fn meta(&self) -> Result<Meta, TreeError> {
        meta_of(self.as_fd())
    }

    /// The names in this folder.
    ///
    /// # Errors
    /// Those of opening it once more, which gives the listing a position of its own.
    pub fn list(&self) -> Result<FolderEntries, TreeError> {
        Dir::read_from(self).map(FolderEntries::new).map_err(|e| TreeError::from_errno("list", e))
    }

    /// Asks whether names can be made and removed in this folder, by its rights and those of its mount.
    ///
    /// # Errors
    /// Why not.
    pub fn check_writable(&self) -> Result<(), TreeError> {
        accessat(self, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)
            .map_err(|e| TreeError::from_errno("change the folder", e))
    }

    /// Waits until the names in this folder are on the disk.
    ///
    /// # Errors
    /// Those of fsync. What it could not write may be lost: never try again on the same file.
    pub fn sync(&self) -> Result<(), TreeError> {
        rustix::fs::fsync(self).map_err(|e| TreeError::from_errno("sync the folder", e))
    }
}
