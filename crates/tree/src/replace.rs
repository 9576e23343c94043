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

fn failed(e: Errno) -> TreeError {
    TreeError::from_errno("rename", e)
}

impl Folder {
    /// Moves `name` to `to`, where nothing may have the name `to_name`.
    ///
    /// # Errors
    /// [`TreeError::Taken`] where something has it; what the system says.
    pub fn move_new(&self, name: impl AsRef<OsStr>, to: &Folder, to_name: impl AsRef<OsStr>) -> Result<(), TreeError> {
        let (name, to_name) = (part(name.as_ref())?, part(to_name.as_ref())?);
        match renameat_with(self, name, to, to_name, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            // Some file systems do not know the flag. A second name does the same for files.
            Err(Errno::INVAL | Errno::NOSYS) if self.stat_part(name.as_bytes())?.kind == MetaKind::File => {
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
    pub fn exchange(&self, name: impl AsRef<OsStr>, to: &Folder, to_name: impl AsRef<OsStr>) -> Result<(), TreeError> {
        let (name, to_name) = (part(name.as_ref())?, part(to_name.as_ref())?);
        match renameat_with(self, name, to, to_name, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(()),
            Err(Errno::INVAL | Errno::NOSYS) => self.exchange_by_link(name, to, to_name),
            Err(e) => Err(failed(e)),
        }
    }

    /// As [`Self::exchange`] where the file system cannot: the former file gets a second name before it loses its first.
    fn exchange_by_link(&self, name: &OsStr, to: &Folder, to_name: &OsStr) -> Result<(), TreeError> {
        let mut kept = name.to_owned();
        kept.push(".former");
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
