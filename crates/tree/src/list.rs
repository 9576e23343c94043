//! Lists a folder in bounded memory.

use std::ffi::CStr;

use rustix::fs::{Dir, DirEntry, FileType};

use crate::error::TreeError;
use crate::meta::MetaKind;

/// A name in a folder. It may be any bytes.
#[derive(Debug)]
pub struct FolderEntry {
    entry: DirEntry,
}

impl FolderEntry {
    /// Returns the name as the file system has it.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.entry.file_name().to_bytes()
    }

    /// Returns the kind of the entry; `None` if the file system does not report it.
    #[must_use]
    pub fn kind(&self) -> Option<MetaKind> {
        match self.entry.file_type() {
            FileType::RegularFile => Some(MetaKind::File),
            FileType::Directory => Some(MetaKind::Folder),
            FileType::Symlink => Some(MetaKind::Link),
            FileType::Unknown => None,
            _ => Some(MetaKind::Special),
        }
    }
}

/// Iterator over the names in a folder, in no order, without `.` and `..`.
///
/// It ends after an error, and the names before the error are not the whole folder.
pub struct FolderEntries {
    dir: Dir,
    failed: bool,
}

impl FolderEntries {
    pub(crate) fn new(dir: Dir) -> Self {
        Self { dir, failed: false }
    }
}

fn is_dots(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

impl Iterator for FolderEntries {
    type Item = Result<FolderEntry, TreeError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.failed {
            match self.dir.read()? {
                Ok(entry) if is_dots(entry.file_name()) => {}
                Ok(entry) => return Some(Ok(FolderEntry { entry })),
                Err(e) => {
                    self.failed = true;
                    return Some(Err(TreeError::from_errno("list", e)));
                }
            }
        }
        None
    }
}
