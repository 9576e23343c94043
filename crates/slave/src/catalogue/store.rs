//! Writing the catalogue. The keeper alone does.

use std::path::{Path, PathBuf};

use relais_proto::{Digest, FileTime, Kind, TreePath};
use relais_tree::Meta;
use rusqlite::{Connection, params};

use super::CatalogueError;
use super::database::{Stored, failed, file, open_writer};
use super::reader::row_of;
use crate::board::monotonic_ms;

/// A digest counts only where computing it began so long after the file's last change, in milliseconds: within the
/// grain of the clock a second change would leave no trace.
pub const TRUSTED_AFTER_MS: i64 = 2000;

/// Why a name is not served; the number is the one in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
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

/// A file whose digest is wanted.
#[derive(Debug, Clone)]
pub struct Unhashed {
    /// Which file.
    pub path: TreePath,
    /// Which content of it.
    pub meta: Identifying,
}

/// What ties a row to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identifying {
    pub dev: u64,
    pub ino: u64,
    pub size: u64,
    pub mtime: FileTime,
    pub ctime: FileTime,
}

impl From<&Meta> for Identifying {
    fn from(meta: &Meta) -> Self {
        Self { dev: meta.dev, ino: meta.ino, size: meta.size, mtime: meta.mtime, ctime: meta.ctime }
    }
}

/// The one connection that writes.
pub struct Store {
    database: Connection,
    file: PathBuf,
}

impl Store {
    /// Opens the catalogue of the folder at `root`, which counts as incomplete from here on.
    ///
    /// # Errors
    /// Those of the database, also that it is damaged.
    pub fn open(root: &Path) -> Result<Self, CatalogueError> {
        let store = Self { database: open_writer(root)?, file: file(root) };
        store.set_meta("complete", "")?;
        store.set_meta("last-error", "")?;
        Ok(store)
    }

    fn run(&self, statement: &str, values: impl rusqlite::Params) -> Result<usize, CatalogueError> {
        let run = || self.database.prepare_cached(statement)?.execute(values);
        run().map_err(failed(&self.file))
    }

    /// Makes what follows, up to [`Self::commit`], one change.
    ///
    /// # Errors
    /// Those of the database.
    pub fn begin(&self) -> Result<(), CatalogueError> {
        if self.database.is_autocommit() {
            self.run("BEGIN IMMEDIATE", [])?;
        }
        Ok(())
    }

    /// Ends the change that is open, if one is.
    ///
    /// # Errors
    /// Those of the database.
    pub fn commit(&self) -> Result<(), CatalogueError> {
        if !self.database.is_autocommit() {
            self.run("COMMIT", [])?;
        }
        Ok(())
    }

    /// Notes a value for readers.
    ///
    /// # Errors
    /// Those of the database.
    pub fn set_meta(&self, what: &str, value: impl rusqlite::ToSql) -> Result<(), CatalogueError> {
        self.run("INSERT INTO meta VALUES (?, ?) ON CONFLICT (what) DO UPDATE SET value = excluded.value", params![what, value]).map(drop)
    }

    /// One more rescan.
    ///
    /// # Errors
    /// Those of the database.
    pub fn count_rescan(&self) -> Result<(), CatalogueError> {
        self.run("UPDATE total SET n = n + 1 WHERE what = 'rescans'", []).map(drop)
    }

    /// The row of a path.
    ///
    /// # Errors
    /// Those of the database.
    pub fn row(&self, path: &TreePath) -> Result<Option<Stored>, CatalogueError> {
        row_of(&self.database, path).map_err(failed(&self.file))
    }

    /// Writes what `meta` says of `path`. A digest of other content is forgotten; what was skipped there is skipped no more.
    ///
    /// # Errors
    /// Those of the database.
    pub fn put(&self, path: &TreePath, kind: Kind, meta: &Meta) -> Result<(), CatalogueError> {
        let Some((folder, name)) = path.split_last() else { return Ok(()) };
        self.unskip(folder.as_str(), name.as_bytes())?;
        match self.row(path)? {
            Some(row) if row.is_of(meta) && row.entry.executable == (kind == Kind::File && meta.executable) => return Ok(()),
            // What was below a folder goes with it.
            Some(row) if row.entry.kind != kind => self.remove(path)?,
            Some(_) => self.remove_row(folder.as_str(), name)?,
            None => {}
        }
        self.insert(path, kind, meta)
    }

    /// Writes what `meta` says of `path`, of which the catalogue has nothing.
    ///
    /// # Errors
    /// Those of the database, also where it has something.
    pub fn insert(&self, path: &TreePath, kind: Kind, meta: &Meta) -> Result<(), CatalogueError> {
        let Some((folder, name)) = path.split_last() else { return Ok(()) };
        let size = if kind == Kind::File { meta.size.cast_signed() } else { 0 };
        let executable = kind == Kind::File && meta.executable;
        self.run(
            "INSERT INTO entry (folder, name, kind, executable, size, mtime_s, mtime_ns, ctime_s, ctime_ns, dev, ino, found)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                folder.as_str(),
                name,
                i64::from(kind == Kind::Folder),
                executable,
                size,
                meta.mtime.seconds,
                meta.mtime.nanos,
                meta.ctime.seconds,
                meta.ctime.nanos,
                meta.dev.cast_signed(),
                meta.ino.cast_signed(),
                monotonic_ms().cast_signed(),
            ],
        )
        .map(drop)
    }

    fn remove_row(&self, folder: &str, name: &str) -> Result<(), CatalogueError> {
        self.run("DELETE FROM entry WHERE folder = ? AND name = ?", [folder, name]).map(drop)
    }

    /// Removes a path, and everything below it.
    ///
    /// # Errors
    /// Those of the database.
    pub fn remove(&self, path: &TreePath) -> Result<(), CatalogueError> {
        let Some((folder, name)) = path.split_last() else { return Ok(()) };
        self.unskip(folder.as_str(), name.as_bytes())?;
        self.remove_row(folder.as_str(), name)?;
        // Everything below has the folder `path` itself or one that begins with `path/`; `0` follows `/`.
        for table in ["entry", "skipped"] {
            let statement = format!("DELETE FROM {table} WHERE folder = ?1 OR (folder > ?1 || '/' AND folder < ?1 || '0')");
            self.run(&statement, [path.as_str()])?;
        }
        Ok(())
    }

    /// Notes that a name in a folder is not served. What was served there is no more.
    ///
    /// # Errors
    /// Those of the database.
    pub fn skip(&self, folder: &TreePath, name: &[u8], why: Skip) -> Result<(), CatalogueError> {
        if let Some(path) = std::str::from_utf8(name).ok().and_then(|name| folder.join(name).ok()) {
            self.remove(&path)?;
        }
        self.unskip(folder.as_str(), name)?;
        self.run("INSERT INTO skipped VALUES (?, ?, ?)", params![folder.as_str(), name, why as i64]).map(drop)
    }

    fn unskip(&self, folder: &str, name: &[u8]) -> Result<(), CatalogueError> {
        self.run("DELETE FROM skipped WHERE folder = ? AND name = ?", params![folder, name]).map(drop)
    }

    /// Forgets a skipped name that is gone, by its bytes.
    ///
    /// # Errors
    /// Those of the database.
    pub fn forget_skipped(&self, folder: &TreePath, name: &[u8]) -> Result<(), CatalogueError> {
        self.unskip(folder.as_str(), name)
    }

    /// The names that the catalogue has in a folder, served and skipped.
    ///
    /// # Errors
    /// Those of the database.
    pub fn names(&self, folder: &TreePath) -> Result<Vec<Vec<u8>>, CatalogueError> {
        let read = || {
            let select = "SELECT CAST(name AS BLOB) FROM entry WHERE folder = ?1 UNION ALL SELECT name FROM skipped WHERE folder = ?1";
            self.database.prepare_cached(select)?.query_map([folder.as_str()], |row| row.get(0))?.collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(failed(&self.file))
    }

    /// Some files without a digest that may be hashed at wall time `now_s`, seconds since 1970.
    ///
    /// # Errors
    /// Those of the database.
    pub fn unhashed(&self, now_s: i64, most: u32) -> Result<Vec<Unhashed>, CatalogueError> {
        let read = || {
            let select = "SELECT folder, name, dev, ino, size, mtime_s, mtime_ns, ctime_s, ctime_ns FROM entry
                 WHERE kind = 0 AND digest IS NULL AND (ctime_s < ?1 OR found <= ?2 OR found > ?3) ORDER BY found, folder, name LIMIT ?4";
            let now = monotonic_ms().cast_signed();
            // Seconds are cut off: more than two whole ones are at least two.
            let old = now_s - TRUSTED_AFTER_MS / 1000;
            self.database
                .prepare_cached(select)?
                .query_map(params![old, now - TRUSTED_AFTER_MS, now, most], |row| {
                    let time = |s, ns| -> rusqlite::Result<FileTime> { Ok(FileTime { seconds: row.get(s)?, nanos: row.get(ns)? }) };
                    let unsigned = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
                    let (folder, name): (String, String) = (row.get(0)?, row.get(1)?);
                    let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
                    Ok((
                        path,
                        Identifying { dev: unsigned(2)?, ino: unsigned(3)?, size: unsigned(4)?, mtime: time(5, 6)?, ctime: time(7, 8)? },
                    ))
                })?
                .collect::<rusqlite::Result<Vec<_>>>()
        };
        let rows = read().map_err(failed(&self.file))?;
        Ok(rows.into_iter().filter_map(|(path, meta)| TreePath::new(path).ok().map(|path| Unhashed { path, meta })).collect())
    }

    /// Notes the digest of exactly this content; nothing where the row is of other content by now.
    ///
    /// # Errors
    /// Those of the database.
    pub fn set_digest(&self, of: &Unhashed, digest: Digest) -> Result<(), CatalogueError> {
        let Some((folder, name)) = of.path.split_last() else { return Ok(()) };
        let meta = &of.meta;
        self.run(
            "UPDATE entry SET digest = ? WHERE folder = ? AND name = ? AND dev = ? AND ino = ? AND size = ? AND mtime_s = ? AND mtime_ns = ?
             AND ctime_s = ? AND ctime_ns = ?",
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
