//! The metadata folder of a served folder.

use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::sync::Arc;

use relais_tree::{Folder, TreeError};

/// Name of the metadata folder within the served folder.
pub const FOLDER: &str = ".relais";

/// The metadata folder, held open. Files in it are opened relative to its descriptor, even if the
/// served folder is renamed.
#[derive(Debug, Clone)]
pub struct MetadataFolder(Arc<Folder>);

impl MetadataFolder {
    /// Opens the metadata folder.
    ///
    /// # Errors
    /// Returns the errors of the folder, also if it is missing.
    pub fn open(root: &Folder) -> Result<Self, TreeError> {
        Ok(Self(Arc::new(root.sub(FOLDER)?)))
    }

    /// Opens the metadata folder, and creates it if it is missing.
    ///
    /// # Errors
    /// Returns the errors of the folder.
    pub fn create(root: &Folder) -> Result<Self, TreeError> {
        Ok(Self(Arc::new(open_or_create(root, FOLDER)?)))
    }

    /// Returns the open folder.
    #[must_use]
    pub fn folder(&self) -> &Folder {
        &self.0
    }

    /// Returns a path to a file through the descriptor. The path is valid while this or a clone
    /// exists, in this process and its forked children.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.0.as_fd().as_raw_fd()))
    }
}

/// Opens a folder in `within`, and creates it if it is missing.
///
/// # Errors
/// Returns the errors of the folder.
pub fn open_or_create(within: &Folder, name: &str) -> Result<Folder, TreeError> {
    match within.make_folder(name, true) {
        Ok(()) | Err(TreeError::Taken) => within.sub(name),
        Err(e) => Err(e),
    }
}
