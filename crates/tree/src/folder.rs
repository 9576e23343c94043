//! A pinned folder, and access to its entries.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use relais_proto::TreePath;
use rustix::fs::{
    Access, AtFlags, Mode, OFlags, StatxAttributes, StatxFlags, accessat, fstat, open, openat,
    statat, statx,
};

use crate::error::TreeError;
use crate::meta::Meta;
use crate::resolve::resolve;

/// A folder, held by its descriptor: it stays the same folder even if its path is renamed.
#[derive(Debug)]
pub struct Folder(OwnedFd);

/// A regular file opened for reading, with its metadata at that time.
#[derive(Debug)]
pub struct OpenFile {
    /// The file. Its offset may be shared, so read at explicit offsets.
    pub file: File,
    /// Result of fstat right after opening.
    pub meta: Meta,
}

impl OpenFile {
    /// Takes an open file, which must be a regular one.
    pub(crate) fn new(file: File) -> Result<Self, TreeError> {
        let meta = meta_of(file.as_fd())?;
        meta.check_file()?;
        Ok(Self { file, meta })
    }

    /// Returns the current metadata.
    ///
    /// # Errors
    /// Errors of fstat.
    pub fn meta_now(&self) -> Result<Meta, TreeError> {
        meta_of(self.file.as_fd())
    }

    /// Returns whether the content is the same as when the file was opened.
    ///
    /// The ctime reveals a writer that resets the mtime. A file that only lost its name, for
    /// example to a replacement, still has its content.
    ///
    /// # Errors
    /// Errors of fstat.
    pub fn is_unchanged(&self) -> Result<bool, TreeError> {
        let now = meta_of(self.file.as_fd())?;
        let lost_name = now.nlink < self.meta.nlink
            && (now.size, now.mtime) == (self.meta.size, self.meta.mtime);
        Ok(lost_name || now.same_content(&self.meta))
    }
}

/// Metadata of one entry, with its mount state.
#[derive(Debug, Clone, Copy)]
pub struct EntryInfo {
    /// Metadata as from `stat_part`.
    pub meta: Meta,
    /// Whether another file system, or another part of this one, is mounted at the entry.
    pub mount_point: bool,
}

pub(crate) fn meta_of(fd: BorrowedFd<'_>) -> Result<Meta, TreeError> {
    fstat(fd).map(|stat| Meta::from_stat(&stat)).map_err(|e| TreeError::from_errno("look at", e))
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Folder {
    /// Pins the folder at `path`.
    ///
    /// Links in `path` are followed, because the user who starts the program chose it.
    ///
    /// # Errors
    /// [`TreeError::NotFound`], [`TreeError::NotFolder`], or an error of the system.
    pub fn open(path: &Path) -> Result<Self, TreeError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        open(path, flags, Mode::empty())
            .map(Self)
            .map_err(|e| TreeError::from_errno("open the folder", e))
    }

    /// Duplicates the handle of the folder.
    ///
    /// # Errors
    /// Errors of duplicating a descriptor.
    pub fn try_clone(&self) -> Result<Self, TreeError> {
        self.0.try_clone().map(Self).map_err(|e| TreeError::Io("duplicate a descriptor", e))
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// [`TreeError::IsFolder`], [`TreeError::NotServed`] and others, by the kind of the entry.
    pub fn open_file(&self, path: &TreePath) -> Result<OpenFile, TreeError> {
        if path.is_root() {
            return Err(TreeError::IsFolder);
        }
        OpenFile::new(resolve(self.as_fd(), path.as_str(), OFlags::RDONLY)?.into())
    }

    /// Pins a folder below this one.
    ///
    /// # Errors
    /// [`TreeError::NotFolder`], [`TreeError::NotServed`] and others, by the kind of the entry.
    pub fn open_folder(&self, path: &TreePath) -> Result<Self, TreeError> {
        self.pin(path.as_str())
    }

    /// Pins a direct subfolder by its name. The server's own folder can be opened only this way.
    ///
    /// # Errors
    /// As for [`Self::open_folder`].
    pub fn sub(&self, part: &str) -> Result<Self, TreeError> {
        if relais_proto::check_part(part).is_err() {
            return Err(TreeError::NotFound);
        }
        self.pin(part)
    }

    /// Pins a direct subfolder like [`Self::sub`], by any bytes without `/`.
    ///
    /// # Errors
    /// As for [`Self::open_folder`].
    pub fn sub_of_bytes(&self, name: &[u8]) -> Result<Self, TreeError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if matches!(name, b"" | b"." | b"..") || name.contains(&b'/') {
            return Err(TreeError::NotFound);
        }
        openat(self, name, flags, Mode::empty())
            .map(Self)
            .map_err(|e| TreeError::from_errno("open the folder", e))
    }

    fn pin(&self, path: &str) -> Result<Self, TreeError> {
        resolve(self.as_fd(), path, OFlags::RDONLY | OFlags::DIRECTORY).map(Self)
    }

    /// Returns the metadata of the entry at `path`; a link is not followed.
    ///
    /// # Errors
    /// [`TreeError::NotFound`]; [`TreeError::NotServed`] if the path crosses a link or a mount
    /// point, or ends at a mount point.
    pub fn stat(&self, path: &TreePath) -> Result<Meta, TreeError> {
        meta_of(resolve(self.as_fd(), path.as_str(), OFlags::PATH | OFlags::NOFOLLOW)?.as_fd())
    }

    /// Returns the metadata of a direct entry by `name`, any bytes without `/`.
    ///
    /// A link is not followed. A mounted entry shows its own device.
    ///
    /// # Errors
    /// [`TreeError::NotFound`], or an error of the system.
    pub fn stat_part(&self, name: &[u8]) -> Result<Meta, TreeError> {
        if name.is_empty() || name.contains(&b'/') {
            return Err(TreeError::NotFound);
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        statat(self, name, flags)
            .map(|stat| Meta::from_stat(&stat))
            .map_err(|e| TreeError::from_errno("look at", e))
    }

    /// Returns metadata like [`Self::stat_part`], and whether the entry is a mount point.
    ///
    /// # Errors
    /// As for [`Self::stat_part`].
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

    /// Returns all names in this folder with what [`Self::survey`] returns for them.
    ///
    /// # Errors
    /// As for [`Self::list`] and [`Self::survey`]; a name that has gone meanwhile is left out.
    pub fn survey_all(&self) -> Result<Vec<(Vec<u8>, EntryInfo)>, TreeError> {
        let mut found = Vec::new();
        for listed in self.list()? {
            let name = listed?.name().to_vec();
            match self.survey(&name) {
                Err(TreeError::NotFound) => {}
                surveyed => found.push((name, surveyed?)),
            }
        }
        Ok(found)
    }

    /// Returns the metadata of the folder itself.
    ///
    /// # Errors
    /// Errors of fstat.
    pub fn meta(&self) -> Result<Meta, TreeError> {
        meta_of(self.as_fd())
    }

    /// Checks the rights of the folder and its mount for making and removing names.
    ///
    /// # Errors
    /// The reason why names cannot be changed.
    pub fn check_writable(&self) -> Result<(), TreeError> {
        accessat(self, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)
            .map_err(|e| TreeError::from_errno("change the folder", e))
    }

    /// Syncs all files and names of the file system that has this folder.
    ///
    /// For many files that is one write of the disk's journal, where a sync of each file needs one
    /// for each. It also waits for what other programs have written.
    ///
    /// # Errors
    /// Errors of syncfs, also of other files. Which file has failed is not known.
    pub fn sync_file_system(&self) -> Result<(), TreeError> {
        rustix::fs::syncfs(self).map_err(|e| TreeError::from_errno("sync the file system", e))
    }

    /// Syncs the names in this folder to disk.
    ///
    /// # Errors
    /// Errors of fsync. The unwritten names may be lost: never sync the same descriptor again.
    pub fn sync(&self) -> Result<(), TreeError> {
        rustix::fs::fsync(self).map_err(|e| TreeError::from_errno("sync the folder", e))
    }
}
