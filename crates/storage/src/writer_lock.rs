//! The lock of the one process that writes the catalogue of a folder, and the token of that writer.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

use relais_proto::SlaveId;
use relais_tree::TreeError;

use crate::error::Result;
use crate::metadata_folder::MetadataFolder;

/// Name of the lock file.
const LOCK: &str = "lock";
/// Longest token that is read, in bytes.
const MOST_TOKEN: u64 = 256;

/// Held by the one process that writes the catalogue of a folder.
#[derive(Debug)]
pub struct WriterLock {
    file: File,
}

impl WriterLock {
    /// Acquires the lock. Returns `None` if another slave of this host has it.
    ///
    /// # Errors
    /// Returns the errors of the folder.
    pub fn try_acquire(own: &MetadataFolder) -> Result<Option<Self>> {
        match own.folder().create_or_open_part(LOCK) {
            Ok(file) => {
                file.set_len(0)?;
                Ok(Some(Self { file }))
            }
            Err(TreeError::InUse) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Writes a new token into the lock file. A catalogue with the same token is complete and
    /// current.
    ///
    /// # Errors
    /// Returns the errors of the system calls.
    pub fn new_token(&self) -> Result<String> {
        let token = SlaveId(relais_os::random()?).to_string();
        self.file.set_len(0)?;
        self.file.write_all_at(token.as_bytes(), 0)?;
        Ok(token)
    }

    /// Returns the token of the current or last writer; empty if there is none.
    ///
    /// # Errors
    /// Returns the errors of the system calls.
    pub fn token_of(own: &MetadataFolder) -> Result<String> {
        let file = match own.folder().open_read(LOCK) {
            Ok(opened) => opened.file,
            Err(TreeError::NotFound) => return Ok(String::new()),
            Err(e) => return Err(e.into()),
        };
        let mut token = String::new();
        file.take(MOST_TOKEN).read_to_string(&mut token)?;
        Ok(token)
    }
}

#[cfg(test)]
mod tests {
    use relais_tree::Folder;

    use super::*;

    #[test]
    fn writer_lock_is_exclusive() {
        let dir = tempfile::tempdir().unwrap();
        let root = Folder::open(dir.path()).unwrap();
        let own = MetadataFolder::create(&root).unwrap();
        let first = WriterLock::try_acquire(&own).unwrap();
        assert!(first.is_some());
        assert!(WriterLock::try_acquire(&own).unwrap().is_none());
        drop(first);
        assert!(WriterLock::try_acquire(&own).unwrap().is_some());
    }
}
