//! Renames a new file over an existing name in one system call, for many small files.

use std::ffi::OsStr;

use rustix::fs::renameat;

use crate::error::TreeError;
use crate::folder::Folder;
use crate::local::part;

impl Folder {
    /// Renames a file like [`Folder::rename`], without a check of the target.
    ///
    /// The caller knows that `from` is a file. The system never replaces a folder by a file.
    ///
    /// # Errors
    /// [`TreeError::IsFolder`] if a folder has the name `to`.
    pub fn rename_file(
        &self,
        from: impl AsRef<OsStr>,
        to: impl AsRef<OsStr>,
    ) -> Result<(), TreeError> {
        renameat(self, part(from.as_ref())?, self, part(to.as_ref())?)
            .map_err(|e| TreeError::from_errno("rename", e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_replaces_a_file_or_a_link_and_no_folder() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        std::fs::create_dir(dir.path().join("folder")).unwrap();
        std::fs::write(dir.path().join("victim"), "precious").unwrap();
        std::os::unix::fs::symlink("victim", dir.path().join("link")).unwrap();
        std::fs::write(dir.path().join("new"), "new").unwrap();
        assert!(matches!(folder.rename_file("new", "folder"), Err(TreeError::IsFolder)));
        assert!(folder.rename_file("new", "../out").is_err());
        folder.rename_file("new", "link").unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("victim")).unwrap(), "precious");
        assert_eq!(std::fs::read_to_string(dir.path().join("link")).unwrap(), "new");
        assert!(matches!(folder.rename_file("new", "x"), Err(TreeError::NotFound)));
    }
}
