//! What a look-up of a path finds.

use relais_proto::{FolderId, Sha256};

use crate::tree::Entry;

/// An entry of the tree, and where it can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocatedEntry {
    /// The entry.
    pub entry: Entry,
    /// Folders that have applied its last change.
    pub current: Vec<FolderId>,
    /// Those of them that hold its content.
    pub holders: Vec<FolderId>,
    /// SHA-256 of its content, if it is known.
    pub sha256: Option<Sha256>,
}
