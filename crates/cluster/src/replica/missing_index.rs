//! Index of the missing contents, by path and by age.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use relais_proto::{Lsn, TreePath};

/// Puts whose content is missing at one path. More than one is rare.
type PutsAtPath = (Lsn, Vec<Lsn>);

/// Finds missing contents by path, and sums their bytes by age.
#[derive(Debug, Clone, Default)]
pub(super) struct MissingIndex {
    by_path: BTreeMap<Box<str>, PutsAtPath>,
    /// Bytes that count against the slave, by the time since which they are missing.
    counted: BTreeMap<Duration, u64>,
}

impl MissingIndex {
    pub fn add(&mut self, path: &TreePath, put: Lsn) {
        match self.by_path.get_mut(path.as_str()) {
            Some((_, more)) => more.push(put),
            None => drop(self.by_path.insert(path.as_str().into(), (put, Vec::new()))),
        }
    }

    pub fn remove(&mut self, path: &TreePath, put: Lsn) {
        let Some((first, more)) = self.by_path.get_mut(path.as_str()) else { return };
        if *first != put {
            return more.retain(|other| *other != put);
        }
        match more.pop() {
            Some(other) => *first = other,
            None => drop(self.by_path.remove(path.as_str())),
        }
    }

    /// Iterates over the puts whose content is missing at a path.
    pub fn at(&self, path: &TreePath) -> impl Iterator<Item = Lsn> {
        self.by_path.get(path.as_str()).into_iter().flat_map(puts)
    }

    /// Returns the puts whose content is missing at or below a path.
    pub fn at_or_below(&self, path: &TreePath) -> Vec<Lsn> {
        // `0` follows `/`, so the names below are between both. Everything is below the root.
        let (first, last) = (format!("{}/", path.as_str()), format!("{}0", path.as_str()));
        let below = match path.is_root() {
            true => (Bound::Unbounded, Bound::Unbounded),
            false => (Bound::Included(first.as_str()), Bound::Excluded(last.as_str())),
        };
        let below = self.by_path.range::<str, _>(below).flat_map(|(_, all)| puts(all));
        self.at(path).chain(below).collect()
    }

    /// Counts the bytes of a content that is missing since `since`, or counts them no longer.
    pub fn count(&mut self, since: Duration, size: u64, counts: bool) {
        // An empty content counts too.
        let size = size.max(1);
        let sum = self.counted.entry(since).or_default();
        *sum = if counts { sum.saturating_add(size) } else { sum.saturating_sub(size) };
        if *sum == 0 {
            self.counted.remove(&since);
        }
    }

    /// Returns the counted bytes that are missing since `since` or longer.
    pub fn bytes_up_to(&self, since: Duration) -> u64 {
        self.counted.range(..=since).fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }
}

fn puts((first, more): &PutsAtPath) -> impl Iterator<Item = Lsn> {
    std::iter::once(*first).chain(more.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::new(text).unwrap()
    }

    fn put(number: u64) -> Lsn {
        Lsn { epoch: 1, number }
    }

    #[test]
    fn below_a_folder_is_nothing_beside_it() {
        let mut index = MissingIndex::default();
        for (number, text) in ["a", "a-b", "a/x", "a/x/y", "a0", "b"].iter().enumerate() {
            index.add(&path(text), put(number as u64));
        }
        assert_eq!(index.at_or_below(&path("a")), [0, 2, 3].map(put));
        assert_eq!(index.at_or_below(&path("a/x")), [2, 3].map(put));
        assert_eq!(index.at_or_below(&path("c")), []);
        assert_eq!(index.at_or_below(&TreePath::root()).len(), 6);
    }

    #[test]
    fn a_path_can_miss_several_contents() {
        let mut index = MissingIndex::default();
        (1..4).for_each(|number| index.add(&path("a"), put(number)));
        index.remove(&path("a"), put(1));
        index.remove(&path("a"), put(9));
        let mut left: Vec<_> = index.at(&path("a")).collect();
        left.sort_unstable();
        assert_eq!(left, [2, 3].map(put));
        index.remove(&path("a"), put(2));
        index.remove(&path("a"), put(3));
        assert!(index.by_path.is_empty());
    }

    #[test]
    fn bytes_are_summed_by_age() {
        let (mut index, at) = (MissingIndex::default(), Duration::from_secs);
        index.count(at(1), 10, true);
        index.count(at(2), 0, true);
        index.count(at(2), 5, true);
        assert_eq!(
            [at(0), at(1), at(2), at(3)].map(|since| index.bytes_up_to(since)),
            [0, 10, 16, 16]
        );
        index.count(at(1), 10, false);
        assert_eq!(index.bytes_up_to(at(2)), 6);
        index.count(at(2), 5, false);
        index.count(at(2), 0, false);
        assert!(index.counted.is_empty());
    }
}
