//! Holders of each content by folder. Slaves that share a folder count once.

use std::collections::{BTreeSet, HashMap};

use relais_proto::{FolderId, Lsn};

use crate::packed_map::PackedMap;

/// Folders that hold a content.
type FolderSet = BTreeSet<FolderId>;

/// Folders that hold each content, by its put.
///
/// Most contents are held by the same folders, so a content has the number of its set of folders.
#[derive(Debug, Clone, Default)]
pub struct Holders {
    by_put: PackedMap<Lsn, u32>,
    sets: HashMap<u32, (FolderSet, usize)>,
    numbers: HashMap<FolderSet, u32>,
    /// Where the search for a free number starts.
    next: u32,
}

impl Holders {
    /// Records that a folder holds the content of a put.
    pub fn add(&mut self, put: Lsn, folder: FolderId) {
        let mut folders = self.set(put).cloned().unwrap_or_default();
        if folders.insert(folder) {
            self.replace(put, folders);
        }
    }

    /// Records that a folder no longer holds the content.
    pub fn remove(&mut self, put: Lsn, folder: FolderId) {
        let Some(mut folders) = self.set(put).cloned() else { return };
        if folders.remove(&folder) {
            self.replace(put, folders);
        }
    }

    /// Removes a folder from all contents.
    pub fn forget(&mut self, folder: FolderId) {
        let held: Vec<Lsn> = self
            .by_put
            .iter()
            .filter(|(_, number)| {
                self.sets.get(number).is_some_and(|(set, _)| set.contains(&folder))
            })
            .map(|(put, _)| put)
            .collect();
        held.into_iter().for_each(|put| self.remove(put, folder));
    }

    /// Removes a content that left the tree.
    pub fn drop_content(&mut self, put: Lsn) {
        self.replace(put, FolderSet::new());
    }

    /// Iterates over the folders that hold the content.
    pub fn of(&self, put: Lsn) -> impl Iterator<Item = FolderId> + '_ {
        self.set(put).into_iter().flatten().copied()
    }

    /// Returns the number of copies.
    #[must_use]
    pub fn copies(&self, put: Lsn) -> usize {
        self.set(put).map_or(0, BTreeSet::len)
    }

    fn set(&self, put: Lsn) -> Option<&FolderSet> {
        self.sets.get(&self.by_put.get(&put)?).map(|(folders, _)| folders)
    }

    /// Gives a content another set of folders. A content without holders is forgotten.
    fn replace(&mut self, put: Lsn, folders: FolderSet) {
        let former = if folders.is_empty() {
            self.by_put.remove(&put)
        } else {
            let number = self.number_of(folders);
            self.by_put.insert(&put, &number)
        };
        if let Some(former) = former {
            self.release(former);
        }
    }

    /// Returns the number of a set, and counts one more content that has it.
    fn number_of(&mut self, folders: FolderSet) -> u32 {
        if let Some(number) = self.numbers.get(&folders)
            && let Some((_, users)) = self.sets.get_mut(number)
        {
            *users += 1;
            return *number;
        }
        while self.sets.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        self.numbers.insert(folders.clone(), self.next);
        self.sets.insert(self.next, (folders, 1));
        self.next
    }

    fn release(&mut self, number: u32) {
        let Some((folders, users)) = self.sets.get_mut(&number) else { return };
        *users -= 1;
        if *users == 0 {
            self.numbers.remove(folders);
            self.sets.remove(&number);
            // Small numbers take less memory.
            self.next = self.next.min(number);
        }
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
        assert!(holders.sets.is_empty() && holders.numbers.is_empty() && holders.by_put.is_empty());
    }
}
