//! Moving a name from one pinned folder to another: how staged content gets its place, and gives it back.
//!
//! Both folders must lie on one mount. Nothing is copied, no link is followed, and each move is one
//! step for whoever looks at it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, RenameFlags, linkat, renameat, renameat_with};
use rustix::io::Errno;

use crate::error::TreeError;
use crate::folder::Folder;
use crate::local::part;
use crate::meta::MetaKind;

/// Behind a name that former content has for a moment, where two names cannot be exchanged in one step.
pub const FORMER: &str = ".former";

fn failed(e: Errno) -> TreeError {
    TreeError::from_errno("rename", e)
}

impl Folder {
    /// Moves `name` to `to`, where nothing may have the name `to_name`.
    ///
    /// # Errors
    /// [`TreeError::Taken`] where something has it; what the system says.
    pub fn move_new(
        &self,
        name: impl AsRef<OsStr>,
        to: &Folder,
        to_name: impl AsRef<OsStr>,
    ) -> Result<(), TreeError> {
        let (name, to_name) = (part(name.as_ref())?, part(to_name.as_ref())?);
        match renameat_with(self, name, to, to_name, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            // Some file systems do not know the flag. A second name does the same for files.
            Err(Errno::INVAL | Errno::NOSYS)
                if self.stat_part(name.as_bytes())?.kind == MetaKind::File =>
            {
                linkat(self, name, to, to_name, AtFlags::empty()).map_err(failed)?;
                self.unlink(name)
            }
            Err(e) => Err(failed(e)),
        }
    }

    /// Puts the file `name` in the place of the file `to_name` of `to`, in one step. The former file is `name` afterwards.
    ///
    /// # Errors
    /// [`TreeError::NotFound`] where either is missing; what the system says. Nothing has changed then.
    pub fn exchange(
        &self,
        name: impl AsRef<OsStr>,
        to: &Folder,
        to_name: impl AsRef<OsStr>,
    ) -> Result<(), TreeError> {
        let (name, to_name) = (part(name.as_ref())?, part(to_name.as_ref())?);
        match renameat_with(self, name, to, to_name, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(()),
            Err(Errno::INVAL | Errno::NOSYS) => self.exchange_by_link(name, to, to_name),
            Err(e) => Err(failed(e)),
        }
    }

    /// As [`Self::exchange`] where the file system cannot: the former file gets a second name before it loses its first.
    fn exchange_by_link(
        &self,
        name: &OsStr,
        to: &Folder,
        to_name: &OsStr,
    ) -> Result<(), TreeError> {
        let mut kept = name.to_owned();
        kept.push(FORMER);
        // Left behind by somebody who was stopped here; what it held has been replaced, or still has its first name.
        match self.unlink(&kept) {
            Ok(()) | Err(TreeError::NotFound) => {}
            Err(e) => return Err(e),
        }
        linkat(to, to_name, self, &kept, AtFlags::empty()).map_err(failed)?;
        if let Err(e) = renameat(self, name, to, to_name) {
            self.unlink(&kept)?;
            return Err(failed(e));
        }
        renameat(self, &kept, self, name).map_err(failed)
    }

    /// Moves the file `name` to `to`, over a file that has the name `to_name`, which gets the name `kept` in `keep`.
    ///
    /// # Errors
    /// What the system says. Nothing has changed then.
    pub fn move_over(
        &self,
        name: impl AsRef<OsStr>,
        to: &Folder,
        to_name: impl AsRef<OsStr>,
        (keep, kept): (&Folder, &str),
    ) -> Result<(), TreeError> {
        let (name, to_name) = (part(name.as_ref())?, part(to_name.as_ref())?);
        linkat(to, to_name, keep, kept, AtFlags::empty()).map_err(failed)?;
        renameat(self, name, to, to_name).map_err(|e| match keep.unlink(kept) {
            Ok(()) => failed(e),
            Err(second) => second,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exchange_is_the_same_with_and_without_the_systems_own() {
        for by_link in [false, true] {
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
            std::fs::hard_link(dir.path().join("b/old"), dir.path().join("a/new.former")).unwrap();
            if by_link {
                a.exchange_by_link(OsStr::new("new"), &b, OsStr::new("old")).unwrap();
                assert!(!dir.path().join("a/new.former").exists());
                assert!(a.exchange_by_link(OsStr::new("new"), &b, OsStr::new("none")).is_err());
                assert!(a.exchange_by_link(OsStr::new("none"), &b, OsStr::new("old")).is_err());
            } else {
                a.exchange("new", &b, "old").unwrap();
                assert!(matches!(a.exchange("new", &b, "none"), Err(TreeError::NotFound)));
                assert!(matches!(a.exchange("none", &b, "old"), Err(TreeError::NotFound)));
            }
            assert_eq!(
                (read("a/new"), read("b/old")),
                ("old".to_owned(), "new".to_owned()),
                "by link: {by_link}"
            );
            assert!(!dir.path().join("a/none.former").exists());
        }
    }

    #[test]
    fn what_is_moved_over_keeps_a_name_and_nothing_new_takes_one() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        for name in ["a", "b"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        assert!(matches!(folder.move_new("a", &folder, "b"), Err(TreeError::Taken)));
        assert!(folder.move_over("none", &folder, "b", (&folder, "kept")).is_err());
        assert!(!dir.path().join("kept").exists());
        folder.move_over("a", &folder, "b", (&folder, "kept")).unwrap();
        assert_eq!((read("b"), read("kept")), ("a".to_owned(), "b".to_owned()));
        folder.move_new("kept", &folder, "c").unwrap();
        assert!(!dir.path().join("a").exists() && !dir.path().join("kept").exists());
    }
}
