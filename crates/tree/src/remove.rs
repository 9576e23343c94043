//! Removes folders by single names.

use std::ffi::OsStr;

use rustix::fs::{AtFlags, unlinkat};

use crate::error::TreeError;
use crate::folder::Folder;
use crate::local::part;

impl Folder {
    /// Removes an empty direct subfolder.
    ///
    /// # Errors
    /// [`TreeError::NotEmpty`], [`TreeError::NotFound`], [`TreeError::NotFolder`], or an error of
    /// the system.
    pub fn remove_folder(&self, name: impl AsRef<OsStr>) -> Result<(), TreeError> {
        unlinkat(self, part(name.as_ref())?, AtFlags::REMOVEDIR)
            .map_err(|e| TreeError::from_errno("remove the folder", e))
    }
}
