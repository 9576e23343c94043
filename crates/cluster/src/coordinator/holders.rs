//! Holders of each content by folder. Slaves that share a folder count once.

use std::collections::{BTreeSet, HashMap};

use relais_proto::{FolderId, Lsn};

/// Folders that hold each content, by its put.
#[derive(Debug, Clone, Default)]
pub struct Holders {
    by_put: HashMap<Lsn, BTreeSet<FolderId>>,
}

impl Holders {
    /// Records that a folder holds the content of a put.
    pub fn add(&mut self, put: Lsn, folder: FolderId) {
        self.by_put.entry(put).or_default().insert(folder);
    }

    /// Records that a folder no longer holds the content.
    pub fn remove(&mut self, put: Lsn, folder: FolderId) {
        if let Some(folders) = self.by_put.get_mut(&put) {
            folders.remove(&folder);
        }
    }

    /// Removes a folder from all contents.
    pub fn forget(&mut self, folder: FolderId) {
        self.by_put.values_mut().for_each(|folders| {
            folders.remove(&folder);
        });
    }

    /// Removes a content that left the tree.
    pub fn drop_content(&mut self, put: Lsn) {
        self.by_put.remove(&put);
    }

    /// Iterates over the folders that hold the content.
    pub fn of(&self, put: Lsn) -> impl Iterator<Item = FolderId> + '_ {
        self.by_put.get(&put).into_iter().flatten().copied()
    }

    /// Returns the number of copies.
    #[must_use]
    pub fn copies(&self, put: Lsn) -> usize {
        self.by_put.get(&put).map_or(0, BTreeSet::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_counts_once_and_goes_with_all_it_held() {
        let (put, other) = (Lsn { epoch: 1, number: 1 }, Lsn { epoch: 1, number: 2 });
        let (a, b) = (FolderId([1; 16]), FolderId([2; 16]));
        let mut holders = Holders::default();
        holders.add(put, a);
        holders.add(put, a);
        holders.add(put, b);
        holders.add(other, a);
        assert_eq!((holders.copies(put), holders.copies(other)), (2, 1));
        holders.forget(a);
        assert_eq!((holders.of(put).collect::<Vec<_>>(), holders.copies(other)), (vec![b], 0));
        holders.remove(put, b);
        assert_eq!(holders.copies(put), 0);
    }
}
