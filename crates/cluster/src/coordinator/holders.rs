//! Holders of each content by folder. Slaves that share a folder count once.

use std::collections::{BTreeSet, HashMap};

use relais_proto::{FolderId, Lsn};

use super::folder_set::{FolderNumbers, FolderSet};
use crate::packed_map::PackedMap;

/// Folders that hold each content, by its put.
///
/// Most contents are held by the same folders, so a content has the number of its set of folders. A
/// set is changed in place when a folder holds all contents that have it, so the join of a slave
/// does not walk the tree. Two sets may have become equal by that.
#[derive(Debug, Clone, Default)]
pub struct Holders {
    by_put: PackedMap<Lsn, u32>,
    sets: HashMap<u32, (FolderSet, usize)>,
    numbers: HashMap<FolderSet, u32>,
    /// Where the search for a free number starts.
    next: u32,
    folders: FolderNumbers,
}

impl Holders {
    /// Begins with contents that no folder holds.
    pub(super) fn tracking(puts: impl IntoIterator<Item = Lsn>) -> Self {
        let mut holders = Self::default();
        for put in puts {
            holders.track(put);
        }
        holders
    }

    /// Adds a content of the tree, without a holder if none is known.
    pub(super) fn track(&mut self, put: Lsn) {
        if !self.by_put.contains_key(&put) {
            self.replace(put, FolderSet::default());
        }
    }

    /// Records that a folder holds the content of a put.
    pub fn add(&mut self, put: Lsn, folder: FolderId) {
        let number = self.folders.number(folder);
        let mut folders = self.set(put).cloned().unwrap_or_default();
        if folders.insert(number) || !self.by_put.contains_key(&put) {
            self.replace(put, folders);
        }
    }

    /// Records that a folder holds all contents but these, whose holders stay as they are.
    pub(super) fn add_to_all(&mut self, folder: FolderId, except: &PackedMap<Lsn, ()>) {
        let number = self.folders.number(folder);
        let kept: Vec<Lsn> = except
            .iter()
            .map(|(put, ())| put)
            .filter(|put| self.set(*put).is_some_and(|set| !set.contains(number)))
            .collect();
        self.numbers.clear();
        for (at, (set, _)) in &mut self.sets {
            set.insert(number);
            self.numbers.insert(set.clone(), *at);
        }
        kept.into_iter().for_each(|put| self.remove(put, folder));
    }

    /// Returns the contents that one of these folders does not hold.
    pub(super) fn not_held_by_all(&self, folders: &BTreeSet<FolderId>) -> Vec<Lsn> {
        let all: Option<Vec<usize>> = folders.iter().map(|f| self.folders.find(*f)).collect();
        let is_partial = |set: &FolderSet| {
            all.as_ref().is_none_or(|all| all.iter().any(|number| !set.contains(*number)))
        };
        let partial: BTreeSet<u32> =
            self.sets.iter().filter(|(_, (set, _))| is_partial(set)).map(|(at, _)| *at).collect();
        if partial.is_empty() {
            return Vec::new();
        }
        self.by_put.iter().filter(|(_, at)| partial.contains(at)).map(|(put, _)| put).collect()
    }

    /// Iterates over the contents after a put.
    pub(super) fn after(&self, put: Lsn) -> impl Iterator<Item = Lsn> + '_ {
        self.by_put.after(&put).map(|(put, _)| put)
    }

    /// Records that a folder no longer holds the content.
    pub fn remove(&mut self, put: Lsn, folder: FolderId) {
        let Some(number) = self.folders.find(folder) else { return };
        let Some(mut folders) = self.set(put).cloned() else { return };
        if folders.remove(number) {
            self.replace(put, folders);
        }
    }

    /// Removes a folder from all contents.
    pub fn forget(&mut self, folder: FolderId) {
        let Some(number) = self.folders.find(folder) else { return };
        self.numbers.clear();
        for (at, (set, _)) in &mut self.sets {
            set.remove(number);
            self.numbers.insert(set.clone(), *at);
        }
        self.folders.forget(folder);
    }

    /// Removes a content that left the tree.
    pub fn drop_content(&mut self, put: Lsn) {
        if let Some(former) = self.by_put.remove(&put) {
            self.release(former);
        }
    }

    /// Iterates over the folders that hold the content.
    pub fn of(&self, put: Lsn) -> impl Iterator<Item = FolderId> + '_ {
        self.set(put).into_iter().flat_map(|set| set.iter()).filter_map(|at| self.folders.get(at))
    }

    /// Returns the number of copies.
    #[must_use]
    pub fn copies(&self, put: Lsn) -> usize {
        self.set(put).map_or(0, FolderSet::len)
    }

    fn set(&self, put: Lsn) -> Option<&FolderSet> {
        self.sets.get(&self.by_put.get(&put)?).map(|(folders, _)| folders)
    }

    /// Gives a content another set of folders.
    fn replace(&mut self, put: Lsn, folders: FolderSet) {
        let number = self.number_of(folders);
        if let Some(former) = self.by_put.insert(&put, &number) {
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
            // An equal set may have another number.
            if self.numbers.get(folders) == Some(&number) {
                self.numbers.remove(folders);
            }
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
        holders.drop_content(put);
        holders.drop_content(other);
        assert!(holders.sets.is_empty() && holders.numbers.is_empty() && holders.by_put.is_empty());
    }

    #[test]
    fn a_folder_that_holds_all_is_added_without_a_walk() {
        let puts: Vec<Lsn> = (1..=5).map(|number| Lsn { epoch: 1, number }).collect();
        let (a, b) = (FolderId([1; 16]), FolderId([2; 16]));
        let except = |all: &[usize]| all.iter().map(|at| (puts[*at], ())).collect();
        let mut holders = Holders::tracking(puts.iter().copied());
        holders.add_to_all(a, &except(&[4]));
        let copies =
            |holders: &Holders| puts.iter().map(|put| holders.copies(*put)).collect::<Vec<_>>();
        assert_eq!(copies(&holders), [1, 1, 1, 1, 0]);
        holders.add(puts[4], a);
        holders.add_to_all(b, &except(&[0, 1]));
        assert_eq!(copies(&holders), [1, 1, 2, 2, 2]);
        assert_eq!(holders.not_held_by_all(&BTreeSet::from([a])), []);
        assert_eq!(holders.not_held_by_all(&BTreeSet::from([a, b])), puts[..2]);
        // Sets that have become equal still count their own contents.
        holders.forget(b);
        assert_eq!(copies(&holders), [1; 5]);
        puts.iter().for_each(|put| holders.drop_content(*put));
        assert!(holders.sets.is_empty() && holders.numbers.is_empty());
    }
}
