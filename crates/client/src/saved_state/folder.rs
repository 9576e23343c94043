//! The folder for what is kept, and reading and replacing files in it.

use std::ffi::OsString;
use std::fs::{DirBuilder, File};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use log::debug;
use relais_tree::{Folder, TreeError};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat};
use rustix::io::Errno;

/// Longest file that is read, in bytes: the longest ticket and all slaves with all their addresses take less.
const LONGEST: u64 = 64 * 1024;
/// The name of a file until it is whole.
const TEMPORARY: &str = "new";
/// Longest wait for another client that writes.
const LOCK_TIME: Duration = Duration::from_millis(100);
/// Time between two tries for the lock.
const LOCK_STEP: Duration = Duration::from_millis(5);

/// Where things are kept. The folder is made when something is written.
#[derive(Debug, Clone)]
pub struct StateFolder {
    folder: PathBuf,
}

impl StateFolder {
    /// The user's: `$XDG_STATE_HOME/relais/client`, else `~/.local/state/relais/client`. None where there is no home.
    #[must_use]
    pub fn for_user() -> Option<Self> {
        Self::from_env(std::env::var_os("XDG_STATE_HOME"), std::env::var_os("HOME"))
    }

    pub(super) fn from_env(state: Option<OsString>, home: Option<OsString>) -> Option<Self> {
        // A path from the current folder would be another place each time; the convention says to leave it out.
        let whole =
            |path: Option<OsString>| path.map(PathBuf::from).filter(|path| path.is_absolute());
        let state = whole(state).or_else(|| Some(whole(home)?.join(".local/state")));
        if state.is_none() {
            debug!("there is no home folder: nothing is kept for later runs");
        }
        // A master of this user keeps its own state right in there.
        Some(Self { folder: state?.join("relais/client") })
    }

    /// This folder.
    #[cfg(test)]
    pub fn at(folder: &std::path::Path) -> Self {
        Self { folder: folder.to_path_buf() }
    }

    /// How the user knows a file.
    #[must_use]
    pub fn shown(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// What a file holds; none where there is none. An error says what is wrong with it.
    pub fn read(&self, name: &str) -> Result<Option<String>, String> {
        let folder = match Folder::open(&self.folder) {
            Ok(folder) => folder,
            Err(TreeError::NotFound) => return Ok(None),
            // Without a folder there can be no file; whatever else it is, there may be one.
            Err(TreeError::NotFolder) => return Ok(None),
            Err(e) => return Err(e.to_string()),
        };
        let file = match folder.open_read(name) {
            Ok(open) => open.file,
            Err(TreeError::NotFound) => return Ok(None),
            Err(TreeError::NotServed(_) | TreeError::IsFolder) => {
                return Err("it is no regular file".to_owned());
            }
            Err(e) => return Err(e.to_string()),
        };
        let meta = file.metadata().map_err(|e| e.to_string())?;
        if meta.uid() != rustix::process::geteuid().as_raw() {
            return Err("it belongs to somebody else".to_owned());
        }
        let mut bytes = Vec::new();
        file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
        if bytes.len() as u64 > LONGEST {
            return Err("it is too long".to_owned());
        }
        String::from_utf8(bytes).map(Some).map_err(|_| "it is no text".to_owned())
    }

    /// The folder, made where it is missing, with the lock that keeps other writers out.
    pub fn writer(&self) -> Result<StateWriter, String> {
        let plain = |e: &dyn std::fmt::Display| format!("{}: {e}", self.folder.display());
        let folder = match Folder::open(&self.folder) {
            Err(TreeError::NotFound) => {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(&self.folder)
                    .map_err(|e| plain(&e))?;
                Folder::open(&self.folder).map_err(|e| plain(&e))?
            }
            other => other.map_err(|e| plain(&e))?,
        };
        let until = Instant::now() + LOCK_TIME;
        loop {
            match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(StateWriter { folder }),
                Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < until => {
                    std::thread::sleep(LOCK_STEP)
                }
                Err(e) => return Err(plain(&std::io::Error::from(e))),
            }
        }
    }
}

/// Replaces files, alone. The lock ends with the handle.
pub struct StateWriter {
    folder: Folder,
}

impl StateWriter {
    /// Gives a file this content: written whole under another name, then renamed. It is not synced: a power cut costs a help, and
    /// no command shall wait for it.
    pub fn replace(&self, name: &str, text: &str) -> Result<(), String> {
        let result = self
            .write(text)
            .and_then(|()| self.folder.rename(TEMPORARY, name).map_err(|e| e.to_string()));
        if result.is_err()
            && let Err(e) = self.folder.unlink(TEMPORARY)
        {
            debug!("{TEMPORARY}: {e}");
        }
        result.map_err(|e| format!("{name}: {e}"))
    }

    fn write(&self, text: &str) -> Result<(), String> {
        let open = || {
            let flags =
                OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(&self.folder, TEMPORARY, flags, Mode::RUSR | Mode::WUSR)
        };
        let file = match open() {
            // Whoever left it is gone: we hold the lock.
            Err(Errno::EXIST) => self
                .folder
                .unlink(TEMPORARY)
                .map_err(|e| e.to_string())
                .and_then(|()| open().map_err(|e| e.to_string()))?,
            other => other.map_err(|e| e.to_string())?,
        };
        File::from(file).write_all(text.as_bytes()).map_err(|e| e.to_string())
    }
}
