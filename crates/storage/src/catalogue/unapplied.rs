//! Paths at which this disk refuses what the tree has, each with its reason. Scans leave such a
//! path alone, and it is retried.

use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use relais_proto::{Lsn, TreePath};
use rusqlite::{OptionalExtension, Row, params};

use super::CatalogError;
use super::database::failed;
use super::replica_store::{RetainedContent, read_retained};
use super::store::CatalogStore;
use crate::clock::monotonic_ms;

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

const COLUMNS: &str = "folder, name, epoch, number, removal, why, since, source, lies";
/// Condition for rows at and below the path in the first parameter.
const BELOW: &str = "(folder = ?1 OR (folder > ?1 || '/' AND folder < ?1 || '0'))";

fn read(row: &Row<'_>) -> rusqlite::Result<Option<UnappliedPath>> {
    let (folder, name): (String, String) = (row.get(0)?, row.get(1)?);
    let path = TreePath::new(if folder.is_empty() { name } else { format!("{folder}/{name}") });
    let version = Lsn { epoch: row.get(2)?, number: row.get::<_, i64>(3)?.cast_unsigned() };
    let source: Option<String> = row.get(7)?;
    Ok(path.ok().map(|path| UnappliedPath {
        path,
        version,
        removal: row.get(4).unwrap_or_default(),
        reason: row.get(5).unwrap_or_default(),
        since_ms: row.get::<_, i64>(6).unwrap_or_default().cast_unsigned(),
        source: source.and_then(|source| TreePath::new(source).ok()),
        is_leftover: row.get(8).unwrap_or_default(),
    }))
}

impl CatalogStore {
    fn unapplied_where(
        &self,
        condition: &str,
        values: impl rusqlite::Params,
    ) -> Result<Vec<UnappliedPath>, CatalogError> {
        let ask = || {
            let select = format!("SELECT {COLUMNS} FROM unapplied WHERE {condition}");
            let mut statement = self.database.prepare_cached(&select)?;
            statement.query_map(values, read)?.collect::<rusqlite::Result<Vec<_>>>()
        };
        Ok(ask().map_err(failed(&self.file))?.into_iter().flatten().collect())
    }

    fn exists(&self, condition: &str, values: impl rusqlite::Params) -> Result<bool, CatalogError> {
        let ask = || {
            let select = format!("SELECT EXISTS (SELECT 1 FROM unapplied WHERE {condition})");
            self.database.prepare_cached(&select)?.query_row(values, |row| row.get(0))
        };
        ask().map_err(failed(&self.file))
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
    ) -> Result<(), CatalogError> {
        let Some((folder, name)) = path.split_last() else { return Ok(()) };
        let waits = self.unapplied_above(path)?.is_some();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        self.run(
            "INSERT INTO unapplied
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, iif(?8, NULL, ?9 + ?10), ?10, ?12, ?5)
             ON CONFLICT (folder, name) DO UPDATE SET epoch = excluded.epoch,
             number = excluded.number, removal = excluded.removal,
             why = excluded.why, source = coalesce(excluded.source, source),
             lies = max(lies, excluded.lies), pause = min(pause * 2, ?11),
             due = iif(?8, NULL, ?9 + min(pause * 2, ?11))",
            params![
                folder.as_str(),
                name,
                version.epoch,
                version.number.cast_signed(),
                removal,
                reason,
                i64::try_from(since).unwrap_or(i64::MAX),
                waits,
                monotonic_ms().cast_signed(),
                milliseconds(FIRST_RETRY),
                milliseconds(LONGEST_RETRY),
                source.map(TreePath::as_str),
            ],
        )
        .map(drop)
    }

    /// Returns the record of a path; `None` if the path is applied.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn unapplied(&self, path: &TreePath) -> Result<Option<UnappliedPath>, CatalogError> {
        let Some((folder, name)) = path.split_last() else { return Ok(None) };
        let found = self.unapplied_where("folder = ? AND name = ?", [folder.as_str(), name])?;
        Ok(found.into_iter().next())
    }

    /// Returns the unapplied folder above a path.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn unapplied_above(&self, path: &TreePath) -> Result<Option<UnappliedPath>, CatalogError> {
        if !self.has_unapplied()? {
            return Ok(None);
        }
        let mut path = path.clone();
        while let Some((parent, _)) = path.split_last() {
            if let Some(found) = self.unapplied(&parent)?.filter(|found| !found.removal) {
                return Ok(Some(found));
            }
            path = parent;
        }
        Ok(None)
    }

    /// Returns whether a path or a folder above it is unapplied. Scans leave such a path alone.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn is_blocked(&self, path: &TreePath) -> Result<bool, CatalogError> {
        if !self.has_unapplied()? {
            return Ok(false);
        }
        let mut path = path.clone();
        while let Some((parent, _)) = path.split_last() {
            if self.unapplied(&path)?.is_some() {
                return Ok(true);
            }
            path = parent;
        }
        Ok(false)
    }

    /// Returns the unapplied names in a folder.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn unapplied_in(&self, folder: &TreePath) -> Result<HashSet<Vec<u8>>, CatalogError> {
        let ask = || {
            let select = "SELECT CAST(name AS BLOB) FROM unapplied WHERE folder = ?";
            let mut statement = self.database.prepare_cached(select)?;
            statement
                .query_map([folder.as_str()], |row| row.get(0))?
                .collect::<rusqlite::Result<HashSet<_>>>()
        };
        ask().map_err(failed(&self.file))
    }

    fn has_unapplied(&self) -> Result<bool, CatalogError> {
        self.exists("1", [])
    }

    /// Clears the leftover flag of a path. Leftovers of earlier removals stay when the entries
    /// move.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn clear_leftover(&self, path: &TreePath) -> Result<(), CatalogError> {
        let Some((folder, name)) = path.split_last() else { return Ok(()) };
        self.run(
            "UPDATE unapplied SET lies = 0 WHERE folder = ? AND name = ?",
            [folder.as_str(), name],
        )
        .map(drop)
    }

    /// Returns whether a file at or below a path waits to be moved elsewhere.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn is_source(&self, path: &TreePath) -> Result<bool, CatalogError> {
        self.exists(
            "source IS NOT NULL AND (source = ?1 OR (source > ?1 || '/' AND source < ?1 || '0'))",
            [path.as_str()],
        )
    }

    /// Returns the records at and below a path.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn unapplied_below(&self, path: &TreePath) -> Result<Vec<UnappliedPath>, CatalogError> {
        self.unapplied_where(&format!("{BELOW} ORDER BY folder, name"), [path.as_str()])
    }

    /// Returns the record of a path and those below it.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn unapplied_at_and_below(
        &self,
        path: &TreePath,
    ) -> Result<Vec<UnappliedPath>, CatalogError> {
        let mut found: Vec<UnappliedPath> = self.unapplied(path)?.into_iter().collect();
        found.extend(self.unapplied_below(path)?);
        Ok(found)
    }

    /// Deletes the record of a path. Paths that waited for this folder are retried now.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn clear_unapplied(&self, path: &TreePath) -> Result<(), CatalogError> {
        let Some((folder, name)) = path.split_last() else { return Ok(()) };
        let gone = self
            .run("DELETE FROM unapplied WHERE folder = ? AND name = ?", [folder.as_str(), name])?;
        if gone > 0 {
            self.run(
                &format!("UPDATE unapplied SET due = 0 WHERE due IS NULL AND {BELOW}"),
                [path.as_str()],
            )?;
        }
        Ok(())
    }

    /// Schedules a retry of all paths at once, as after a start.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn retry_all_unapplied(&self) -> Result<(), CatalogError> {
        self.run("UPDATE unapplied SET due = 0, pause = ?", [milliseconds(FIRST_RETRY)]).map(drop)
    }

    /// Returns the paths to retry now: additions before removals, folders before their entries.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn due_unapplied(&self, most: u32) -> Result<Vec<UnappliedPath>, CatalogError> {
        self.unapplied_where(
            "due <= ? ORDER BY removal, folder, name LIMIT ?",
            params![monotonic_ms().cast_signed(), most],
        )
    }

    /// Delays the next retry of a path by its current pause. With `when_told` it waits for an
    /// event.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn postpone_unapplied(&self, path: &TreePath, when_told: bool) -> Result<(), CatalogError> {
        let Some((folder, name)) = path.split_last() else { return Ok(()) };
        self.run(
            "UPDATE unapplied SET due = iif(?1, NULL, ?2 + pause) WHERE folder = ?3 AND name = ?4",
            params![when_told, monotonic_ms().cast_signed(), folder.as_str(), name],
        )
        .map(drop)
    }

    /// Returns the retained contents at and below a path.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn retained_below(
        &self,
        path: &TreePath,
    ) -> Result<Vec<(TreePath, RetainedContent)>, CatalogError> {
        let mut found: Vec<(TreePath, RetainedContent)> =
            self.retained(path)?.map(|retained| (path.clone(), retained)).into_iter().collect();
        let ask = || {
            let select = format!(
                "SELECT epoch, number, digest, size, mtime_s, mtime_ns, ctime_s, ctime_ns,
                 disk_mtime_s, disk_mtime_ns, dev, ino, folder, name
                 FROM kept WHERE {BELOW}"
            );
            let mut statement = self.database.prepare_cached(&select)?;
            let rows = statement.query_map([path.as_str()], |row| {
                let (folder, name): (String, String) = (row.get(12)?, row.get(13)?);
                Ok((TreePath::new(format!("{folder}/{name}")).ok(), read_retained(row)?))
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        let below = ask().map_err(failed(&self.file))?;
        found.extend(below.into_iter().filter_map(|(path, retained)| Some((path?, retained))));
        Ok(found)
    }

    /// Begins a savepoint, which can be rolled back on its own.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn begin_savepoint(&self) -> Result<(), CatalogError> {
        self.run("SAVEPOINT step", []).map(drop)
    }

    /// Releases the savepoint, or rolls it back.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn end_savepoint(&self, counts: bool) -> Result<(), CatalogError> {
        if !counts {
            self.run("ROLLBACK TO step", [])?;
        }
        self.run("RELEASE step", []).map(drop)
    }

    /// Returns the first skipped name below a folder, escaped, and what it is.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn first_skipped_below(
        &self,
        path: &TreePath,
    ) -> Result<Option<(String, &'static str)>, CatalogError> {
        let ask = || {
            let select = format!(
                "SELECT folder, name, why FROM skipped WHERE {BELOW} ORDER BY folder, name LIMIT 1"
            );
            self.database
                .prepare_cached(&select)?
                .query_row([path.as_str()], |row| {
                    let (folder, name): (String, Vec<u8>) = (row.get(0)?, row.get(1)?);
                    Ok((super::path_listing::escape_path(&folder, &name), row.get::<_, i64>(2)?))
                })
                .optional()
        };
        let found = ask().map_err(failed(&self.file))?;
        Ok(found.map(|(shown, reason)| {
            (
                shown,
                super::store::SkipReason::from_number(reason)
                    .map_or("not served", |skip| skip.text()),
            )
        }))
    }

    /// Returns why a name is skipped; `None` if it is served or missing.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn skipped_at(
        &self,
        path: &TreePath,
    ) -> Result<Option<super::store::SkipReason>, CatalogError> {
        let Some((folder, name)) = path.split_last() else { return Ok(None) };
        let ask = || {
            let select = "SELECT why FROM skipped WHERE folder = ? AND name = ?";
            self.database
                .prepare_cached(select)?
                .query_row(params![folder.as_str(), name.as_bytes()], |row| row.get::<_, i64>(0))
                .optional()
        };
        Ok(ask().map_err(failed(&self.file))?.and_then(super::store::SkipReason::from_number))
    }
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
