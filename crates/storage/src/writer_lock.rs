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

/// Overwrites the start of a token. No token has this character.
const NO_TOKEN: char = '-';

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
                // In place: a full disk might not return a block that a truncation frees.
                if file.metadata()?.len() > 0 {
                    file.write_all_at(NO_TOKEN.to_string().as_bytes(), 0)?;
                }
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
        self.file.write_all_at(token.as_bytes(), 0)?;
        self.file.set_len(token.len() as u64)?;
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
        Ok(if token.starts_with(NO_TOKEN) { String::new() } else { token })
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

    #[test]
    fn lock_invalidates_a_token_and_keeps_its_block() {
        let dir = tempfile::tempdir().unwrap();
        let own = MetadataFolder::create(&Folder::open(dir.path()).unwrap()).unwrap();
        let token = || WriterLock::token_of(&own).unwrap();
        let acquire = || WriterLock::try_acquire(&own).unwrap().unwrap();
        let first = acquire();
        assert_eq!(token(), "");
        let written = first.new_token().unwrap();
        assert_eq!(token(), written);
        drop(first);
        let second = acquire();
        assert_eq!(token(), "");
        let size = second.file.metadata().unwrap().len();
        assert_eq!(size, written.len() as u64, "no block is freed");
        let next = second.new_token().unwrap();
        assert!(token() == next && next != written);
    }
}
