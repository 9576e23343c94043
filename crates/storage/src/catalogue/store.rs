//! Writes the catalogue. Only the catalogue writer uses it.

use std::path::PathBuf;

use relais_cluster::{Entry, IDS};
use relais_proto::{ChangeId, Digest, FileTime, Kind, Lsn, Mode, TreePath};
use relais_tree::Meta;
use rusqlite::{Connection, params};

use super::database::{CatalogRow, failed, file, open_writer, reserve_log};
use super::reader::{applied, change_of, row_of};
use super::{CatalogError, MetadataFolder};
use crate::clock::monotonic_ms;
use crate::proposal::Commit;

/// Minimum age of a file's last change before its digest is trusted, in milliseconds. A second
/// change within the clock's granularity would leave no trace.
pub const TRUSTED_AFTER_MS: i64 = 2000;

/// Number of changes after which old change ids are deleted.
const FORGET_EVERY: u64 = 64;

/// Why a name is not served. The number is stored in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipReason {
    /// A symbolic link.
    Link = 0,
    /// A device, a FIFO or a socket.
    Special = 1,
    /// A mount point.
    Mount = 2,
    /// The name is not UTF-8, or violates the rules for names.
    Name = 3,
    /// The file or folder cannot be read.
    Unreadable = 4,
}

impl SkipReason {
    /// Returns the reason with this database number.
    pub fn from_number(number: i64) -> Option<Self> {
        [Self::Link, Self::Special, Self::Mount, Self::Name, Self::Unreadable]
            .into_iter()
            .find(|skip| *skip as i64 == number)
    }

    /// Describes the reason for operators.
    pub fn text(self) -> &'static str {
        match self {
            Self::Link => "a symbolic link",
            Self::Special => "a device, FIFO or socket",
            Self::Mount => "a mount point",
            Self::Name => "a name that cannot be served",
            Self::Unreadable => "the server may not read it",
        }
    }
}

/// A file that needs a digest.
#[derive(Debug, Clone)]
pub struct UnhashedFile {
    /// Path of the file.
    pub path: TreePath,
    /// Identity of the content to hash.
    pub meta: FileIdentity,
}

/// Identity of a file's content on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields' names and types say everything")]
pub struct FileIdentity {
    pub dev: u64,
    pub ino: u64,
    pub size: u64,
    pub mtime: FileTime,
    pub ctime: FileTime,
}

impl From<&Meta> for FileIdentity {
    fn from(meta: &Meta) -> Self {
        Self { dev: meta.dev, ino: meta.ino, size: meta.size, mtime: meta.mtime, ctime: meta.ctime }
    }
}

/// An entry that a change has put at a path.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the fields' names and types say everything")]
pub struct AppliedEntry<'a> {
    pub kind: Kind,
    /// Metadata of the file or folder on the disk.
    pub meta: &'a Meta,
    /// LSN of the change.
    pub version: Lsn,
    /// LSN of the put that stored the content.
    pub content: Option<Lsn>,
    pub digest: Option<Digest>,
}

/// The database connection of the catalogue writer.
pub struct CatalogStore {
    pub(super) database: Connection,
    /// Path of the database, for messages.
    pub(super) file: PathBuf,
    /// Keeps the descriptor open through which SQLite opens its files.
    _own: MetadataFolder,
}

impl CatalogStore {
    /// Opens the catalogue in the metadata folder and marks it as incomplete.
    ///
    /// # Errors
    /// Returns database errors, also for a damaged database.
    pub fn open(own: &MetadataFolder) -> Result<Self, CatalogError> {
        let store = Self { database: open_writer(own)?, file: file(own), _own: own.clone() };
        if let Err(e) = reserve_log(own, &store.database) {
            log::warn!("cannot reserve disk space for the catalogue's log: {e}");
        }
        store.set_meta("complete", "")?;
        store.set_meta("last-error", "")?;
        Ok(store)
    }

    pub(super) fn run(
        &self,
        statement: &str,
        values: impl rusqlite::Params,
    ) -> Result<usize, CatalogError> {
        let run = || self.database.prepare_cached(statement)?.execute(values);
        run().map_err(failed(&self.file))
    }

    /// Begins a transaction, unless one is open.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn begin(&self) -> Result<(), CatalogError> {
        if self.database.is_autocommit() {
            self.run("BEGIN IMMEDIATE", [])?;
        }
        Ok(())
    }

    /// Commits the open transaction, if any.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn commit(&self) -> Result<(), CatalogError> {
        if !self.database.is_autocommit() {
            self.run("COMMIT", [])?;
        }
        Ok(())
    }

    /// Rolls back the open transaction, if any.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn rollback(&self) -> Result<(), CatalogError> {
        if !self.database.is_autocommit() {
            self.run("ROLLBACK", [])?;
        }
        Ok(())
    }

    /// Sets a value of the `meta` table.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn set_meta(&self, what: &str, value: impl rusqlite::ToSql) -> Result<(), CatalogError> {
        self.run(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (what)
                  DO UPDATE SET value = excluded.value",
            params![what, value],
        )
        .map(drop)
    }

    /// Counts a rescan.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn count_rescan(&self) -> Result<(), CatalogError> {
        self.run("UPDATE total SET n = n + 1 WHERE what = 'rescans'", []).map(drop)
    }

    /// Returns the row of a path.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn row(&self, path: &TreePath) -> Result<Option<CatalogRow>, CatalogError> {
        row_of(&self.database, path).map_err(failed(&self.file))
    }

    /// Records the file or folder that `meta` describes. Drops the digest of other content, and the
    /// skip record of the name.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn put(&self, path: &TreePath, kind: Kind, meta: &Meta) -> Result<(), CatalogError> {
        let Some((folder, name)) = path.split_last() else { return Ok(()) };
        self.unskip(folder.as_str(), name.as_bytes())?;
        match self.row(path)? {
            Some(row) if row.matches(meta) && row.on_disk.mode == meta.mode => {
                return Ok(());
            }
            // A folder stays the same when its entries change.
            Some(row) if kind == Kind::Folder && row.entry.kind == kind => {
                self.update_disk_meta(path, meta)?;
                return self.set_mode(path, meta.mode.with_owner_access(kind));
            }
            // The entries below a folder are removed with it.
            Some(row) if row.entry.kind != kind => self.remove(path)?,
            Some(_) => self.remove_row(folder.as_str(), name)?,
            None => {}
        }
        self.insert(path, kind, meta)
    }

    /// Updates the disk columns of an entry: inode, times and mode. The entry in the tree stays the
    /// same, except a folder's time, which each disk has for itself.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn update_disk_meta(&self, path: &TreePath, meta: &Meta) -> Result<(), CatalogError> {
        let Some((folder, name)) = path.split_last() else { return Ok(()) };
        self.run(
            "UPDATE entry SET disk_mtime_s = ?1, disk_mtime_ns = ?2,
             mtime_s = iif(kind = 1, ?1, mtime_s), mtime_ns = iif(kind = 1, ?2, mtime_ns),
                 disk_mode = ?3, ctime_s = ?4, ctime_ns = ?5, dev = ?6, ino = ?7
                 WHERE folder = ?8 AND name = ?9",
            params![
                meta.mtime.seconds,
                meta.mtime.nanos,
                meta.mode.bits(),
                meta.ctime.seconds,
                meta.ctime.nanos,
                meta.dev.cast_signed(),
                meta.ino.cast_signed(),
                folder.as_str(),
                name,
            ],
        )
        .map(drop)
    }

    /// Sets the mode of an entry in the tree.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn set_mode(&self, path: &TreePath, mode: Mode) -> Result<(), CatalogError> {
        let Some((folder, name)) = path.split_last() else { return Ok(()) };
        self.run(
            "UPDATE entry SET mode = ? WHERE folder = ? AND name = ?",
            params![mode.bits(), folder.as_str(), name],
        )
        .map(drop)
    }

    /// Records the mode that the disk has at a path.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn set_disk_mode(&self, path: &TreePath, mode: Mode) -> Result<(), CatalogError> {
        let Some((folder, name)) = path.split_last() else { return Ok(()) };
        self.run(
            "UPDATE entry SET disk_mode = ? WHERE folder = ? AND name = ?",
            params![mode.bits(), folder.as_str(), name],
        )
        .map(drop)
    }

    /// Writes an entry that a change has put at `path`, with its LSNs and digest.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn put_committed(
        &self,
        path: &TreePath,
        made: &AppliedEntry<'_>,
    ) -> Result<(), CatalogError> {
        let Some((folder, name)) = path.split_last() else { return Ok(()) };
        self.unskip(folder.as_str(), name.as_bytes())?;
        self.remove_row(folder.as_str(), name)?;
        self.insert(path, made.kind, made.meta)?;
        self.run(
            "UPDATE entry SET epoch = ?, number = ?, content_epoch = ?, content_number = ?,
             digest = ? WHERE folder = ? AND name = ?",
            params![
                made.version.epoch,
                made.version.number.cast_signed(),
                made.content.map(|content| content.epoch),
                made.content.map(|content| content.number.cast_signed()),
                made.digest.map(|digest| digest.0),
                folder.as_str(),
                name,
            ],
        )
        .map(drop)
    }

    /// Sets the LSN of an entry that a change left as it was.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn set_lsn(&self, path: &TreePath, version: Lsn) -> Result<(), CatalogError> {
        let Some((folder, name)) = path.split_last() else { return Ok(()) };
        let values = params![version.epoch, version.number.cast_signed(), folder.as_str(), name];
        self.run("UPDATE entry SET epoch = ?, number = ? WHERE folder = ? AND name = ?", values)
            .map(drop)
    }

    /// Moves the rows at and below `from` to `to`, where no row is, and sets the LSN of the move.
    /// `meta` describes the entry at `to`.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn move_committed(
        &self,
        from: &TreePath,
        to: &TreePath,
        version: Lsn,
        meta: &Meta,
    ) -> Result<(), CatalogError> {
        let (Some((old_folder, old_name)), Some((folder, name))) =
            (from.split_last(), to.split_last())
        else {
            return Ok(());
        };
        self.unskip(folder.as_str(), name.as_bytes())?;
        self.run(
            "UPDATE entry SET folder = ?, name = ?, epoch = ?, number = ? WHERE folder = ?
             AND name = ?",
            params![
                folder.as_str(),
                name,
                version.epoch,
                version.number.cast_signed(),
                old_folder.as_str(),
                old_name
            ],
        )?;
        self.update_disk_meta(to, meta)?;
        // Everything below has another path now, by the same change.
        self.run(
            "UPDATE entry SET folder = ?2 || substr(folder, length(?1) + 1), epoch = ?3, number = ?4
             WHERE folder = ?1 OR (folder > ?1 || '/' AND folder < ?1 || '0')",
            params![from.as_str(), to.as_str(), version.epoch, version.number.cast_signed()],
        )?;
        self.run(
            "UPDATE skipped SET folder = ?2 || substr(folder, length(?1) + 1) WHERE folder = ?1
             OR (folder > ?1 || '/' AND folder < ?1 || '0')",
            [from.as_str(), to.as_str()],
        )
        .map(drop)
    }

    /// Assigns the LSNs of `known` to an entry of the scan, if both describe the same file.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn assign_lsn(&self, path: &TreePath, known: &Entry) -> Result<(), CatalogError> {
        let Some((folder, name)) = path.split_last() else { return Ok(()) };
        let content = known.content;
        self.run(
            "UPDATE entry SET epoch = ?1, number = ?2, content_epoch = ?3, content_number = ?4
             WHERE folder = ?5 AND name = ?6 AND kind = ?7 AND epoch IS NULL
             AND (kind = 1 OR (size = ?8 AND mtime_s = ?9 AND mtime_ns = ?10))",
            params![
                known.version.epoch,
                known.version.number.cast_signed(),
                content.map(|content| content.put.epoch),
                content.map(|content| content.put.number.cast_signed()),
                folder.as_str(),
                name,
                i64::from(content.is_none()),
                content.map_or(0, |content| content.size.cast_signed()),
                content.map(|content| content.mtime.seconds),
                content.map(|content| content.mtime.nanos),
            ],
        )
        .map(drop)
    }

    /// Returns whether a folder has neither entries nor skipped names.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn is_empty(&self, folder: &TreePath) -> Result<bool, CatalogError> {
        let ask = || {
            let select = "SELECT EXISTS (SELECT 1 FROM entry WHERE folder = ?1)
                          OR EXISTS (SELECT 1 FROM skipped WHERE folder = ?1)";
            self.database
                .prepare_cached(select)?
                .query_row([folder.as_str()], |row| row.get::<_, bool>(0))
        };
        ask().map(|found| !found).map_err(failed(&self.file))
    }

    /// Returns the length in bytes of the longest path below a folder; 0 if it is empty.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn longest_below(&self, folder: &TreePath) -> Result<usize, CatalogError> {
        let ask = || {
            let select = "SELECT max(octet_length(folder) + 1 + octet_length(name)) FROM entry
                 WHERE folder = ?1 OR (folder > ?1 || '/' AND folder < ?1 || '0')";
            self.database
                .prepare_cached(select)?
                .query_row([folder.as_str()], |row| row.get::<_, Option<i64>>(0))
        };
        let longest = ask().map_err(failed(&self.file))?;
        Ok(longest.and_then(|longest| usize::try_from(longest).ok()).unwrap_or(0))
    }

    /// Returns the number of skipped names at or below a path.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn skipped_below(&self, path: &TreePath) -> Result<u64, CatalogError> {
        let ask = || {
            let select = "SELECT count(*) FROM skipped WHERE folder = ?1
                          OR (folder > ?1 || '/' AND folder < ?1 || '0')";
            self.database
                .prepare_cached(select)?
                .query_row([path.as_str()], |row| row.get::<_, i64>(0))
        };
        ask().map(i64::cast_unsigned).map_err(failed(&self.file))
    }

    /// Returns the commit of the change with this id; `None` if it was not committed.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn commit_of(&self, id: ChangeId) -> Result<Option<Commit>, CatalogError> {
        change_of(&self.database, id).map_err(failed(&self.file))
    }

    /// Records a committed change.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn record_change(&self, id: ChangeId, commit: Commit) -> Result<(), CatalogError> {
        let Commit { version, digest } = commit;
        self.run(
            "INSERT OR REPLACE INTO change VALUES (?, ?, ?, ?)",
            params![
                id.0,
                version.epoch,
                version.number.cast_signed(),
                digest.map(|digest| digest.0)
            ],
        )?;
        match version.number.checked_sub(IDS as u64) {
            // The slave keeps as many ids as the master.
            Some(oldest) if version.number.is_multiple_of(FORGET_EVERY) => self
                .run(
                    "DELETE FROM change WHERE (epoch, number) <= (?, ?)",
                    params![version.epoch, oldest.cast_signed()],
                )
                .map(drop),
            _ => Ok(()),
        }
    }

    /// Returns the LSN of the last applied change; `None` for a new catalogue.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn applied(&self) -> Result<Option<Lsn>, CatalogError> {
        applied(&self.database).map_err(failed(&self.file))
    }

    /// Sets the LSN of the last applied change.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn set_applied(&self, version: Lsn) -> Result<(), CatalogError> {
        self.set_meta("applied-epoch", version.epoch)?;
        self.set_meta("applied-number", version.number.cast_signed())
    }

    /// Inserts the row of a path that has none.
    ///
    /// # Errors
    /// Returns database errors, also if the path has a row.
    pub fn insert(&self, path: &TreePath, kind: Kind, meta: &Meta) -> Result<(), CatalogError> {
        let Some((folder, name)) = path.split_last() else { return Ok(()) };
        let size = if kind == Kind::File { meta.size.cast_signed() } else { 0 };
        self.run(
            "INSERT INTO entry (folder, name, kind, mode, size, mtime_s, mtime_ns, ctime_s,
             ctime_ns, disk_mode, disk_mtime_s, disk_mtime_ns, dev, ino, found)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?6, ?7, ?11, ?12, ?13)",
            params![
                folder.as_str(),
                name,
                i64::from(kind == Kind::Folder),
                meta.mode.with_owner_access(kind).bits(),
                size,
                meta.mtime.seconds,
                meta.mtime.nanos,
                meta.ctime.seconds,
                meta.ctime.nanos,
                meta.mode.bits(),
                meta.dev.cast_signed(),
                meta.ino.cast_signed(),
                monotonic_ms().cast_signed(),
            ],
        )
        .map(drop)
    }

    pub(super) fn remove_row(&self, folder: &str, name: &str) -> Result<(), CatalogError> {
        self.run("DELETE FROM entry WHERE folder = ? AND name = ?", [folder, name]).map(drop)
    }

    /// Removes the rows at and below a path.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn remove(&self, path: &TreePath) -> Result<(), CatalogError> {
        let Some((folder, name)) = path.split_last() else { return Ok(()) };
        self.unskip(folder.as_str(), name.as_bytes())?;
        self.remove_row(folder.as_str(), name)?;
        // A row below the path has the folder `path`, or one that begins with `path/`; `0` follows
        // `/`.
        for table in ["kept", "unapplied"] {
            let statement = format!("DELETE FROM {table} WHERE folder = ? AND name = ?");
            self.run(&statement, [folder.as_str(), name])?;
        }
        for table in ["entry", "skipped", "kept", "unapplied"] {
            let statement = format!(
                "DELETE FROM {table} WHERE folder = ?1 OR (folder > ?1 || '/'
                 AND folder < ?1 || '0')"
            );
            self.run(&statement, [path.as_str()])?;
        }
        Ok(())
    }

    /// Records that a name in a folder is not served, and removes its entry.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn skip(
        &self,
        folder: &TreePath,
        name: &[u8],
        reason: SkipReason,
    ) -> Result<(), CatalogError> {
        if let Some(path) = std::str::from_utf8(name).ok().and_then(|name| folder.join(name).ok()) {
            self.remove(&path)?;
        }
        self.unskip(folder.as_str(), name)?;
        self.run(
            "INSERT INTO skipped VALUES (?, ?, ?)",
            params![folder.as_str(), name, reason as i64],
        )
        .map(drop)
    }

    pub(super) fn unskip(&self, folder: &str, name: &[u8]) -> Result<(), CatalogError> {
        self.run("DELETE FROM skipped WHERE folder = ? AND name = ?", params![folder, name])
            .map(drop)
    }

    /// Removes the skip record of a name, given as bytes.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn forget_skipped(&self, folder: &TreePath, name: &[u8]) -> Result<(), CatalogError> {
        self.unskip(folder.as_str(), name)
    }

    /// Returns the names of a folder in the catalogue, served and skipped.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn names(&self, folder: &TreePath) -> Result<Vec<Vec<u8>>, CatalogError> {
        let read = || {
            let select = "SELECT CAST(name AS BLOB) FROM entry WHERE folder = ?1
                          UNION ALL SELECT name FROM skipped WHERE folder = ?1";
            self.database
                .prepare_cached(select)?
                .query_map([folder.as_str()], |row| row.get(0))?
                .collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(failed(&self.file))
    }

    /// Returns files without a digest that may be hashed at wall time `now_s`, in seconds since
    /// 1970.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn unhashed(&self, now_s: i64, most: u32) -> Result<Vec<UnhashedFile>, CatalogError> {
        let read = || {
            let select = "SELECT folder, name, dev, ino, size, mtime_s, mtime_ns, ctime_s,
                          ctime_ns FROM entry
                 WHERE kind = 0 AND digest IS NULL AND (ctime_s < ?1 OR found <= ?2
                 OR found > ?3) ORDER BY found, folder, name LIMIT ?4";
            let now = monotonic_ms().cast_signed();
            // The time is truncated to seconds, so a difference of more than two is at least two.
            let old = now_s - TRUSTED_AFTER_MS / 1000;
            self.database
                .prepare_cached(select)?
                .query_map(params![old, now - TRUSTED_AFTER_MS, now, most], |row| {
                    let time = |s, ns| -> rusqlite::Result<FileTime> {
                        Ok(FileTime { seconds: row.get(s)?, nanos: row.get(ns)? })
                    };
                    let unsigned = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
                    let (folder, name): (String, String) = (row.get(0)?, row.get(1)?);
                    let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
                    Ok((
                        path,
                        FileIdentity {
                            dev: unsigned(2)?,
                            ino: unsigned(3)?,
                            size: unsigned(4)?,
                            mtime: time(5, 6)?,
                            ctime: time(7, 8)?,
                        },
                    ))
                })?
                .collect::<rusqlite::Result<Vec<_>>>()
        };
        let rows = read().map_err(failed(&self.file))?;
        Ok(rows
            .into_iter()
            .filter_map(|(path, meta)| {
                TreePath::new(path).ok().map(|path| UnhashedFile { path, meta })
            })
            .collect())
    }

    /// Sets the digest of this content. Does nothing if the row has other content by now.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn set_digest(&self, of: &UnhashedFile, digest: Digest) -> Result<(), CatalogError> {
        let Some((folder, name)) = of.path.split_last() else { return Ok(()) };
        let meta = &of.meta;
        self.run(
            "UPDATE entry SET digest = ? WHERE folder = ? AND name = ? AND dev = ? AND ino = ?
             AND size = ? AND mtime_s = ? AND mtime_ns = ?
             AND ctime_s = ? AND ctime_ns = ? AND digest IS NULL",
            params![
                digest.0,
                folder.as_str(),
                name,
                meta.dev.cast_signed(),
                meta.ino.cast_signed(),
                meta.size.cast_signed(),
                meta.mtime.seconds,
                meta.mtime.nanos,
                meta.ctime.seconds,
                meta.ctime.nanos,
            ],
        )
        .map(drop)
    }
}
