//! Paths at which this disk refuses what the tree has, each with its reason. Scans leave such a
//! path alone, and it is retried.

use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use relais_cluster::{Entry, FileContent};
use relais_proto::{Lsn, TreePath};
use relais_tree::Meta;

use super::columns::{AT, AT_OR_BELOW, BELOW, Columns, Values};
use super::empty_tables::RareTable;
use super::store::CatalogStore;
use crate::clock::monotonic_ms;
use crate::error::Result;

/// Pause before the first retry. Each failure doubles it.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Longest pause between two retries.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// A path at which the disk differs from the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields' names and types say everything")]
pub struct UnappliedPath {
    pub path: TreePath,
    /// Change that could not be applied.
    pub version: Lsn,
    /// Whether a removed entry is still on the disk. Otherwise the entry of the tree is missing
    /// there.
    pub removal: bool,
    /// Reason, for operators.
    pub reason: String,
    /// Time of the first failure, in milliseconds since 1970 UTC.
    pub since_ms: u64,
    /// Where the content lies if a move could not be applied.
    pub source: Option<TreePath>,
    /// Whether a removed entry is still on the disk at this path.
    pub is_leftover: bool,
}

/// Columns of a record.
const COLUMNS: &str = "folder, name, epoch, number, removal, why, since, source, lies";

fn read(from: &mut Columns<'_>) -> rusqlite::Result<Option<UnappliedPath>> {
    let Some(path) = from.path()? else { return Ok(None) };
    Ok(Some(UnappliedPath {
        path,
        version: from.lsn()?,
        removal: from.get()?,
        reason: from.get()?,
        since_ms: from.unsigned()?,
        source: from.get::<Option<String>>()?.and_then(|source| TreePath::new(source).ok()),
        is_leftover: from.get()?,
    }))
}

impl CatalogStore {
    fn unapplied_where(&self, condition: &str, values: Values<'_>) -> Result<Vec<UnappliedPath>> {
        if self.is_empty(RareTable::Unapplied)? {
            return Ok(Vec::new());
        }
        let select = format!("SELECT {COLUMNS} FROM unapplied WHERE {condition}");
        Ok(self.all(&select, values, read)?.into_iter().flatten().collect())
    }

    /// Records that the disk refuses a path. `source` is the present path of its content, if known.
    ///
    /// Each failure doubles the pause before the next retry. A path below an unapplied folder waits
    /// for that folder.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn record_unapplied(
        &self,
        path: &TreePath,
        version: Lsn,
        removal: bool,
        reason: &str,
        source: Option<&TreePath>,
    ) -> Result<()> {
        if path.is_root() {
            return Ok(());
        }
        let waits = self.unapplied_above(path)?.is_some();
        self.empty_tables.will_fill(RareTable::Unapplied);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.run(
            "INSERT INTO unapplied
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, iif(?8, NULL, ?9 + ?10), ?10, ?12, ?5)
             ON CONFLICT (folder, name) DO UPDATE SET epoch = excluded.epoch,
             number = excluded.number, removal = excluded.removal,
             why = excluded.why, source = coalesce(excluded.source, source),
             lies = max(lies, excluded.lies), pause = min(pause * 2, ?11),
             due = iif(?8, NULL, ?9 + min(pause * 2, ?11))",
            Values::at(path)
                .lsn(version)
                .add(removal)
                .add(reason)
                .add(milliseconds(since))
                .add(waits)
                .unsigned(monotonic_ms())
                .add(milliseconds(FIRST_RETRY))
                .add(milliseconds(LONGEST_RETRY))
                .optional(source.map(TreePath::as_str)),
        )
    }

    /// Returns the record of a path; `None` if the path is applied.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn unapplied(&self, path: &TreePath) -> Result<Option<UnappliedPath>> {
        Ok(self.unapplied_where(AT, Values::at(path))?.into_iter().next())
    }

    /// Returns the unapplied folder above a path.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn unapplied_above(&self, path: &TreePath) -> Result<Option<UnappliedPath>> {
        match path.split_last() {
            Some((parent, _)) => self.nearest_unapplied(parent, |found| !found.removal),
            None => Ok(None),
        }
    }

    /// Returns whether a path or a folder above it is unapplied. Scans leave such a path alone.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn is_blocked(&self, path: &TreePath) -> Result<bool> {
        Ok(self.nearest_unapplied(path.clone(), |_| true)?.is_some())
    }

    /// Returns the first record at a path or above it that `counts`.
    fn nearest_unapplied(
        &self,
        mut path: TreePath,
        counts: impl Fn(&UnappliedPath) -> bool,
    ) -> Result<Option<UnappliedPath>> {
        if self.is_empty(RareTable::Unapplied)? {
            return Ok(None);
        }
        while let Some((parent, _)) = path.split_last() {
            if let Some(found) = self.unapplied(&path)?.filter(&counts) {
                return Ok(Some(found));
            }
            path = parent;
        }
        Ok(None)
    }

    /// Returns the unapplied names in a folder.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn unapplied_in(&self, folder: &TreePath) -> Result<HashSet<Vec<u8>>> {
        let select = "SELECT CAST(name AS BLOB) FROM unapplied WHERE folder = ?";
        let names = self.all(select, Values::of(folder.as_str()), |from| from.get())?;
        Ok(names.into_iter().collect())
    }

    /// Clears the leftover flag of a path. Leftovers of earlier removals stay when the entries
    /// move.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn clear_leftover(&self, path: &TreePath) -> Result<()> {
        self.run(&format!("UPDATE unapplied SET lies = 0 WHERE {AT}"), Values::at(path))
    }

    /// Returns whether a file at or below a path waits to be moved elsewhere.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn is_source(&self, path: &TreePath) -> Result<bool> {
        if self.is_empty(RareTable::Unapplied)? {
            return Ok(false);
        }
        self.exists(
            "unapplied",
            "source IS NOT NULL AND (source = ?1 OR (source > ?1 || '/' AND source < ?1 || '0'))",
            Values::of(path.as_str()),
        )
    }

    /// Returns the records at and below a path.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn unapplied_at_and_below(&self, path: &TreePath) -> Result<Vec<UnappliedPath>> {
        let condition = format!("{AT_OR_BELOW} ORDER BY folder, name");
        self.unapplied_where(&condition, Values::tree(path))
    }

    /// Deletes the record of a path. Paths that waited for this folder are retried now.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn clear_unapplied(&self, path: &TreePath) -> Result<()> {
        if self.is_empty(RareTable::Unapplied)? {
            return Ok(());
        }
        self.run(&format!("DELETE FROM unapplied WHERE {AT}"), Values::at(path))?;
        if self.ask(|database| Ok(database.changes()))? == 0 {
            return Ok(());
        }
        let due = format!("UPDATE unapplied SET due = 0 WHERE due IS NULL AND {BELOW}");
        self.run(&due, Values::tree(path))
    }

    /// Writes an entry of the tree at which nothing is unapplied or retained any more. Without
    /// `meta` its content is missing.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn settle_entry(&self, path: &TreePath, entry: &Entry, meta: Option<&Meta>) -> Result<()> {
        self.clear_unapplied(path)?;
        self.set_retained(path, None)?;
        self.put_entry(path, entry, meta, &[])
    }

    /// Same as [`Self::settle_entry`], for a file at a path that has no row.
    ///
    /// # Errors
    /// Returns database errors, also if the path has a row.
    pub fn settle_new_entry(&self, path: &TreePath, entry: &Entry, meta: &Meta) -> Result<()> {
        self.clear_unapplied(path)?;
        self.set_retained(path, None)?;
        self.put_new_entry(path, entry, meta)
    }

    /// Records that the missing content of an entry is on the disk, as `meta` describes it.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn record_arrival(
        &self,
        path: &TreePath,
        entry: &Entry,
        content: &FileContent,
        meta: &Meta,
    ) -> Result<()> {
        if !self.set_here(path, content.put, meta)? {
            return self.settle_entry(path, entry, Some(meta));
        }
        self.clear_unapplied(path)?;
        self.unskip(path)
    }

    /// Schedules a retry of all paths at once, as after a start.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn retry_all_unapplied(&self) -> Result<()> {
        let first = Values::of(milliseconds(FIRST_RETRY));
        self.run("UPDATE unapplied SET due = 0, pause = ?", first)
    }

    /// Returns the paths to retry now: additions before removals, folders before their entries.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn due_unapplied(&self, most: u32) -> Result<Vec<UnappliedPath>> {
        self.unapplied_where(
            "due <= ? ORDER BY removal, folder, name LIMIT ?",
            Values::default().unsigned(monotonic_ms()).add(most),
        )
    }

    /// Delays the next retry of a path by its current pause. With `when_told` it waits for an
    /// event.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn postpone_unapplied(&self, path: &TreePath, when_told: bool) -> Result<()> {
        self.run(
            &format!("UPDATE unapplied SET due = iif(?3, NULL, ?4 + pause) WHERE {AT}"),
            Values::at(path).add(when_told).unsigned(monotonic_ms()),
        )
    }
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
