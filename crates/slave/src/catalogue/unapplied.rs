//! What of the tree this disk does not take at its path, each with its reason. Scans leave such a path alone, and it is tried again.

use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use relais_proto::{Lsn, TreePath};
use rusqlite::{OptionalExtension, Row, params};

use super::CatalogError;
use super::database::failed;
use super::replica_store::{RetainedContent, read_retained};
use super::store::CatalogStore;
use crate::scoreboard::monotonic_ms;

/// Pause before the first retry. It doubles with each failure.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Longest pause between two retries.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// A path at which the disk is not as the tree says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnappliedPath {
    /// The path.
    pub path: TreePath,
    /// The change that could not be made.
    pub version: Lsn,
    /// Whether something is still there that was removed from the tree; else what the tree has is not there.
    pub removal: bool,
    /// The reason, for operators.
    pub why: String,
    /// Since when, in milliseconds since 1970 UTC.
    pub since_ms: u64,
    /// Where the content lies meanwhile, if a move could not be made.
    pub source: Option<TreePath>,
    /// Whether something is left there that a change has removed.
    pub lies: bool,
}

const COLUMNS: &str = "folder, name, epoch, number, removal, why, since, source, lies";
/// At and below the path that is the first parameter.
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
        why: row.get(5).unwrap_or_default(),
        since_ms: row.get::<_, i64>(6).unwrap_or_default().cast_unsigned(),
        source: source.and_then(|source| TreePath::new(source).ok()),
        lies: row.get(8).unwrap_or_default(),
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

    /// Notes that the disk refuses a path; `source` is where its content lies, if that is known. What failed before is retried after
    /// a longer pause. Below a folder that is not there nothing is tried before the folder.
    ///
    /// # Errors
    /// Those of the database.
    pub fn record_unapplied(
        &self,
        path: &TreePath,
        version: Lsn,
        removal: bool,
        why: &str,
        source: Option<&TreePath>,
    ) -> Result<(), CatalogError> {
        let Some((folder, name)) = path.split_last() else { return Ok(()) };
        let waits = self.unapplied_above(path)?.is_some();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        self.run(
            "INSERT INTO unapplied VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, iif(?8, NULL, ?9 + ?10), ?10, ?12, ?5)
             ON CONFLICT (folder, name) DO UPDATE SET epoch = excluded.epoch, number = excluded.number, removal = excluded.removal,
             why = excluded.why, source = coalesce(excluded.source, source), lies = max(lies, excluded.lies), pause = min(pause * 2, ?11),
             due = iif(?8, NULL, ?9 + min(pause * 2, ?11))",
            params![
                folder.as_str(),
                name,
                version.epoch,
                version.number.cast_signed(),
                removal,
                why,
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

    /// What the disk refuses at a path; none where it does not.
    ///
    /// # Errors
    /// Those of the database.
    pub fn unapplied(&self, path: &TreePath) -> Result<Option<UnappliedPath>, CatalogError> {
        let Some((folder, name)) = path.split_last() else { return Ok(None) };
        let found = self.unapplied_where("folder = ? AND name = ?", [folder.as_str(), name])?;
        Ok(found.into_iter().next())
    }

    /// The folder above a path that the disk refuses.
    ///
    /// # Errors
    /// Those of the database.
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

    /// Whether the disk refuses a path, or a folder above it: then what lies there is left alone.
    ///
    /// # Errors
    /// Those of the database.
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

    /// The names right in a folder that the disk refuses.
    ///
    /// # Errors
    /// Those of the database.
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

    /// What is left of earlier removals stays where it is when the entries of a path are moved.
    ///
    /// # Errors
    /// Those of the database.
    pub fn clear_leftover(&self, path: &TreePath) -> Result<(), CatalogError> {
        let Some((folder, name)) = path.split_last() else { return Ok(()) };
        self.run(
            "UPDATE unapplied SET lies = 0 WHERE folder = ? AND name = ?",
            [folder.as_str(), name],
        )
        .map(drop)
    }

    /// Whether what lies at or below a path waits for being moved elsewhere.
    ///
    /// # Errors
    /// Those of the database.
    pub fn is_source(&self, path: &TreePath) -> Result<bool, CatalogError> {
        self.exists(
            "source IS NOT NULL AND (source = ?1 OR (source > ?1 || '/' AND source < ?1 || '0'))",
            [path.as_str()],
        )
    }

    /// Whether the disk refuses something at or below a path, or something is left there that was removed.
    ///
    /// # Errors
    /// Those of the database.
    pub fn unapplied_below(&self, path: &TreePath) -> Result<Vec<UnappliedPath>, CatalogError> {
        self.unapplied_where(&format!("{BELOW} ORDER BY folder, name"), [path.as_str()])
    }

    /// The disk is as the tree says at a path: what waited for a folder there is tried now.
    ///
    /// # Errors
    /// Those of the database.
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

    /// All is tried again at once, as after a start.
    ///
    /// # Errors
    /// Those of the database.
    pub fn retry_all_unapplied(&self) -> Result<(), CatalogError> {
        self.run("UPDATE unapplied SET due = 0, pause = ?", [milliseconds(FIRST_RETRY)]).map(drop)
    }

    /// What is to be tried now: what shall come before what shall go, folders before what is in them.
    ///
    /// # Errors
    /// Those of the database.
    pub fn due_unapplied(&self, most: u32) -> Result<Vec<UnappliedPath>, CatalogError> {
        self.unapplied_where(
            "due <= ? ORDER BY removal, folder, name LIMIT ?",
            params![monotonic_ms().cast_signed(), most],
        )
    }

    /// A path is tried again after its present pause; with `when_told` only when something else says so.
    ///
    /// # Errors
    /// Those of the database.
    pub fn postpone_unapplied(&self, path: &TreePath, when_told: bool) -> Result<(), CatalogError> {
        let Some((folder, name)) = path.split_last() else { return Ok(()) };
        self.run(
            "UPDATE unapplied SET due = iif(?1, NULL, ?2 + pause) WHERE folder = ?3 AND name = ?4",
            params![when_told, monotonic_ms().cast_signed(), folder.as_str(), name],
        )
        .map(drop)
    }

    /// Former contents that are kept at and below a path.
    ///
    /// # Errors
    /// Those of the database.
    pub fn retained_below(
        &self,
        path: &TreePath,
    ) -> Result<Vec<(TreePath, RetainedContent)>, CatalogError> {
        let mut found: Vec<(TreePath, RetainedContent)> =
            self.retained(path)?.map(|retained| (path.clone(), retained)).into_iter().collect();
        let ask = || {
            let select = format!(
                "SELECT epoch, number, digest, size, mtime_s, mtime_ns, ctime_s, ctime_ns, disk_mtime_s, disk_mtime_ns, dev, ino, folder, name
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

    /// Where a step begins that can be undone without the rest.
    ///
    /// # Errors
    /// Those of the database.
    pub fn begin_savepoint(&self) -> Result<(), CatalogError> {
        self.run("SAVEPOINT step", []).map(drop)
    }

    /// The step counts, or nothing of it does.
    ///
    /// # Errors
    /// Those of the database.
    pub fn end_savepoint(&self, counts: bool) -> Result<(), CatalogError> {
        if !counts {
            self.run("ROLLBACK TO step", [])?;
        }
        self.run("RELEASE step", []).map(drop)
    }

    /// The first name below a folder that is not served, escaped, and what it is.
    ///
    /// # Errors
    /// Those of the database.
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
        Ok(found.map(|(shown, why)| {
            (
                shown,
                super::store::SkipReason::from_number(why).map_or("not served", |skip| skip.text()),
            )
        }))
    }

    /// Why a name is not served; none where it is, or nothing is there.
    ///
    /// # Errors
    /// Those of the database.
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
