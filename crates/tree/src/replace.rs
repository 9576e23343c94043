//! Moves names between pinned folders: publishes staged content, and takes it back.
//!
//! Both folders must be on one mount. Nothing is copied, no link is followed, and each move is one
//! step if the file system supports it. No call removes or replaces a file that it does not give
//! back.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, RenameFlags, linkat, renameat, renameat_with};
use rustix::io::Errno;

use crate::error::TreeError;
use crate::folder::Folder;
use crate::local::part;
use crate::meta::MetaKind;

/// Suffix of former content during an exchange that needs several steps.
pub const FORMER: &str = ".former";

fn failed(e: Errno) -> TreeError {
    TreeError::from_naming("rename", e)
}

impl Folder {
    /// Renames with `flags`. Some file systems do not support them; the result is then their error.
    fn rename_with(
        &self,
        name: &OsStr,
        to: &Folder,
        to_name: &OsStr,
        flags: RenameFlags,
    ) -> Result<Option<Errno>, TreeError> {
        match renameat_with(self, name, to, to_name, flags) {
            Ok(()) => Ok(None),
            Err(e @ (Errno::INVAL | Errno::NOSYS)) => Ok(Some(e)),
            Err(e) => Err(failed(e)),
        }
    }

    /// Moves `name` to the free name `to_name` in `to`.
    ///
    /// # Errors
    /// [`TreeError::Taken`] if an entry has that name; errors of the system.
    pub fn move_new(
        &self,
        name: impl AsRef<OsStr>,
        to: &Folder,
        to_name: impl AsRef<OsStr>,
    ) -> Result<(), TreeError> {
        let (name, to_name) = (part(name.as_ref())?, part(to_name.as_ref())?);
        match self.rename_with(name, to, to_name, RenameFlags::NOREPLACE)? {
            // A hard link does the same for files.
            Some(_) if self.stat_part(name.as_bytes())?.kind == MetaKind::File => {
                linkat(self, name, to, to_name, AtFlags::empty()).map_err(failed)?;
                self.unlink(name)
            }
            refused => refused.map_or(Ok(()), |e| Err(failed(e))),
        }
    }

    /// Moves `name` to `to`, a folder where only this program makes names.
    ///
    /// The call moves the entry that has the name at that moment, whatever was there before.
    ///
    /// # Errors
    /// [`TreeError::Taken`] if an entry has the name `to_name`; errors of the system.
    pub fn take_out(
        &self,
        name: impl AsRef<OsStr>,
        to: &Folder,
        to_name: impl AsRef<OsStr>,
    ) -> Result<(), TreeError> {
        let (name, to_name) = (part(name.as_ref())?, part(to_name.as_ref())?);
        if self.rename_with(name, to, to_name, RenameFlags::NOREPLACE)?.is_none() {
            return Ok(());
        }
        match to.stat_part(to_name.as_bytes()) {
            Ok(_) => Err(TreeError::Taken),
            Err(TreeError::NotFound) => renameat(self, name, to, to_name).map_err(failed),
            Err(e) => Err(e),
        }
    }

    /// Exchanges the file `name` with the file `to_name` of `to` in one step.
    ///
    /// Only this program makes names in this folder. Afterwards `name` is the entry that had the
    /// name `to_name` at that moment.
    ///
    /// # Errors
    /// [`TreeError::NotFound`] if either is missing; errors of the system. Nothing has changed
    /// then.
    pub fn exchange(
        &self,
        name: impl AsRef<OsStr>,
        to: &Folder,
        to_name: impl AsRef<OsStr>,
    ) -> Result<(), TreeError> {
        let (name, to_name) = (part(name.as_ref())?, part(to_name.as_ref())?);
        match self.rename_with(name, to, to_name, RenameFlags::EXCHANGE)? {
            None => Ok(()),
            Some(_) => self.exchange_by_moves(name, to, to_name),
        }
    }

    /// Exchanges two files in several steps, for file systems without an atomic exchange.
    ///
    /// The former file is taken out first, so the name is free for a moment. A rename over it could
    /// destroy a file that arrived in between.
    fn exchange_by_moves(
        &self,
        name: &OsStr,
        to: &Folder,
        to_name: &OsStr,
    ) -> Result<(), TreeError> {
        let mut kept = name.to_owned();
        kept.push(FORMER);
        // A process that was killed here has left the file; its content has been replaced.
        match self.unlink(&kept) {
            Ok(()) | Err(TreeError::NotFound) => {}
            Err(e) => return Err(e),
        }
        self.stat_part(name.as_bytes())?;
        to.take_out(to_name, self, &kept)?;
        if let Err(e) = linkat(self, name, to, to_name, AtFlags::empty()) {
            self.move_new(&kept, to, to_name)?;
            return Err(failed(e));
        }
        self.unlink(name)?;
        renameat(self, &kept, self, name).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exchange_is_the_same_with_and_without_the_systems_own() {
        for by_moves in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            for folder in ["a", "b"] {
                std::fs::create_dir(dir.path().join(folder)).unwrap();
            }
            let (a, b) = (
                Folder::open(&dir.path().join("a")).unwrap(),
                Folder::open(&dir.path().join("b")).unwrap(),
            );
            let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join("a/new"), "new").unwrap();
            std::fs::write(dir.path().join("b/old"), "old").unwrap();
            // As left by one that was stopped between its steps.
            std::fs::write(dir.path().join("a/new.former"), "older").unwrap();
            if by_moves {
                a.exchange_by_moves(OsStr::new("new"), &b, OsStr::new("old")).unwrap();
                assert!(!dir.path().join("a/new.former").exists());
                assert!(a.exchange_by_moves(OsStr::new("new"), &b, OsStr::new("none")).is_err());
                assert!(a.exchange_by_moves(OsStr::new("none"), &b, OsStr::new("old")).is_err());
            } else {
                a.exchange("new", &b, "old").unwrap();
                assert!(matches!(a.exchange("new", &b, "none"), Err(TreeError::NotFound)));
                assert!(matches!(a.exchange("none", &b, "old"), Err(TreeError::NotFound)));
            }
            assert_eq!(
                (read("a/new"), read("b/old")),
                ("old".to_owned(), "new".to_owned()),
                "by moves: {by_moves}"
            );
            assert!(!dir.path().join("a/none.former").exists());
        }
    }

    #[test]
    fn nothing_that_is_moved_takes_a_name_that_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        for name in ["a", "b"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        assert!(matches!(folder.move_new("a", &folder, "b"), Err(TreeError::Taken)));
        assert!(matches!(folder.take_out("a", &folder, "b"), Err(TreeError::Taken)));
        folder.take_out("b", &folder, "kept").unwrap();
        folder.move_new("a", &folder, "b").unwrap();
        assert_eq!((read("b"), read("kept")), ("a".to_owned(), "b".to_owned()));
        assert!(!dir.path().join("a").exists());
    }
}
