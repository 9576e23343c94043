//! The lock on a folder whose small files several clients replace.
//!
//! The lock belongs to the folder's handle and leaves no file behind. A file is written under a
//! temporary name, then renamed.

use std::io::Write;
use std::time::{Duration, Instant};

use log::debug;
use relais_tree::{Folder, TreeError};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Pause between two attempts to take the lock.
const LOCK_STEP: Duration = Duration::from_millis(5);

/// The lock on a folder, released on drop.
pub struct LockedFolder<'a>(&'a Folder);

impl<'a> LockedFolder<'a> {
    /// Takes the lock, which other writers may hold for at most `wait`.
    ///
    /// The handle must be opened for this purpose and not cloned.
    ///
    /// # Errors
    /// [`TreeError::InUse`] if another writer keeps the lock.
    pub fn lock(folder: &'a Folder, wait: Duration) -> Result<Self, TreeError> {
        let until = Instant::now() + wait;
        loop {
            match flock(folder, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self(folder)),
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) if Instant::now() < until => std::thread::sleep(LOCK_STEP),
                Err(Errno::WOULDBLOCK) => return Err(TreeError::InUse),
                Err(e) => return Err(TreeError::Io("lock the folder", e.into())),
            }
        }
    }

    /// Replaces the file `name`; with `sync`, its content is on disk before it has that name.
    ///
    /// # Errors
    /// The file cannot be written; the old file stays.
    pub fn replace(
        &self,
        name: &str,
        temporary: &str,
        text: &str,
        sync: bool,
    ) -> Result<(), TreeError> {
        let result =
            self.write(temporary, text, sync).and_then(|()| self.0.rename(temporary, name));
        if result.is_err()
            && let Err(e) = self.0.unlink(temporary)
        {
            debug!("{temporary}: {e}");
        }
        result
    }

    fn write(&self, temporary: &str, text: &str, sync: bool) -> Result<(), TreeError> {
        let mut file = match self.0.create_new(temporary) {
            Err(TreeError::Taken) => {
                // A crashed client left the file: no other client can hold the lock now.
                self.0.unlink(temporary)?;
                self.0.create_new(temporary)?
            }
            other => other?,
        };
        let failed = |e| TreeError::Io("write the file", e);
        file.write_all(text.as_bytes()).map_err(failed)?;
        if sync { file.sync_data().map_err(failed) } else { Ok(()) }
    }
}

impl Drop for LockedFolder<'_> {
    fn drop(&mut self) {
        if let Err(e) = flock(self.0, FlockOperation::Unlock) {
            debug!("the folder stays locked until its handle is closed: {e}");
        }
    }
}
