//! Locks by path (RFC 4918, section 6).
//!
//! A lock ends by an unlock, with its resource, or by time. Expired locks count for nothing. They
//! leave the table when the next lock is granted, by the time of that log entry, so all servers
//! have the same table.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use relais_proto::{Lock, LockToken, TreePath};

/// All locks of a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LockTable(BTreeMap<TreePath, Vec<Arc<Lock>>>);

impl LockTable {
    /// Makes a table of these locks.
    #[must_use]
    pub fn listed(locks: impl IntoIterator<Item = (TreePath, Lock)>) -> Self {
        let mut table = Self::default();
        for (path, lock) in locks {
            table.0.entry(path).or_default().push(Arc::new(lock));
        }
        table
    }

    /// Iterates over all locks, ordered by path.
    pub fn iter(&self) -> impl Iterator<Item = (&TreePath, &Arc<Lock>)> {
        self.0.iter().flat_map(|(path, locks)| locks.iter().map(move |lock| (path, lock)))
    }

    /// Returns the locks that were made at a path.
    #[must_use]
    pub fn at(&self, path: &TreePath) -> &[Arc<Lock>] {
        self.0.get(path).map_or(&[], Vec::as_slice)
    }

    /// Iterates over the locks that were made below a folder.
    pub fn below<'a>(
        &'a self,
        folder: &'a TreePath,
    ) -> impl Iterator<Item = (&'a TreePath, &'a Arc<Lock>)> {
        self.paths_below(folder)
            .flat_map(|(path, locks)| locks.iter().map(move |lock| (path, lock)))
    }

    /// Returns the locks that cover a path: its own, and deep ones of the folders above it.
    #[must_use]
    pub fn covering(&self, path: &TreePath) -> Vec<(TreePath, Arc<Lock>)> {
        // Each change asks, and most trees have no locks.
        if self.0.is_empty() {
            return Vec::new();
        }
        let with = |path: &TreePath, lock: &Arc<Lock>| (path.clone(), Arc::clone(lock));
        let mut found: Vec<_> = self.at(path).iter().map(|lock| with(path, lock)).collect();
        let mut above = path.split_last().map(|(parent, _)| parent);
        while let Some(folder) = above {
            let deep = self.at(&folder).iter().filter(|lock| lock.deep);
            found.extend(deep.map(|lock| with(&folder, lock)));
            above = folder.split_last().map(|(parent, _)| parent);
        }
        found
    }

    /// Adds a lock, or extends the unexpired one with the same token, and drops expired ones.
    pub fn grant(&mut self, path: &TreePath, lock: Lock, now_ms: u64) {
        self.0.retain(|_, locks| {
            locks.retain(|lock| !lock.has_expired(now_ms));
            !locks.is_empty()
        });
        let here = self.0.entry(path.clone()).or_default();
        match here.iter_mut().find(|other| other.token == lock.token) {
            Some(other) => Arc::make_mut(other).expires_ms = lock.expires_ms,
            None => here.push(Arc::new(lock)),
        }
    }

    /// Removes a lock.
    pub fn release(&mut self, path: &TreePath, token: LockToken) {
        if let Some(locks) = self.0.get_mut(path) {
            locks.retain(|lock| lock.token != token);
            if locks.is_empty() {
                self.0.remove(path);
            }
        }
    }

    /// Removes the locks of a path and of all below it, because they are gone.
    pub fn remove_tree(&mut self, path: &TreePath) {
        let below: Vec<_> = self.paths_below(path).map(|(below, _)| below.clone()).collect();
        for gone in below.iter().chain([path]) {
            self.0.remove(gone);
        }
    }

    fn paths_below<'a>(
        &'a self,
        folder: &'a TreePath,
    ) -> impl Iterator<Item = (&'a TreePath, &'a Vec<Arc<Lock>>)> {
        self.0
            .range((Bound::Excluded(folder), Bound::Unbounded))
            .take_while(|(path, _)| path.as_str().starts_with(folder.as_str()))
            .filter(|(path, _)| path.is_below(folder))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::new(text).unwrap()
    }

    fn lock(token: u8, deep: bool, expires_ms: u64) -> Lock {
        Lock {
            token: LockToken([token; 16]),
            account: 1,
            user: "ann".into(),
            owner: String::new(),
            exclusive: false,
            deep,
            expires_ms,
        }
    }

    fn tokens<'a>(locks: impl IntoIterator<Item = &'a Arc<Lock>>) -> Vec<u8> {
        locks.into_iter().map(|lock| lock.token.0[0]).collect()
    }

    #[test]
    fn a_path_is_covered_by_its_own_and_deep_locks_above() {
        let table = LockTable::listed([
            (TreePath::root(), lock(1, false, 9)),
            (TreePath::root(), lock(2, true, 9)),
            (path("a"), lock(3, true, 9)),
            (path("a/b"), lock(4, false, 9)),
            (path("a/b/c"), lock(5, false, 9)),
            (path("a-b"), lock(6, true, 9)),
        ]);
        for (at, covering, below) in [
            ("", vec![1, 2], vec![3, 6, 4, 5]),
            ("a", vec![3, 2], vec![4, 5]),
            ("a/b", vec![4, 3, 2], vec![5]),
            ("a/b/d", vec![3, 2], vec![]),
            ("a-b/c", vec![6, 2], vec![]),
        ] {
            let at = path(at);
            let found = table.covering(&at);
            assert_eq!(tokens(found.iter().map(|(_, lock)| lock)), covering, "{at}");
            assert_eq!(tokens(table.below(&at).map(|(_, lock)| lock)), below, "{at}");
        }
        let mut less = table.clone();
        less.remove_tree(&path("a"));
        assert_eq!(tokens(less.iter().map(|(_, lock)| lock)), [1, 2, 6]);
        less.remove_tree(&TreePath::root());
        assert_eq!(less, LockTable::default());
    }

    #[test]
    fn a_grant_extends_its_token_and_drops_what_has_expired() {
        let mut table = LockTable::default();
        table.grant(&path("a"), lock(1, false, 10), 0);
        table.grant(&path("b"), lock(2, false, 20), 0);
        table.grant(&path("b"), lock(2, true, 30), 10);
        assert_eq!(tokens(table.iter().map(|(_, lock)| lock)), [2]);
        assert_eq!((table.at(&path("b"))[0].expires_ms, table.at(&path("b"))[0].deep), (30, false));
        table.release(&path("a"), LockToken([2; 16]));
        assert_eq!(tokens(table.at(&path("b"))), [2]);
        table.release(&path("b"), LockToken([2; 16]));
        assert_eq!(table, LockTable::default());
    }
}
