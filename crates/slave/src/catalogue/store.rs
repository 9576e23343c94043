//! Writing the catalogue. The keeper alone does.

use std::path::PathBuf;

use relais_cluster::IDS;
use relais_proto::{ChangeId, Digest, FileTime, Kind, Lsn, Mode, TreePath};
use relais_tree::Meta;
use rusqlite::{Connection, params};

use super::database::{CatalogRow, failed, file, open_writer, reserve_log};
use super::reader::{applied, change_of, row_of};
use super::{CatalogError, MetadataFolder};
use crate::changes::{Commit, Remembered};
use crate::scoreboard::monotonic_ms;

/// A digest counts only where computing it began so long after the file's last change, in milliseconds: within the
/// grain of the clock a second change would leave no trace.
pub const TRUSTED_AFTER_MS: i64 = 2000;

/// Changes after which the ids of old changes are forgotten.
const FORGET_EVERY: u64 = 64;

/// Why a name is not served; the number is the one in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipReason {
    /// A symbolic link.
    Link = 0,
    /// A device, a FIFO or a socket.
    Special = 1,
    /// A mount point.
    Mount = 2,
    /// Not UTF-8, or against the rules for names.
    Name = 3,
    /// It cannot be read.
    Unreadable = 4,
}

impl SkipReason {
    /// By the number in the database.
    pub fn from_number(number: i64) -> Option<Self> {
        [Self::Link, Self::Special, Self::Mount, Self::Name, Self::Unreadable]
            .into_iter()
            .find(|skip| *skip as i64 == number)
    }

    /// What it is, for people.
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

/// A file whose digest is wanted.
#[derive(Debug, Clone)]
pub struct UnhashedFile {
    /// Which file.
    pub path: TreePath,
    /// Which content of it.
    pub meta: FileIdentity,
}

/// What ties a row to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// What a change has put at a path.
#[derive(Debug, Clone, Copy)]
pub struct AppliedEntry<'a> {
    /// File or folder.
    pub kind: Kind,
    /// What is on the disk.
    pub meta: &'a Meta,
    /// The change.
    pub version: Lsn,
    /// The put that made the content.
    pub content: Option<Lsn>,
    /// The content's digest.
    pub digest: Option<Digest>,
}

/// The one connection that writes.
pub struct CatalogStore {
    pub(super) database: Connection,
    /// For people.
    pub(super) file: PathBuf,
    /// Its files are opened below this.
    _own: MetadataFolder,
}

impl CatalogStore {
    /// Opens the catalogue in a slave's own folder, which counts as incomplete from here on.
    ///
    /// # Errors
    /// Those of the database, also that it is damaged.
    pub fn open(own: &MetadataFolder) -> Result<Self, CatalogError> {
        let store = Self { database: open_writer(own)?, file: file(own), _own: own.clone() };
        if let Err(e) = reserve_log(own, &store.database) {
            log::warn!("there is little room for notes of changes: {e}");
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

    /// Makes what follows, up to [`Self::commit`], one change.
    ///
    /// # Errors
    /// Those of the database.
    pub fn begin(&self) -> Result<(), CatalogError> {
        if self.database.is_autocommit() {
            self.run("BEGIN IMMEDIATE", [])?;
        }
        Ok(())
    }

    /// Ends the change that is open, if one is.
    ///
    /// # Errors
    /// Those of the database.
    pub fn commit(&self) -> Result<(), CatalogError> {
        if !self.database.is_autocommit() {
            self.run("COMMIT", [])?;
        }
        Ok(())
    }

    /// Drops the change that is open, if one is.
    ///
    /// # Errors
    /// Those of the database.
    pub fn rollback(&self) -> Result<(), CatalogError> {
        if !self.database.is_autocommit() {
            self.run("ROLLBACK", [])?;
        }
        Ok(())
    }

    /// Notes a value for readers.
    ///
    /// # Errors
    /// Those of the database.
    pub fn set_meta(&self, what: &str, value: impl rusqlite::ToSql) -> Result<(), CatalogError> {
        self.run("INSERT INTO meta VALUES (?, ?) ON CONFLICT (what) DO UPDATE SET value = excluded.value", params![what, value]).map(drop)
    }

    /// One more rescan.
    ///
    /// # Errors
    /// Those of the database.
    pub fn count_rescan(&self) -> Result<(), CatalogError> {
        self.run("UPDATE total SET n = n + 1 WHERE what = 'rescans'", []).map(drop)
    }

    /// The row of a path.
    ///
    /// # Errors
    /// Those of the database.
    pub fn row(&self, path: &TreePath) -> Result<Option<CatalogRow>, CatalogError> {
        row_of(&self.database, path).map_err(failed(&self.file))
    }

    /// Writes what `meta` says of `path`. A digest of other content is forgotten; what was skipped there is skipped no more.
    ///
    /// # Errors
    /// Those of the database.
    pub fn put(&self, path: &TreePath, kind: Kind, meta: &Meta) -> Result<(), CatalogError> {
        let Some((folder, name)) = path.split_last() else { return Ok(()) };
        self.unskip(folder.as_str(), name.as_bytes())?;
        match self.row(path)? {
            Some(row) if row.matches(meta) && row.on_disk.mode == meta.mode => {
                return Ok(());
            }
            // It is the same folder whatever comes and goes in it.
            Some(row) if kind == Kind::Folder && row.entry.kind == kind => {
                self.update_disk_meta(path, meta)?;
                return self.set_mode(path, meta.mode.with_owner_access(kind));
            }
            // What was below a folder goes with it.
            Some(row) if row.entry.kind != kind => self.remove(path)?,
            Some(_) => self.remove_row(folder.as_str(), name)?,
            None => {}
        }
        self.insert(path, kind, meta)
    }

    /// Writes what the disk has of an entry into its row: a new place, and other times and mode. For the tree the entry is the same,
    /// but for a folder's time, which is each disk's own.
    ///
    /// # Errors
    /// Those of the database.
    pub fn update_disk_meta(&self, path: &TreePath, meta: &Meta) -> Result<(), CatalogError> {
        let Some((folder, name)) = path.split_last() else { return Ok(()) };
        self.run(
            "UPDATE entry SET disk_mtime_s = ?1, disk_mtime_ns = ?2, mtime_s = iif(kind = 1, ?1, mtime_s), mtime_ns = iif(kind = 1, ?2, mtime_ns),
                 disk_mode = ?3, ctime_s = ?4, ctime_ns = ?5, dev = ?6, ino = ?7 WHERE folder = ?8 AND name = ?9",
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

    /// Notes the mode of an entry in the tree.
    ///
    /// # Errors
    /// Those of the database.
    pub fn set_mode(&self, path: &TreePath, mode: Mode) -> Result<(), CatalogError> {
        let Some((folder, name)) = path.split_last() else { return Ok(()) };
        self.run(
            "UPDATE entry SET mode = ? WHERE folder = ? AND name = ?",
            params![mode.bits(), folder.as_str(), name],
        )
        .map(drop)
    }

    /// Writes what a change has put at `path`: its content came with put `content` and has this digest.
    ///
    /// # Errors
    /// Those of the database.
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
            "UPDATE entry SET epoch = ?, number = ?, content_epoch = ?, content_number = ?, digest = ? WHERE folder = ? AND name = ?",
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

    /// Gives the entry at `path`, if there is one, the number of a change that left it as it was.
    ///
    /// # Errors
    /// Those of the database.
    pub fn set_lsn(&self, path: &TreePath, version: Lsn) -> Result<(), CatalogError> {
        let Some((folder, name)) = path.split_last() else { return Ok(()) };
        let values = params![version.epoch, version.number.cast_signed(), folder.as_str(), name];
        self.run("UPDATE entry SET epoch = ?, number = ? WHERE folder = ? AND name = ?", values)
            .map(drop)
    }

    /// Moves what is at and below `from` to `to`, where nothing is, under the number of that change. `meta` is of what is at `to` now.
    ///
    /// # Errors
    /// Those of the database.
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
            "UPDATE entry SET folder = ?, name = ?, epoch = ?, number = ? WHERE folder = ? AND name = ?",
            params![folder.as_str(), name, version.epoch, version.number.cast_signed(), old_folder.as_str(), old_name],
        )?;
        self.update_disk_meta(to, meta)?;
        // All that is below it has another path now, by the same change.
        self.run(
            "UPDATE entry SET folder = ?2 || substr(folder, length(?1) + 1), epoch = ?3, number = ?4
             WHERE folder = ?1 OR (folder > ?1 || '/' AND folder < ?1 || '0')",
            params![from.as_str(), to.as_str(), version.epoch, version.number.cast_signed()],
        )?;
        self.run(
            "UPDATE skipped SET folder = ?2 || substr(folder, length(?1) + 1) WHERE folder = ?1 OR (folder > ?1 || '/' AND folder < ?1 || '0')",
            [from.as_str(), to.as_str()],
        )
        .map(drop)
    }

    /// Gives an entry that the scan has found the numbers that the journal has for exactly such an entry.
    ///
    /// # Errors
    /// Those of the database.
    pub fn assign_lsn(&self, path: &TreePath, remembered: &Remembered) -> Result<(), CatalogError> {
        let Some((folder, name)) = path.split_last() else { return Ok(()) };
        let Remembered { kind, version, content, .. } = remembered;
        let (made, size, mtime) = match content {
            Some((made, size, mtime, _)) => (Some(*made), size.cast_signed(), Some(*mtime)),
            None => (None, 0, None),
        };
        self.run(
            "UPDATE entry SET epoch = ?1, number = ?2, content_epoch = ?3, content_number = ?4
             WHERE folder = ?5 AND name = ?6 AND kind = ?7 AND epoch IS NULL AND (kind = 1 OR (size = ?8 AND mtime_s = ?9 AND mtime_ns = ?10))",
            params![
                version.epoch,
                version.number.cast_signed(),
                made.map(|made| made.epoch),
                made.map(|made| made.number.cast_signed()),
                folder.as_str(),
                name,
                i64::from(*kind == Kind::Folder),
                size,
                mtime.map(|mtime| mtime.seconds),
                mtime.map(|mtime| mtime.nanos),
            ],
        )
        .map(drop)
    }

    /// How much lies right in a folder: entries, and names that are not served.
    ///
    /// # Errors
    /// Those of the database.
    pub fn is_empty(&self, folder: &TreePath) -> Result<bool, CatalogError> {
        let ask = || {
            let select = "SELECT EXISTS (SELECT 1 FROM entry WHERE folder = ?1) OR EXISTS (SELECT 1 FROM skipped WHERE folder = ?1)";
            self.database
                .prepare_cached(select)?
                .query_row([folder.as_str()], |row| row.get::<_, bool>(0))
        };
        ask().map(|found| !found).map_err(failed(&self.file))
    }

    /// The length in bytes of the longest path below a folder; 0 where it is empty.
    ///
    /// # Errors
    /// Those of the database.
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

    /// How many names at or below a path are not served.
    ///
    /// # Errors
    /// Those of the database.
    pub fn skipped_below(&self, path: &TreePath) -> Result<u64, CatalogError> {
        let ask = || {
            let select = "SELECT count(*) FROM skipped WHERE folder = ?1 OR (folder > ?1 || '/' AND folder < ?1 || '0')";
            self.database
                .prepare_cached(select)?
                .query_row([path.as_str()], |row| row.get::<_, i64>(0))
        };
        ask().map(i64::cast_unsigned).map_err(failed(&self.file))
    }

    /// What the change with this id was made as; none where it was not made.
    ///
    /// # Errors
    /// Those of the database.
    pub fn commit_of(&self, id: ChangeId) -> Result<Option<Commit>, CatalogError> {
        change_of(&self.database, id).map_err(failed(&self.file))
    }

    /// Notes that a change was made.
    ///
    /// # Errors
    /// Those of the database.
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
            // As the master, it knows the latest ids.
            Some(oldest) if version.number.is_multiple_of(FORGET_EVERY) => self
                .run(
                    "DELETE FROM change WHERE (epoch, number) <= (?, ?)",
                    params![version.epoch, oldest.cast_signed()],
                )
                .map(drop),
            _ => Ok(()),
        }
    }

    /// Up to which change the folder has all; none where the catalogue is new.
    ///
    /// # Errors
    /// Those of the database.
    pub fn applied(&self) -> Result<Option<Lsn>, CatalogError> {
        applied(&self.database).map_err(failed(&self.file))
    }

    /// Notes up to which change the folder has all.
    ///
    /// # Errors
    /// Those of the database.
    pub fn set_applied(&self, version: Lsn) -> Result<(), CatalogError> {
        self.set_meta("applied-epoch", version.epoch)?;
        self.set_meta("applied-number", version.number.cast_signed())
    }

    /// Writes what `meta` says of `path`, of which the catalogue has nothing.
    ///
    /// # Errors
    /// Those of the database, also where it has something.
    pub fn insert(&self, path: &TreePath, kind: Kind, meta: &Meta) -> Result<(), CatalogError> {
        let Some((folder, name)) = path.split_last() else { return Ok(()) };
        let size = if kind == Kind::File { meta.size.cast_signed() } else { 0 };
        self.run(
            "INSERT INTO entry (folder, name, kind, mode, size, mtime_s, mtime_ns, ctime_s, ctime_ns, disk_mode, disk_mtime_s, disk_mtime_ns, dev, ino, found)
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

    /// Removes a path, and everything below it.
    ///
    /// # Errors
    /// Those of the database.
    pub fn remove(&self, path: &TreePath) -> Result<(), CatalogError> {
        let Some((folder, name)) = path.split_last() else { return Ok(()) };
        self.unskip(folder.as_str(), name.as_bytes())?;
        self.remove_row(folder.as_str(), name)?;
        // Everything below has the folder `path` itself or one that begins with `path/`; `0` follows `/`.
        for table in ["kept", "unapplied"] {
            let statement = format!("DELETE FROM {table} WHERE folder = ? AND name = ?");
            self.run(&statement, [folder.as_str(), name])?;
        }
        for table in ["entry", "skipped", "kept", "unapplied"] {
            let statement = format!(
                "DELETE FROM {table} WHERE folder = ?1 OR (folder > ?1 || '/' AND folder < ?1 || '0')"
            );
            self.run(&statement, [path.as_str()])?;
        }
        Ok(())
    }

    /// Notes that a name in a folder is not served. What was served there is no more.
    ///
    /// # Errors
    /// Those of the database.
    pub fn skip(
        &self,
        folder: &TreePath,
        name: &[u8],
        why: SkipReason,
    ) -> Result<(), CatalogError> {
        if let Some(path) = std::str::from_utf8(name).ok().and_then(|name| folder.join(name).ok()) {
            self.remove(&path)?;
        }
        self.unskip(folder.as_str(), name)?;
        self.run("INSERT INTO skipped VALUES (?, ?, ?)", params![folder.as_str(), name, why as i64])
            .map(drop)
    }

    pub(super) fn unskip(&self, folder: &str, name: &[u8]) -> Result<(), CatalogError> {
        self.run("DELETE FROM skipped WHERE folder = ? AND name = ?", params![folder, name])
            .map(drop)
    }

    /// Forgets a skipped name that is gone, by its bytes.
    ///
    /// # Errors
    /// Those of the database.
    pub fn forget_skipped(&self, folder: &TreePath, name: &[u8]) -> Result<(), CatalogError> {
        self.unskip(folder.as_str(), name)
    }

    /// The names that the catalogue has in a folder, served and skipped.
    ///
    /// # Errors
    /// Those of the database.
    pub fn names(&self, folder: &TreePath) -> Result<Vec<Vec<u8>>, CatalogError> {
        let read = || {
            let select = "SELECT CAST(name AS BLOB) FROM entry WHERE folder = ?1 UNION ALL SELECT name FROM skipped WHERE folder = ?1";
            self.database
                .prepare_cached(select)?
                .query_map([folder.as_str()], |row| row.get(0))?
                .collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(failed(&self.file))
    }

    /// Some files without a digest that may be hashed at wall time `now_s`, seconds since 1970.
    ///
    /// # Errors
    /// Those of the database.
    pub fn unhashed(&self, now_s: i64, most: u32) -> Result<Vec<UnhashedFile>, CatalogError> {
        let read = || {
            let select = "SELECT folder, name, dev, ino, size, mtime_s, mtime_ns, ctime_s, ctime_ns FROM entry
                 WHERE kind = 0 AND digest IS NULL AND (ctime_s < ?1 OR found <= ?2 OR found > ?3) ORDER BY found, folder, name LIMIT ?4";
            let now = monotonic_ms().cast_signed();
            // Seconds are cut off: more than two whole ones are at least two.
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

    /// Notes the digest of exactly this content; nothing where the row is of other content by now.
    ///
    /// # Errors
    /// Those of the database.
    pub fn set_digest(&self, of: &UnhashedFile, digest: Digest) -> Result<(), CatalogError> {
        let Some((folder, name)) = of.path.split_last() else { return Ok(()) };
        let meta = &of.meta;
        self.run(
            "UPDATE entry SET digest = ? WHERE folder = ? AND name = ? AND dev = ? AND ino = ? AND size = ? AND mtime_s = ? AND mtime_ns = ?
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
