//! The error of a step on the disk.

use relais_proto::TreePath;
use relais_tree::TreeError;

use crate::CatalogError;

/// Error while a change is applied on the disk. The caller retries.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error("{0}: {1}")]
    Disk(TreePath, TreeError),
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Another obstacle at the path.
    #[error("{0}")]
    Refused(String),
}

impl ApplyError {
    /// Returns whether the error concerns this path only, so that other changes can continue.
    pub fn is_path_specific(&self) -> bool {
        match self {
            Self::Catalog(_) => false,
            Self::Disk(_, e) | Self::Tree(e) => !e.is_transient(),
            Self::Refused(..) => true,
        }
    }

    /// Formats the reason for operators; `path` is the path of the change.
    pub fn reason(&self, path: &TreePath) -> String {
        match self {
            Self::Disk(at, e) if at == path => e.reason(),
            Self::Disk(at, e) => format!("{at}: {}", e.reason()),
            Self::Tree(e) => e.reason(),
            Self::Refused(reason) => reason.clone(),
            Self::Catalog(e) => e.to_string(),
        }
    }
}

/// Adds the path to an error of the disk.
pub trait At<T> {
    fn at(self, path: &TreePath) -> Result<T, ApplyError>;
}

impl<T> At<T> for Result<T, TreeError> {
    fn at(self, path: &TreePath) -> Result<T, ApplyError> {
        self.map_err(|e| ApplyError::Disk(path.clone(), e))
    }
}
