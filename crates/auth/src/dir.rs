//! The state folder: its location, and the lock that admits one master.
//!
//! Commands that only read never create it.

use std::env;
use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use relais_proto::system_error_text;
use thiserror::Error;

/// The reason why a state folder cannot be used.
#[derive(Debug, Error)]
pub enum StateDirError {
    /// Neither an option nor the environment gives its path.
    #[error("no state folder: HOME is not set; name one with --state DIR")]
    Nowhere,
    /// Another process holds the lock.
    #[error("the state folder {0} is in use by another master")]
    InUse(PathBuf),
    /// The folder or its lock could not be created or opened.
    #[error("cannot use the state folder {path}: {}", system_error_text(cause))]
    #[allow(missing_docs, reason = "the names say everything")]
    Io { path: PathBuf, cause: io::Error },
}

/// The folder with a server's journal, accounts and key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir {
    /// The path of the folder.
    pub path: PathBuf,
}

impl StateDir {
    /// Finds the path of the state folder.
    ///
    /// It is `option` (`--state`), else the first of systemd's `STATE_DIRECTORY`, else
    /// `$XDG_STATE_HOME/relais`, else `~/.local/state/relais`.
    ///
    /// # Errors
    /// [`StateDirError::Nowhere`] if none of these is set.
    pub fn locate(option: Option<PathBuf>) -> Result<Self, StateDirError> {
        Self::locate_in(option, |name| env::var_os(name))
    }

    fn locate_in(
        option: Option<PathBuf>,
        var: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, StateDirError> {
        // A relative path would depend on the current folder; the XDG rules ignore it.
        let absolute = |name| var(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let of_systemd = || env::split_paths(&var("STATE_DIRECTORY")?).next();
        option
            .or_else(|| of_systemd().filter(|path| !path.as_os_str().is_empty()))
            .or_else(|| absolute("XDG_STATE_HOME").map(|home| home.join("relais")))
            .or_else(|| absolute("HOME").map(|home| home.join(".local/state/relais")))
            .map(|path| Self { path })
            .ok_or(StateDirError::Nowhere)
    }

    /// The default path of the cluster key.
    #[must_use]
    pub fn key_path(&self) -> PathBuf {
        self.path.join("cluster.key")
    }

    /// The path of the accounts file.
    #[must_use]
    pub fn accounts_path(&self) -> PathBuf {
        self.path.join("accounts")
    }

    /// Creates the folder with mode 0700 if it is missing.
    ///
    /// # Errors
    /// Errors of the system calls.
    pub fn create(&self) -> Result<(), StateDirError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.path);
        made.map_err(|cause| StateDirError::Io { path: self.path.clone(), cause })
    }

    /// Creates the folder if it is missing, and locks it as long as the result exists.
    ///
    /// Removes temporary files that killed processes have left.
    ///
    /// # Errors
    /// [`StateDirError::InUse`] if another process holds the lock; errors of the system calls.
    pub fn create_and_lock(&self) -> Result<File, StateDirError> {
        let io_error = |cause| StateDirError::Io { path: self.path.clone(), cause };
        self.create()?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.path.join("lock"))
            .map_err(io_error)?;
        match lock.try_lock() {
            Ok(()) => {
                relais_os::remove_temporary_files(&self.path);
                Ok(lock)
            }
            Err(TryLockError::WouldBlock) => Err(StateDirError::InUse(self.path.clone())),
            Err(TryLockError::Error(cause)) => Err(io_error(cause)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn located(option: Option<&str>, vars: &[(&str, &str)]) -> Option<PathBuf> {
        let var = |name: &str| {
            vars.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value))
        };
        StateDir::locate_in(option.map(PathBuf::from), var).ok().map(|dir| dir.path)
    }

    #[test]
    fn options_go_before_the_environment() {
        let all = [
            ("STATE_DIRECTORY", "/var/lib/a:/var/lib/b"),
            ("XDG_STATE_HOME", "/x"),
            ("HOME", "/h"),
        ];
        for (option, vars, expected) in [
            (Some("rel"), &all[..], Some("rel")),
            (None, &all[..], Some("/var/lib/a")),
            (None, &all[1..], Some("/x/relais")),
            (None, &all[2..], Some("/h/.local/state/relais")),
            (None, &[][..], None),
            (
                None,
                &[("STATE_DIRECTORY", ""), ("XDG_STATE_HOME", ""), ("HOME", "/h")][..],
                Some("/h/.local/state/relais"),
            ),
            (None, &[("XDG_STATE_HOME", "rel"), ("HOME", "rel")][..], None),
        ] {
            assert_eq!(located(option, vars), expected.map(PathBuf::from));
        }
    }

    #[test]
    fn a_second_lock_is_refused_with_the_folder_named() {
        let temp = tempfile::tempdir().unwrap();
        let dir = StateDir { path: temp.path().join("deep/er") };
        let held = dir.create_and_lock().unwrap();
        assert_eq!(dir.path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        let refused = dir.create_and_lock().unwrap_err();
        assert!(matches!(refused, StateDirError::InUse(_)));
        assert!(refused.to_string().contains("deep/er"));
        drop(held);
        assert!(dir.create_and_lock().is_ok());
    }

    #[test]
    fn a_file_at_the_path_is_an_error() {
        let temp = tempfile::NamedTempFile::new().unwrap();
        let dir = StateDir { path: temp.path().to_owned() };
        assert!(matches!(dir.create_and_lock(), Err(StateDirError::Io { .. })));
    }
}
