//! Finds the folders from which a path can be served.

use std::collections::BTreeMap;

use relais_proto::{FolderId, Lsn, TreePath};

use super::Coordinator;
use crate::tree::Entry;

/// An entry of the tree, and where it can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocatedEntry {
    /// The entry.
    pub entry: Entry,
    /// Folders that have applied its last change and hold its content.
    pub folders: Vec<FolderId>,
}

impl Coordinator {
    /// Finds an entry below the root; none if the tree has no such path.
    #[must_use]
    pub fn locate(&self, path: &TreePath) -> Option<LocatedEntry> {
        let entry = *self.tree().get(path)?;
        let applied = self.applied_by_folder();
        let is_current =
            |folder: &FolderId| applied.get(folder).is_some_and(|at| *at >= entry.version);
        let folders = match entry.content {
            Some(content) => self.holders.of(content.put).filter(is_current).collect(),
            None => applied.keys().copied().filter(is_current).collect(),
        };
        Some(LocatedEntry { entry, folders })
    }

    /// Returns the last change that each linked folder has applied.
    ///
    /// Slaves that share a folder have one catalogue.
    fn applied_by_folder(&self) -> BTreeMap<FolderId, Lsn> {
        let mut applied = BTreeMap::new();
        for peer in self.peers.values() {
            let at = applied.entry(peer.folder).or_insert(peer.applied);
            *at = peer.applied.max(*at);
        }
        applied
    }
}
