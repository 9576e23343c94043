//! Reads the catalogue, in any process of the slave.
//!
//! Every call is a transaction of its own. If the database does not exist yet, calls return empty
//! results.

use relais_proto::{
    ChangeId, Counters, Digest, FileTime, FolderId, Kind, Lsn, Mode, PageBuilder, Scrub, SlaveId,
    TreePath,
};
use relais_tree::{Meta, MetaKind};
use rusqlite::{Connection, OptionalExtension};

use super::database::{COLUMNS, CatalogRow, failed, file, open_reader, read_row};
use super::{CatalogError, MetadataFolder, WriterLock};
use crate::proposal::Commit;

/// Most rows that one page reads.
const PAGE: u32 = 1000;

/// Result of a listing.
#[derive(Debug, PartialEq, Eq)]
pub enum ListOutcome {
    /// Entries were added to the page.
    Page {
        /// Last name on the page.
        last: String,
        /// Number of entries.
        count: u32,
        /// Whether more entries may follow.
        more: bool,
    },
    /// The catalogue has no such path.
    NotFound,
    /// The path is a file.
    NotFolder,
}

/// What the catalogue knows of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EntryFacts {
    /// Digest of the content; `None` for a folder, or if it is not computed yet.
    pub digest: Option<Digest>,
    /// LSN of the last change to the path.
    pub version: Option<Lsn>,
    /// LSN of the put that stored the content.
    pub content: Option<Lsn>,
    /// Mode in the tree, and modification time of a file.
    pub attributes: Option<(Mode, FileTime)>,
}

/// A read-only connection to the catalogue.
pub struct CatalogReader {
    database: Option<Connection>,
    own: MetadataFolder,
}

impl CatalogReader {
    /// Opens the catalogue in the metadata folder.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn open(own: &MetadataFolder) -> Result<Self, CatalogError> {
        Ok(Self { database: open_reader(own)?, own: own.clone() })
    }

    /// Queries the database, and opens it first if it exists by now. Without a database the result
    /// is the default.
    pub(super) fn ask<T: Default>(
        &mut self,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, CatalogError> {
        if self.database.is_none() {
            self.database = open_reader(&self.own)?;
        }
        match &self.database {
            Some(database) => question(database).map_err(|e| failed(&file(&self.own))(e)),
            None => Ok(T::default()),
        }
    }

    /// Returns whether the current writer has scanned the whole folder.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn is_complete(&mut self) -> Result<bool, CatalogError> {
        let current = WriterLock::token_of(&self.own)?;
        self.ask(|database| {
            Ok(meta(database, "complete")?
                .is_some_and(|token: String| !token.is_empty() && token == current))
        })
    }

    /// Returns whether the slave may have sessions, according to the current writer.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn is_fit(&mut self) -> Result<bool, CatalogError> {
        let current = WriterLock::token_of(&self.own)?;
        self.ask(|database| {
            Ok(meta(database, "fit")?
                .is_some_and(|token: String| !token.is_empty() && token == current))
        })
    }

    /// Returns whether the current writer is running its first full scan.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn is_scanning(&mut self) -> Result<bool, CatalogError> {
        // A writer that is only starting, and may fail, has no token yet.
        Ok(!WriterLock::token_of(&self.own)?.is_empty() && !self.is_complete()?)
    }

    /// Adds entries of folder `path` after the name `after` to `page`.
    ///
    /// Stops when the page is full, the folder ends, or `most` entries were added.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn list(
        &mut self,
        path: &TreePath,
        after: &str,
        most: Option<u32>,
        page: &mut PageBuilder,
    ) -> Result<ListOutcome, CatalogError> {
        let found = self.ask(|database| {
            Ok(Some(list(database, path, after, most.map_or(PAGE, |most| most.min(PAGE)), page)?))
        })?;
        Ok(found.unwrap_or(ListOutcome::NotFound))
    }

    /// Returns the facts of the file that `meta` describes. Returns `None` if the catalogue has no
    /// row for it, or one of other content.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn facts_of(
        &mut self,
        path: &TreePath,
        meta: &Meta,
    ) -> Result<Option<EntryFacts>, CatalogError> {
        let row = self.ask(|database| row_of(database, path))?;
        // A folder stays the same when its entries change.
        let is_folder =
            |row: &CatalogRow| row.entry.kind == Kind::Folder && meta.kind == MetaKind::Folder;
        Ok(row.filter(|row| row.matches(meta) || is_folder(row)).map(|row| EntryFacts {
            digest: row.digest,
            version: row.entry.version,
            content: row.content,
            attributes: Some((row.entry.mode, row.entry.mtime)),
        }))
    }

    /// Returns the row of a path, and the known holders if its content is missing.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn at(
        &mut self,
        path: &TreePath,
    ) -> Result<Option<(CatalogRow, Vec<FolderId>)>, CatalogError> {
        self.ask(|database| {
            let Some(row) = row_of(database, path)? else { return Ok(None) };
            if row.here {
                return Ok(Some((row, Vec::new())));
            }
            let Some((folder, name)) = path.split_last() else { return Ok(None) };
            let select = "SELECT holders FROM entry WHERE folder = ? AND name = ?";
            let holders: Option<Vec<u8>> = database
                .prepare_cached(select)?
                .query_row([folder.as_str(), name], |row| row.get(0))?;
            let holders = holders.unwrap_or_default();
            let (ids, _) = holders.as_chunks::<16>();
            Ok(Some((row, ids.iter().map(|id| FolderId(*id)).collect())))
        })
    }

    /// Returns whether the path is unapplied: its content is missing and will not arrive soon.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn is_unapplied(&mut self, path: &TreePath) -> Result<bool, CatalogError> {
        let Some((folder, name)) = path.split_last() else { return Ok(false) };
        self.ask(|database| {
            let select = "SELECT EXISTS (SELECT 1 FROM unapplied WHERE folder = ? AND name = ?)";
            database.prepare_cached(select)?.query_row([folder.as_str(), name], |row| row.get(0))
        })
    }

    /// Returns the slaves of the cluster and their folders.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn peers(&mut self) -> Result<Vec<(SlaveId, FolderId)>, CatalogError> {
        self.ask(|database| {
            let mut statement = database.prepare_cached("SELECT slave, folder FROM peer")?;
            let rows =
                statement.query_map([], |row| Ok((SlaveId(row.get(0)?), FolderId(row.get(1)?))))?;
            rows.collect()
        })
    }

    /// Returns the LSN of the last change to a path; `None` if the path has no row.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn version_at(&mut self, path: &TreePath) -> Result<Option<Option<Lsn>>, CatalogError> {
        Ok(self.ask(|database| row_of(database, path))?.map(|row| row.entry.version))
    }

    /// Returns the commit of the change with this id; `None` if it was not committed.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn commit_of(&mut self, id: ChangeId) -> Result<Option<Commit>, CatalogError> {
        self.ask(|database| change_of(database, id))
    }

    /// Returns the counters of the folder; the counters of the pool stay 0.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn counters(&mut self) -> Result<Counters, CatalogError> {
        self.ask(|database| {
            let mut counters = Counters::default();
            let mut statement = database.prepare_cached("SELECT what, n FROM total")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let n = u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0);
                let place = match row.get_ref(0)?.as_str()? {
                    "files" => &mut counters.files,
                    "folders" => &mut counters.folders,
                    "bytes" => &mut counters.bytes,
                    "unhashed" => &mut counters.unhashed,
                    "rescans" => &mut counters.rescans,
                    "lacking" => &mut counters.lacking,
                    "lacking-bytes" => &mut counters.lacking_bytes,
                    "set-aside" => &mut counters.set_aside,
                    "held" => &mut counters.held,
                    "damaged" => &mut counters.damaged,
                    "unapplied" => &mut counters.unapplied,
                    "skipped-0" => &mut counters.skipped_links,
                    "skipped-1" => &mut counters.skipped_special,
                    "skipped-2" => &mut counters.skipped_mounts,
                    "skipped-3" => &mut counters.skipped_names,
                    "skipped-4" => &mut counters.skipped_unreadable,
                    _ => continue,
                };
                *place = n;
            }
            Ok(counters)
        })
    }

    /// Returns the LSN of the last applied change; 0-0 if there is none.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn applied(&mut self) -> Result<Lsn, CatalogError> {
        self.ask(|database| Ok(applied(database)?.unwrap_or_default()))
    }

    /// Returns the progress of the scrub.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn scrub(&mut self) -> Result<Scrub, CatalogError> {
        let text: Option<String> = self.ask(|database| meta(database, "scrub"))?;
        Ok(text.and_then(|text| parse_scrub(&text)).unwrap_or_default())
    }

    /// Returns the last error of the writer; empty if there is none.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn last_error(&mut self) -> Result<String, CatalogError> {
        self.ask(|database| Ok(meta(database, "last-error")?.unwrap_or_default()))
    }
}

/// Formats the progress of a scrub for the `meta` table.
pub(super) fn scrub_text(scrub: &Scrub) -> String {
    let Scrub { order, done, files, read, damaged, repaired, unreadable } = scrub;
    format!("{order} {} {files} {read} {damaged} {repaired} {unreadable}", u8::from(*done))
}

fn parse_scrub(text: &str) -> Option<Scrub> {
    let numbers: Vec<u64> = text.split(' ').map_while(|word| word.parse().ok()).collect();
    let [order, done, files, read, damaged, repaired, unreadable] = numbers[..] else {
        return None;
    };
    Some(Scrub { order, done: done == 1, files, read, damaged, repaired, unreadable })
}

pub(super) fn meta<T: rusqlite::types::FromSql>(
    database: &Connection,
    what: &str,
) -> rusqlite::Result<Option<T>> {
    database
        .prepare_cached("SELECT value FROM meta WHERE what = ?")?
        .query_row([what], |row| row.get(0))
        .optional()
}

/// Returns the LSN of the last applied change; `None` if there is none.
pub(super) fn applied(database: &Connection) -> rusqlite::Result<Option<Lsn>> {
    let (epoch, number) =
        (meta::<u32>(database, "applied-epoch")?, meta::<i64>(database, "applied-number")?);
    Ok(epoch.zip(number).map(|(epoch, number)| Lsn { epoch, number: number.cast_unsigned() }))
}

/// Returns the commit of the change with this id.
pub(super) fn change_of(database: &Connection, id: ChangeId) -> rusqlite::Result<Option<Commit>> {
    // A change that came with a resync has no digest of its own; the entry has it.
    let mut statement = database.prepare_cached(
        "SELECT epoch, number, coalesce(digest, (SELECT digest FROM entry
         WHERE content_epoch = change.epoch AND content_number = change.number LIMIT 1))
         FROM change WHERE id = ?",
    )?;
    statement
        .query_row([id.0], |row| {
            let version = Lsn { epoch: row.get(0)?, number: row.get::<_, i64>(1)?.cast_unsigned() };
            Ok(Commit { version, digest: row.get::<_, Option<[u8; 32]>>(2)?.map(Digest) })
        })
        .optional()
}

/// Returns the row of a path; `None` for the root.
pub(super) fn row_of(
    database: &Connection,
    path: &TreePath,
) -> rusqlite::Result<Option<CatalogRow>> {
    let Some((folder, name)) = path.split_last() else { return Ok(None) };
    let mut statement = database
        .prepare_cached(&format!("SELECT {COLUMNS} FROM entry WHERE folder = ? AND name = ?"))?;
    statement.query_row([folder.as_str(), name], read_row).optional()
}

fn list(
    database: &Connection,
    path: &TreePath,
    after: &str,
    most: u32,
    page: &mut PageBuilder,
) -> rusqlite::Result<ListOutcome> {
    if !path.is_root() {
        match row_of(database, path)? {
            None => return Ok(ListOutcome::NotFound),
            Some(row) if row.entry.kind == relais_proto::Kind::File => {
                return Ok(ListOutcome::NotFolder);
            }
            Some(_) => {}
        }
    }
    let select =
        format!("SELECT {COLUMNS} FROM entry WHERE folder = ? AND name > ? ORDER BY name LIMIT ?");
    let mut statement = database.prepare_cached(&select)?;
    let mut rows = statement.query(rusqlite::params![path.as_str(), after, most])?;
    let (mut last, mut count) = (after.to_owned(), 0);
    while let Some(row) = rows.next()? {
        let entry = read_row(row)?.entry;
        if !page.push(&entry) {
            return Ok(ListOutcome::Page { last, count, more: true });
        }
        count += 1;
        last = entry.name;
    }
    Ok(ListOutcome::Page { last, count, more: count == most })
}
