//! The folder of the saved state: reading and replacing its files.

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::PathBuf;
use std::time::Duration;

use log::debug;
use relais_tree::{Folder, TreeError};

use crate::locked_folder::LockedFolder;

/// Longest file that is read, in bytes.
///
/// The longest ticket and the most slaves with all their addresses take less.
const MAX_FILE_SIZE: u64 = 64 * 1024;
/// Temporary name of a new file.
const TEMPORARY: &str = "new";
/// Longest wait for another client that writes.
const LOCK_TIME: Duration = Duration::from_millis(100);

/// The folder of the saved state. It is created by the first write.
#[derive(Debug, Clone)]
pub struct StateFolder {
    folder: PathBuf,
}

impl StateFolder {
    /// Returns the user's folder; none without a home folder.
    ///
    /// The folder is `$XDG_STATE_HOME/relais/client`, else `~/.local/state/relais/client`.
    pub fn for_user() -> Option<Self> {
        Self::from_env(std::env::var_os("XDG_STATE_HOME"), std::env::var_os("HOME"))
    }

    pub fn from_env(state: Option<OsString>, home: Option<OsString>) -> Option<Self> {
        // The XDG specification ignores relative paths; each current folder would have its own
        // state.
        let whole =
            |path: Option<OsString>| path.map(PathBuf::from).filter(|path| path.is_absolute());
        let state = whole(state).or_else(|| Some(whole(home)?.join(".local/state")));
        if state.is_none() {
            debug!("there is no home folder: nothing is saved for later runs");
        }
        // A master of the same user keeps its state in the parent folder.
        Some(Self { folder: state?.join("relais/client") })
    }

    /// Uses this folder.
    #[cfg(test)]
    pub fn at(folder: &std::path::Path) -> Self {
        Self { folder: folder.to_path_buf() }
    }

    /// Returns the path of a file beside the folder.
    pub fn sibling(&self, name: &str) -> PathBuf {
        self.folder.with_file_name(name)
    }

    /// Returns the path of a file for messages.
    pub fn shown(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// Reads a file; returns none if it does not exist. The error says what is wrong.
    pub fn read(&self, name: &str) -> Result<Option<String>, String> {
        let opened = Folder::open(&self.folder).and_then(|folder| folder.open_read(name));
        let file = match opened {
            Ok(open) => open.file,
            // Without a folder the file cannot exist; after other errors it may.
            Err(TreeError::NotFound | TreeError::NotFolder) => return Ok(None),
            Err(TreeError::NotServed(_) | TreeError::IsFolder) => {
                return Err("it is not a regular file".to_owned());
            }
            Err(e) => return Err(e.to_string()),
        };
        let meta = file.metadata().map_err(|e| e.to_string())?;
        if meta.uid() != rustix::process::geteuid().as_raw() {
            return Err("it belongs to another user".to_owned());
        }
        let mut bytes = Vec::new();
        file.take(MAX_FILE_SIZE + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
        if bytes.len() as u64 > MAX_FILE_SIZE {
            return Err("it is too long".to_owned());
        }
        String::from_utf8(bytes).map(Some).map_err(|_| "it is not UTF-8".to_owned())
    }

    /// Opens the folder, creates it if needed, and calls `write` with its lock.
    pub fn write<T>(
        &self,
        write: impl FnOnce(&LockedFolder<'_>) -> Result<T, String>,
    ) -> Result<T, String> {
        let failed = |e: &dyn std::fmt::Display| format!("{}: {e}", self.folder.display());
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(|e| failed(&e))?;
        let folder = Folder::open(&self.folder).map_err(|e| failed(&e))?;
        write(&LockedFolder::lock(&folder, LOCK_TIME).map_err(|e| failed(&e))?)
    }
}

/// Replaces a file of the locked folder.
///
/// The file is not synced, because no command should wait for it. A power cut loses only saved
/// state.
pub fn replace(folder: &LockedFolder<'_>, name: &str, text: &str) -> Result<(), String> {
    folder.replace(name, TEMPORARY, text, false).map_err(|e| format!("{name}: {e}"))
}
