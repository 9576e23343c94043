//! Sets of folders as bits, so that a set of a thousand folders is copied and compared at once.

use std::collections::HashMap;

use relais_proto::FolderId;

/// Numbers of folders, which are the bits of a set. The number of a forgotten folder is reused.
#[derive(Debug, Clone, Default)]
pub(super) struct FolderNumbers {
    by_id: HashMap<FolderId, usize>,
    ids: Vec<Option<FolderId>>,
}

impl FolderNumbers {
    /// Returns the number of a folder, a new one if it has none.
    pub fn number(&mut self, folder: FolderId) -> usize {
        if let Some(number) = self.find(folder) {
            return number;
        }
        let number = self.ids.iter().position(Option::is_none).unwrap_or(self.ids.len());
        if number == self.ids.len() {
            self.ids.push(None);
        }
        self.ids[number] = Some(folder);
        self.by_id.insert(folder, number);
        number
    }

    pub fn find(&self, folder: FolderId) -> Option<usize> {
        self.by_id.get(&folder).copied()
    }

    pub fn get(&self, number: usize) -> Option<FolderId> {
        self.ids.get(number).copied().flatten()
    }

    /// Frees the number of a folder that is in no set.
    pub fn forget(&mut self, folder: FolderId) {
        if let Some(number) = self.by_id.remove(&folder) {
            self.ids[number] = None;
        }
    }
}

/// A set of folders, by their numbers. The last word is not 0, so equal sets have equal words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct FolderSet(Vec<u64>);

impl FolderSet {
    /// Adds a folder; returns whether it is new.
    pub fn insert(&mut self, number: usize) -> bool {
        let (word, bit) = place(number);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let is_new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        is_new
    }

    /// Removes a folder; returns whether it was there.
    pub fn remove(&mut self, number: usize) -> bool {
        if !self.contains(number) {
            return false;
        }
        let (word, bit) = place(number);
        self.0[word] &= !bit;
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
        true
    }

    pub fn contains(&self, number: usize) -> bool {
        let (word, bit) = place(number);
        self.0.get(word).is_some_and(|bits| bits & bit != 0)
    }

    pub fn len(&self) -> usize {
        self.0.iter().map(|bits| bits.count_ones() as usize).sum()
    }

    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.0.len() * 64).filter(|number| self.contains(*number))
    }
}

/// Returns the word and the bit of a folder.
fn place(number: usize) -> (usize, u64) {
    (number / 64, 1 << (number % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_with_the_same_folders_is_equal() {
        let (mut set, mut other) = (FolderSet::default(), FolderSet::default());
        assert!(set.insert(3) && set.insert(200) && !set.insert(200) && other.insert(3));
        assert_eq!((set.len(), set.iter().collect::<Vec<_>>()), (2, vec![3, 200]));
        assert!(set.remove(200) && !set.remove(200) && set == other);
        assert!(set.remove(3) && set == FolderSet::default());
    }

    #[test]
    fn the_number_of_a_forgotten_folder_is_reused() {
        let mut numbers = FolderNumbers::default();
        let [a, b, c] = [1, 2, 3].map(|n| FolderId([n; 16]));
        assert_eq!((numbers.number(a), numbers.number(b), numbers.number(a)), (0, 1, 0));
        numbers.forget(a);
        assert_eq!((numbers.find(a), numbers.number(c), numbers.get(0)), (None, 0, Some(c)));
    }
}
