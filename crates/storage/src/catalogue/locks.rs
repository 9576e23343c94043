//! Locks of paths: a row for each lock.
//!
//! Rows of expired locks stay until a later lock; readers compare the time of expiry.

use relais_proto::{Lock, LockToken, TreePath};

use super::annotations::{decoded, encoded};
use super::columns::{AT, BELOW, Columns, Values};
use super::store::CatalogStore;
use crate::error::Result;

/// Columns of a lock with its path.
const COLUMNS: &str = "folder, name, lock";

fn read(from: &mut Columns<'_>) -> rusqlite::Result<(Option<TreePath>, Vec<u8>)> {
    Ok((from.path()?, from.get()?))
}

impl CatalogStore {
    fn locks_where(&self, condition: &str, values: Values<'_>) -> Result<Vec<(TreePath, Lock)>> {
        let select = format!("SELECT {COLUMNS} FROM lock WHERE {condition}");
        let damaged = || self.damaged("a lock");
        let rows = self.all(&select, values, read)?.into_iter();
        rows.map(|(path, lock)| path.zip(decoded(&lock)).ok_or_else(damaged)).collect()
    }

    /// Returns whether there are locks, which may have expired.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn has_locks(&self) -> Result<bool> {
        self.exists("lock", "1", Values::default())
    }

    /// Returns the locks that cover a path: those on it, and deep ones above it.
    ///
    /// Each has the path that was locked. The nearest come first.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn locks_covering(&self, path: &TreePath) -> Result<Vec<(TreePath, Lock)>> {
        self.ask_together(|store| {
            if !store.has_locks()? {
                return Ok(Vec::new());
            }
            let mut found = store.locks_at(path)?;
            let mut at = path.clone();
            while let Some((parent, _)) = at.split_last() {
                found.extend(store.locks_at(&parent)?.into_iter().filter(|(_, lock)| lock.deep));
                at = parent;
            }
            Ok(found)
        })
    }

    /// Returns the locks on a path itself.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn locks_at(&self, path: &TreePath) -> Result<Vec<(TreePath, Lock)>> {
        self.locks_where(AT, Values::at(path))
    }

    /// Returns the locks on paths below a folder, ordered by path.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn locks_below(&self, folder: &TreePath) -> Result<Vec<(TreePath, Lock)>> {
        let mut found = if folder.is_root() {
            self.locks_where("name <> ''", Values::default())?
        } else {
            // The condition needs no columns of the folder itself.
            self.locks_where(&BELOW.replace("?3", "?1"), Values::of(folder.as_str()))?
        };
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    /// Writes a lock, instead of the one with the same token.
    pub(super) fn put_lock(&self, path: &TreePath, lock: &Lock) -> Result<()> {
        let expires = i64::try_from(lock.expires_ms).unwrap_or(i64::MAX);
        self.run(
            "INSERT OR REPLACE INTO lock VALUES (?, ?, ?, ?, ?)",
            Values::at(path).add(&lock.token.0[..]).add(expires).add(encoded(lock)),
        )
    }

    /// Adds a lock, or extends the one with the same token, and deletes those that have expired at
    /// a time in milliseconds since 1970 UTC.
    pub(super) fn grant_lock(&self, path: &TreePath, lock: Lock, now_ms: u64) -> Result<()> {
        let now = i64::try_from(now_ms).unwrap_or(i64::MAX);
        self.run("DELETE FROM lock WHERE expires <= ?", Values::of(now))?;
        let present = self.locks_at(path)?.into_iter().find(|(_, other)| other.token == lock.token);
        let lock = match present {
            Some((_, other)) => Lock { expires_ms: lock.expires_ms, ..other },
            None => lock,
        };
        self.put_lock(path, &lock)
    }

    /// Deletes the lock with a token.
    pub(super) fn drop_lock(&self, path: &TreePath, token: LockToken) -> Result<()> {
        let delete = format!("DELETE FROM lock WHERE {AT} AND token = ?3");
        self.run(&delete, Values::at(path).add(&token.0[..]))
    }

    /// Returns all locks with their paths, ordered by path.
    pub(super) fn all_locks(&self) -> Result<Vec<(TreePath, Lock)>> {
        let mut found = self.locks_where("1", Values::default())?;
        found.sort_by(|a, b| (&a.0, a.1.token.0).cmp(&(&b.0, b.1.token.0)));
        Ok(found)
    }
}
