//! The connection to the catalogue, and its entries. Only the catalogue writer changes them.

use std::path::PathBuf;

use relais_cluster::IDS;
use relais_proto::{
    Attributes, ChangeId, Digest, FileTime, FolderId, Kind, Lsn, Mode, TreePath, metric,
};
use relais_tree::{Meta, MetaKind};
use rusqlite::types::FromSql;
use rusqlite::{Connection, OptionalExtension, params_from_iter};

use super::columns::{AT, AT_OR_BELOW, BELOW, Columns, Values};
use super::database::{failed, file, open_reader, open_writer, reserve_log};
use super::empty_tables::{EmptyTables, RareTable};
use super::row::{COLUMNS, CatalogRow, UnhashedFile};
use crate::clock::monotonic_ms;
use crate::error::{CatalogError, Result};
use crate::metadata_folder::MetadataFolder;
use crate::proposal::Commit;

/// Minimum age of a file's last change before its digest is trusted, in milliseconds. A second
/// change within the clock's granularity would leave no trace.
const TRUSTED_AFTER_MS: i64 = 2000;

/// Number of changes after which old change ids are deleted.
const FORGET_EVERY: u64 = 64;

/// A connection to the catalogue.
pub struct CatalogStore {
    database: Connection,
    /// Path of the database, for messages.
    file: PathBuf,
    /// Keeps the descriptor open through which SQLite opens its files.
    own: MetadataFolder,
    pub(super) empty_tables: EmptyTables,
}

impl CatalogStore {
    /// Opens the catalogue in the metadata folder for its writer, and marks it as incomplete.
    ///
    /// # Errors
    /// Returns database errors, also for a damaged database.
    pub fn open(own: &MetadataFolder) -> Result<Self> {
        let store = Self {
            database: open_writer(own)?,
            file: file(own),
            own: own.clone(),
            empty_tables: EmptyTables::of_writer(),
        };
        if let Err(e) = reserve_log(own, &store.database) {
            log::warn!("cannot reserve disk space for the catalogue's log: {e}");
        }
        store.set_meta("complete", "")?;
        store.set_meta("last-error", "")?;
        Ok(store)
    }

    /// Opens the catalogue for reading. Returns `None` if the writer has not created it yet.
    pub(super) fn open_read_only(own: &MetadataFolder) -> Result<Option<Self>> {
        let database = open_reader(own)?;
        Ok(database.map(|database| Self {
            database,
            file: file(own),
            own: own.clone(),
            empty_tables: EmptyTables::default(),
        }))
    }

    /// Returns the error of a damaged catalogue.
    pub(super) fn damaged(&self, what: &str) -> CatalogError {
        CatalogError::Damaged { file: self.file.display().to_string(), what: what.to_owned() }
    }

    /// Runs `work`, and adds the database file to its error.
    pub(super) fn ask<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        work(&self.database).map_err(failed(&self.file))
    }

    /// Returns the metadata folder.
    #[must_use]
    pub fn own(&self) -> &MetadataFolder {
        &self.own
    }

    /// Runs a statement.
    pub(super) fn run(&self, statement: &str, values: Values<'_>) -> Result<()> {
        self.ask(|database| {
            database.prepare_cached(statement)?.execute(params_from_iter(values.0)).map(drop)
        })
    }

    /// Returns all rows of a query.
    pub(super) fn all<T>(
        &self,
        select: &str,
        values: Values<'_>,
        mut read: impl FnMut(&mut Columns<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        self.ask(|database| {
            let mut statement = database.prepare_cached(select)?;
            let read = |row: &rusqlite::Row<'_>| read(&mut Columns::new(row));
            statement.query_map(params_from_iter(values.0), read)?.collect()
        })
    }

    /// Returns the first row of a query.
    pub(super) fn first<T>(
        &self,
        select: &str,
        values: Values<'_>,
        read: impl FnOnce(&mut Columns<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        self.ask(|database| {
            let mut statement = database.prepare_cached(select)?;
            let read = |row: &rusqlite::Row<'_>| read(&mut Columns::new(row));
            statement.query_row(params_from_iter(values.0), read).optional()
        })
    }

    /// Returns whether `table` has a row of which the condition is true.
    pub(super) fn exists(&self, table: &str, condition: &str, values: Values<'_>) -> Result<bool> {
        let select = format!("SELECT 1 FROM {table} WHERE {condition} LIMIT 1");
        Ok(self.first(&select, values, |_| Ok(()))?.is_some())
    }

    /// Returns whether a table has no row.
    pub(super) fn is_empty(&self, table: RareTable) -> Result<bool> {
        if self.empty_tables.has(table) {
            return Ok(true);
        }
        let is_empty = !self.exists(table.name(), "1", Values::default())?;
        if is_empty {
            self.empty_tables.add(table);
        }
        Ok(is_empty)
    }

    /// Returns whether no path is unapplied, skipped or has retained content.
    pub(crate) fn has_nothing_unusual(&self) -> Result<bool> {
        Ok(self.is_empty(RareTable::Unapplied)?
            && self.is_empty(RareTable::Skipped)?
            && self.is_empty(RareTable::Kept)?)
    }

    /// Sets columns of the entry at a path. Their values follow those of the path.
    fn update(&self, set: &str, values: Values<'_>) -> Result<()> {
        self.run(&format!("UPDATE entry SET {set} WHERE {AT}"), values)
    }

    /// Begins a transaction, unless one is open.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn begin(&self) -> Result<()> {
        if self.database.is_autocommit() {
            self.run("BEGIN IMMEDIATE", Values::default())?;
        }
        Ok(())
    }

    /// Commits the open transaction, if any.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn commit(&self) -> Result<()> {
        self.end_transaction("COMMIT")
    }

    fn end_transaction(&self, statement: &str) -> Result<()> {
        if self.database.is_autocommit() {
            return Ok(());
        }
        self.run(statement, Values::default())
    }

    /// Rolls back the open transaction, if any.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn rollback(&self) -> Result<()> {
        self.empty_tables.forget();
        self.end_transaction("ROLLBACK")
    }

    /// Runs queries in one transaction, so that they see the same state of the database, and take
    /// its locks once. They write nothing.
    pub(crate) fn ask_together<T>(&self, queries: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        if !self.database.is_autocommit() {
            return queries(self);
        }
        self.run("BEGIN", Values::default())?;
        let answer = queries(self);
        self.end_transaction("ROLLBACK")?;
        answer
    }

    /// Begins a savepoint, which can be rolled back on its own.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn begin_savepoint(&self) -> Result<()> {
        self.run("SAVEPOINT step", Values::default())
    }

    /// Releases the savepoint, or rolls it back.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn end_savepoint(&self, counts: bool) -> Result<()> {
        if !counts {
            self.empty_tables.forget();
            self.run("ROLLBACK TO step", Values::default())?;
        }
        self.run("RELEASE step", Values::default())
    }

    /// Returns a value of the `meta` table.
    pub(super) fn meta<T: FromSql>(&self, what: &str) -> Result<Option<T>> {
        let select = "SELECT value FROM meta WHERE what = ?";
        self.first(select, Values::of(what), |from| from.get())
    }

    /// Sets a value of the `meta` table.
    pub(crate) fn set_meta<'a>(
        &self,
        what: &'a str,
        value: impl Into<rusqlite::types::ToSqlOutput<'a>>,
    ) -> Result<()> {
        let set = "INSERT INTO meta VALUES (?, ?) ON CONFLICT (what)
                   DO UPDATE SET value = excluded.value";
        self.run(set, Values::of(what).add(value))
    }

    /// Records the token of the writer that has scanned the whole folder.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn set_complete(&self, token: &str) -> Result<()> {
        self.set_meta("complete", token)
    }

    /// Records the token of the writer whose slave may have sessions; empty if it may not.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn set_fit(&self, token: &str) -> Result<()> {
        self.set_meta("fit", token)
    }

    /// Records the last error for operators; empty if there is none.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn set_last_error(&self, error: &str) -> Result<()> {
        self.set_meta("last-error", error)
    }

    /// Returns a total.
    pub(crate) fn total(&self, what: &str) -> Result<u64> {
        let select = "SELECT n FROM total WHERE what = ?";
        let total = self.first(select, Values::of(what), |from| from.unsigned())?;
        Ok(total.unwrap_or_default())
    }

    /// Adds `n` to a total.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn add_to_total(&self, what: &str, n: u64) -> Result<()> {
        let add = "INSERT INTO total VALUES (?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n";
        self.run(add, Values::of(what).unsigned(n))
    }

    /// Counts a rescan.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn count_rescan(&self) -> Result<()> {
        self.add_to_total(metric::RESCANS, 1)
    }

    /// Returns the row of a path; `None` for the root.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn row(&self, path: &TreePath) -> Result<Option<CatalogRow>> {
        let select = format!("SELECT {COLUMNS} FROM entry WHERE {AT}");
        self.first(&select, Values::at(path), CatalogRow::read)
    }

    /// Returns rows with their paths.
    pub(super) fn rows(
        &self,
        condition: &str,
        values: Values<'_>,
    ) -> Result<Vec<(TreePath, CatalogRow)>> {
        let select = format!("SELECT {COLUMNS} FROM entry WHERE {condition}");
        let rows = self.all(&select, values, |from| {
            let path = from.path()?;
            Ok(path.zip(Some(CatalogRow::read(from)?)))
        })?;
        Ok(rows.into_iter().flatten().collect())
    }

    /// Returns all rows below a path, ordered by path.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn below(&self, path: &TreePath) -> Result<Vec<(TreePath, CatalogRow)>> {
        let mut rows = self.rows(BELOW, Values::tree(path))?;
        rows.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(rows)
    }

    /// Returns the rows at and below a path, ordered by path.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn at_and_below(
        &self,
        path: &TreePath,
    ) -> Result<Vec<(TreePath, CatalogRow)>, CatalogError> {
        let mut rows: Vec<_> = self.row(path)?.map(|row| (path.clone(), row)).into_iter().collect();
        rows.extend(self.below(path)?);
        Ok(rows)
    }

    /// Records the file or folder that `meta` describes. Drops the digest of other content, and the
    /// skip record of the name.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn put(&self, path: &TreePath, kind: Kind, meta: &Meta) -> Result<()> {
        self.unskip(path)?;
        match self.row(path)? {
            Some(row) if row.is_current(meta) => return Ok(()),
            // A folder stays the same when its entries change.
            Some(row) if kind == Kind::Folder && row.entry.kind == kind => {
                self.update_disk_meta(path, meta)?;
                return self.set_mode(path, meta.mode.with_owner_access(kind));
            }
            // The entries below a folder are removed with it.
            Some(row) if row.entry.kind != kind => self.remove(path)?,
            Some(_) => self.remove_row(path)?,
            None => {}
        }
        self.insert(path, kind, meta)
    }

    /// Inserts the row of a path that has none.
    ///
    /// # Errors
    /// Returns database errors, also if the path has a row.
    pub fn insert(&self, path: &TreePath, kind: Kind, meta: &Meta) -> Result<()> {
        self.insert_row("INSERT", path, &CatalogRow::found(kind, meta), None)
    }

    /// Writes an entry of the tree. `meta` describes the file on the disk; without it the content
    /// is missing.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn put_entry(
        &self,
        path: &TreePath,
        entry: &relais_cluster::Entry,
        meta: Option<&Meta>,
        holders: &[FolderId],
    ) -> Result<()> {
        self.unskip(path)?;
        let row = CatalogRow::committed(entry, meta);
        if row.here && self.update_row(path, &row)? {
            return Ok(());
        }
        self.remove_row(path)?;
        self.insert_row("INSERT", path, &row, (!row.here).then(|| bytes_of(holders)))
    }

    /// Writes an entry of the tree whose file is here, at a path that has no row.
    ///
    /// # Errors
    /// Returns database errors, also if the path has a row.
    pub(super) fn put_new_entry(
        &self,
        path: &TreePath,
        entry: &relais_cluster::Entry,
        meta: &Meta,
    ) -> Result<()> {
        self.unskip(path)?;
        self.insert_row("INSERT", path, &CatalogRow::committed(entry, Some(meta)), None)
    }

    /// Updates the row of a path that has the same content, or waits for it. Returns whether there
    /// is one.
    ///
    /// Most totals stay the same, so that is cheaper than a new row.
    fn update_row(&self, path: &TreePath, row: &CatalogRow) -> Result<bool> {
        let values = Values::at(path)
            .add(row.entry.kind as i64)
            .unsigned(row.entry.size)
            .digest(row.digest)
            .add(row.entry.mode.bits())
            .time(row.entry.mtime)
            .optional_lsn(row.entry.version)
            .optional_lsn(row.content)
            .time(row.disk.ctime)
            .unsigned(row.disk.dev)
            .unsigned(row.disk.ino)
            .add(row.disk_mode.bits())
            .time(row.disk.mtime)
            .unsigned(monotonic_ms());
        let update = format!(
            "UPDATE entry SET mode = ?6, mtime_s = ?7, mtime_ns = ?8, epoch = ?9, number = ?10,
             content_epoch = ?11, content_number = ?12, ctime_s = ?13, ctime_ns = ?14, dev = ?15,
             ino = ?16, disk_mode = ?17, disk_mtime_s = ?18, disk_mtime_ns = ?19, found = ?20,
             here = 1, holders = NULL
             WHERE {AT} AND kind = ?3 AND size = ?4 AND digest IS ?5 AND damaged = 0"
        );
        self.run(&update, values)?;
        Ok(self.ask(|database| Ok(database.changes()))? > 0)
    }

    /// Inserts an entry of the tree whose content is missing, unless its path has a row. Returns
    /// whether it did.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn insert_missing(&self, path: &TreePath, entry: &relais_cluster::Entry) -> Result<bool> {
        let row = CatalogRow::committed(entry, None);
        self.insert_row("INSERT OR IGNORE", path, &row, Some(Vec::new()))?;
        Ok(self.ask(|database| Ok(database.changes()))? > 0)
    }

    /// Sets the disk columns of a row whose content was missing. Returns whether there is one that
    /// waits for the content of this put. That touches one index instead of all.
    pub(super) fn set_here(&self, path: &TreePath, put: Lsn, meta: &Meta) -> Result<bool> {
        let values = Values::at(path)
            .lsn(put)
            .time(meta.ctime)
            .unsigned(meta.dev)
            .unsigned(meta.ino)
            .add(meta.mode.bits())
            .time(meta.mtime);
        self.run(
            &format!(
                "UPDATE entry SET here = 1, holders = NULL, ctime_s = ?5, ctime_ns = ?6, dev = ?7,
                 ino = ?8, disk_mode = ?9, disk_mtime_s = ?10, disk_mtime_ns = ?11
                 WHERE {AT} AND here = 0 AND damaged = 0 AND content_epoch = ?3
                 AND content_number = ?4"
            ),
            values,
        )?;
        Ok(self.ask(|database| Ok(database.changes()))? > 0)
    }

    /// Writes an entry of the tree whose file was not looked at. The next scan finds every
    /// difference, because no file has the recorded identity.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn put_unverified(&self, path: &TreePath, entry: &relais_cluster::Entry) -> Result<()> {
        let (kind, size, mtime) = match entry.content {
            Some(content) => (MetaKind::File, content.size, content.mtime),
            None => (MetaKind::Folder, 0, FileTime::default()),
        };
        let ctime = FileTime::default();
        let meta = Meta { kind, size, mtime, mode: entry.mode, dev: 0, ino: 0, ctime, nlink: 1 };
        self.put_entry(path, entry, Some(&meta), &[])
    }

    fn insert_row(
        &self,
        insert: &str,
        path: &TreePath,
        row: &CatalogRow,
        holders: Option<Vec<u8>>,
    ) -> Result<()> {
        if path.is_root() {
            return Ok(());
        }
        let marks = ", ?".repeat(21);
        let insert = format!("{insert} INTO entry ({COLUMNS}, found, holders) VALUES (?{marks})");
        let values = row.values(Values::at(path)).unsigned(monotonic_ms()).optional(holders);
        self.run(&insert, values)
    }

    /// Updates the disk columns of an entry: inode, times and mode. The entry in the tree stays the
    /// same, except a folder's time, which each disk has for itself.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn update_disk_meta(&self, path: &TreePath, meta: &Meta) -> Result<()> {
        let values = Values::at(path).time(meta.mtime).add(meta.mode.bits()).time(meta.ctime);
        self.update(
            "disk_mtime_s = ?3, disk_mtime_ns = ?4, mtime_s = iif(kind = 1, ?3, mtime_s),
             mtime_ns = iif(kind = 1, ?4, mtime_ns), disk_mode = ?5, ctime_s = ?6, ctime_ns = ?7,
             dev = ?8, ino = ?9",
            values.unsigned(meta.dev).unsigned(meta.ino),
        )
    }

    /// Sets the mode of an entry in the tree.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn set_mode(&self, path: &TreePath, mode: Mode) -> Result<()> {
        self.update("mode = ?3", Values::at(path).add(mode.bits()))
    }

    /// Sets attributes of an entry in the tree.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn set_attributes(&self, path: &TreePath, attributes: &Attributes) -> Result<()> {
        if let Some(mode) = attributes.mode {
            self.set_mode(path, mode)?;
        }
        if let Some(mtime) = attributes.mtime {
            self.update("mtime_s = ?3, mtime_ns = ?4", Values::at(path).time(mtime))?;
        }
        Ok(())
    }

    /// Records the mode that the disk has at a path.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn set_disk_mode(&self, path: &TreePath, mode: Mode) -> Result<()> {
        self.update("disk_mode = ?3", Values::at(path).add(mode.bits()))
    }

    /// Sets the LSN of an entry that a change left as it was.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn set_lsn(&self, path: &TreePath, version: Lsn) -> Result<()> {
        self.update("epoch = ?3, number = ?4", Values::at(path).lsn(version))
    }

    /// Clears the LSNs of an entry, which is then like a newly found one.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn clear_lsn(&self, path: &TreePath) -> Result<()> {
        let clear = "epoch = NULL, number = NULL, content_epoch = NULL, content_number = NULL";
        self.update(clear, Values::at(path))
    }

    /// Marks the missing content of an entry as damaged. The mark goes with the row.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn mark_damaged(&self, path: &TreePath) -> Result<()> {
        self.update("damaged = iif(here = 0, 1, damaged)", Values::at(path))
    }

    /// Records the holders of a missing content.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn set_holders(&self, put: Lsn, holders: &[FolderId]) -> Result<()> {
        self.run(
            "UPDATE entry SET holders = ? WHERE content_epoch = ? AND content_number = ?
             AND here = 0",
            Values::of(bytes_of(holders)).lsn(put),
        )
    }

    /// Returns the known holders of the content at a path, if it is missing.
    pub(super) fn holders(&self, path: &TreePath) -> Result<Vec<FolderId>> {
        let select = format!("SELECT holders FROM entry WHERE here = 0 AND {AT}");
        let found: Option<Option<Vec<u8>>> =
            self.first(&select, Values::at(path), |from| from.get())?;
        let bytes = found.flatten().unwrap_or_default();
        Ok(bytes.as_chunks::<16>().0.iter().map(|id| FolderId(*id)).collect())
    }

    fn remove_row(&self, path: &TreePath) -> Result<()> {
        self.run(&format!("DELETE FROM entry WHERE {AT}"), Values::at(path))
    }

    /// Removes the rows at and below a path.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn remove(&self, path: &TreePath) -> Result<()> {
        self.unskip(path)?;
        ["entry", "skipped", "kept", "unapplied"].into_iter().try_for_each(|table| {
            self.run(&format!("DELETE FROM {table} WHERE {AT_OR_BELOW}"), Values::tree(path))
        })
    }

    /// Returns the commit of the change with this id; `None` if it was not committed.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn commit_of(&self, id: ChangeId) -> Result<Option<Commit>> {
        // A change that came with a resync has no digest of its own; the entry has it.
        let select = "SELECT epoch, number, coalesce(digest, (SELECT digest FROM entry
             WHERE content_epoch = change.epoch AND content_number = change.number LIMIT 1))
             FROM change WHERE id = ?";
        self.first(select, Values::of(&id.0[..]), |from| {
            Ok(Commit { version: from.lsn()?, digest: from.digest()? })
        })
    }

    /// Records a committed change.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn record_change(&self, id: ChangeId, commit: Commit) -> Result<()> {
        let Commit { version, digest } = commit;
        self.run(
            "INSERT OR REPLACE INTO change VALUES (?, ?, ?, ?)",
            Values::of(&id.0[..]).lsn(version).digest(digest),
        )?;
        // The slave keeps as many ids as the master.
        if let Some(number) = version.number.checked_sub(IDS as u64)
            && version.number.is_multiple_of(FORGET_EVERY)
        {
            let oldest = Values::default().lsn(Lsn { number, ..version });
            self.run("DELETE FROM change WHERE (epoch, number) <= (?, ?)", oldest)?;
        }
        Ok(())
    }

    /// Returns the LSN of the last applied change; `None` for a new catalogue.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn applied(&self) -> Result<Option<Lsn>> {
        let epoch = self.meta("applied-epoch")?;
        let number = self.meta("applied-number")?.map(i64::cast_unsigned);
        Ok(epoch.zip(number).map(|(epoch, number)| Lsn { epoch, number }))
    }

    /// Sets the LSN of the last applied change.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn set_applied(&self, version: Lsn) -> Result<()> {
        self.set_meta("applied-epoch", version.epoch)?;
        self.set_meta("applied-number", version.number.cast_signed())
    }

    /// Returns the names of a folder in the catalogue, served and skipped, and whether the disk has
    /// nothing under each because its content is missing.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn names(&self, folder: &TreePath) -> Result<Vec<(Vec<u8>, bool)>> {
        self.all(
            "SELECT CAST(name AS BLOB), kind = 0 AND here = 0 AND NOT EXISTS (SELECT 1 FROM kept
                 WHERE kept.folder = entry.folder AND kept.name = entry.name)
             FROM entry WHERE folder = ?1
             UNION ALL SELECT name, 0 FROM skipped WHERE folder = ?1",
            Values::of(folder.as_str()),
            |from| Ok((from.get()?, from.get()?)),
        )
    }

    /// Returns files without a digest that may be hashed at wall time `now_s`, in seconds since
    /// 1970.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn unhashed(&self, now_s: i64, most: u32) -> Result<Vec<UnhashedFile>> {
        let now = monotonic_ms().cast_signed();
        // The time is truncated to seconds, so a difference of more than two is at least two.
        let old = now_s - TRUSTED_AFTER_MS / 1000;
        let rows = self.rows(
            "kind = 0 AND digest IS NULL AND (ctime_s < ?1 OR found <= ?2 OR found > ?3)
             ORDER BY found, folder, name LIMIT ?4",
            Values::of(old).add(now - TRUSTED_AFTER_MS).add(now).add(most),
        )?;
        let file = |(path, row): (TreePath, CatalogRow)| UnhashedFile { path, meta: row.disk };
        Ok(rows.into_iter().map(file).collect())
    }

    /// Sets the digest of this content. Does nothing if the row has other content by now.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn set_digest(&self, of: &UnhashedFile, digest: Digest) -> Result<()> {
        let is_same = |row: &CatalogRow| row.disk == of.meta && row.digest.is_none();
        if self.row(&of.path)?.as_ref().is_some_and(is_same) {
            self.update("digest = ?3", Values::at(&of.path).digest(Some(digest)))?;
        }
        Ok(())
    }
}

fn bytes_of(holders: &[FolderId]) -> Vec<u8> {
    holders.iter().flat_map(|folder| folder.0).collect()
}
