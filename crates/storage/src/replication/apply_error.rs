//! The error of a step on the disk.

use relais_proto::TreePath;
use relais_tree::TreeError;

use crate::error::CatalogError;

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

    pub fn at(path: &TreePath) -> impl FnOnce(TreeError) -> Self {
        let path = path.clone();
        move |e| Self::Disk(path, e)
    }
}
