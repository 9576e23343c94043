//! What the checks of changes see of a tree.

use relais_proto::{ChangeId, Kind, Lsn, Mode, TreePath};

use crate::locks::LockTable;
use crate::properties::PathProperties;

/// State of an entry, as far as the check needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeNode {
    /// File or folder.
    pub kind: Kind,
    /// Last change to the path; `None` if the entry was never numbered.
    pub version: Option<Lsn>,
    /// Permission bits.
    pub mode: Mode,
}

/// Read access to the tree for the check.
pub trait TreeView {
    /// Returns the entry at a path below the root; `None` if there is none.
    fn node(&mut self, path: &TreePath) -> Option<TreeNode>;

    /// Returns whether a folder is empty.
    ///
    /// A folder with entries that are not served is not empty, because it cannot be removed.
    fn is_empty(&mut self, folder: &TreePath) -> bool;

    /// Returns the length in bytes of the longest path below a folder; 0 if it is empty.
    fn longest_below(&mut self, folder: &TreePath) -> usize;

    /// Returns the number of the change with this id, if it was committed before.
    fn number_of(&mut self, id: ChangeId) -> Option<Lsn>;

    /// Returns all locks.
    fn locks(&mut self) -> &LockTable;

    /// Returns the properties of a path; `None` if it has none.
    fn properties(&mut self, path: &TreePath) -> Option<&PathProperties>;

    /// Returns the bytes of the properties of all paths.
    fn property_bytes(&mut self) -> usize;

    /// Returns the size of a put's content; `None` if no path has it.
    fn size_of(&mut self, put: Lsn) -> Option<u64>;

    /// Returns whether the hashes of a put's content are recorded.
    fn has_hashes(&mut self, put: Lsn) -> bool;
}
