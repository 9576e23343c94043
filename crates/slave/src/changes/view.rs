//! The tree as the catalogue has it, for the check of changes.

use relais_cluster::{TreeNode, TreeView};
use relais_proto::{ChangeId, Lsn, TreePath};
use relais_storage::{CatalogError, CatalogStore};

/// Reads through the one connection that writes.
pub struct CatalogueView<'a>(pub &'a CatalogStore);

impl TreeView for CatalogueView<'_> {
    type Error = CatalogError;

    fn node(&mut self, path: &TreePath) -> Result<Option<TreeNode>, CatalogError> {
        Ok(self.0.row(path)?.map(|row| TreeNode {
            kind: row.entry.kind,
            version: row.entry.version,
            mode: row.entry.mode,
        }))
    }

    fn is_empty(&mut self, folder: &TreePath) -> Result<bool, CatalogError> {
        self.0.is_empty(folder)
    }

    fn longest_below(&mut self, folder: &TreePath) -> Result<usize, CatalogError> {
        self.0.longest_below(folder)
    }

    fn number_of(&mut self, id: ChangeId) -> Result<Option<Lsn>, CatalogError> {
        Ok(self.0.commit_of(id)?.map(|commit| commit.version))
    }
}
