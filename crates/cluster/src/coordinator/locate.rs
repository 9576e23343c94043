//! Finds the folders from which a path can be served.

use std::collections::BTreeMap;

use relais_proto::{FolderId, Lsn, TreePath};

use super::Coordinator;
use super::located_entry::LocatedEntry;

impl Coordinator {
    /// Finds an entry below the root; none if the tree has no such path.
    #[must_use]
    pub fn locate(&self, path: &TreePath) -> Option<LocatedEntry> {
        let entry = self.tree().get(path)?;
        let applied = self.applied_by_folder();
        let current: Vec<FolderId> = applied
            .iter()
            .filter(|(_, at)| **at >= entry.version)
            .map(|(folder, _)| *folder)
            .collect();
        let holders = match entry.content {
            Some(content) => self.holders.of(content.put).filter(|f| current.contains(f)).collect(),
            None => current.clone(),
        };
        let hashes = entry.content.and_then(|content| self.tree().hashes().of(content.put));
        let sha256 = hashes.map(|hashes| hashes.sha256);
        Some(LocatedEntry { entry, current, holders, sha256 })
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
