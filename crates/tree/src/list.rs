//! Lists a folder in bounded memory.

use rustix::fs::{Dir, DirEntry};

use crate::error::TreeError;
use crate::folder::Folder;

/// A name in a folder. It may be any bytes.
#[derive(Debug)]
pub struct FolderEntry(DirEntry);

impl FolderEntry {
    /// Returns the name as the file system has it.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.0.file_name().to_bytes()
    }
}

impl Folder {
    /// Iterates over the names in this folder, in no order, without `.` and `..`.
    ///
    /// The iterator ends after an error, and the names before the error are not the whole folder.
    ///
    /// # Errors
    /// Errors of reopening the folder, which gives the iterator its own position.
    pub fn list(
        &self,
    ) -> Result<impl Iterator<Item = Result<FolderEntry, TreeError>> + use<>, TreeError> {
        let failed = |e| TreeError::from_errno("list", e);
        let entries = Dir::read_from(self).map_err(failed)?;
        Ok(entries.map(move |entry| entry.map(FolderEntry).map_err(failed)).filter(|listed| {
            !listed.as_ref().is_ok_and(|entry| matches!(entry.name(), b"." | b".."))
        }))
    }
}
