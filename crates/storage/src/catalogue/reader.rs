//! Reads the catalogue, in any process of the slave.
//!
//! Every call is a transaction of its own. If the database does not exist yet, calls return empty
//! results.

use relais_proto::{
    ChangeId, Digest, Entry, FileTime, FolderId, Kind, Lsn, Metrics, Mode, PathList, Scrub,
    SlaveId, TreePath,
};
use relais_tree::{Meta, MetaKind};
use rusqlite::params_from_iter;

use super::columns::{Columns, Values};
use super::events::{EventPage, EventPosition};
use super::path_listing::PathListing;
use super::row::{COLUMNS, CatalogRow};
use super::store::CatalogStore;
use crate::error::CatalogError;
use crate::metadata_folder::MetadataFolder;
use crate::proposal::Commit;
use crate::writer_lock::WriterLock;

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
    store: Option<CatalogStore>,
    own: MetadataFolder,
}

impl CatalogReader {
    /// Opens the catalogue in the metadata folder.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn open(own: &MetadataFolder) -> Result<Self, CatalogError> {
        Ok(Self { store: CatalogStore::open_read_only(own)?, own: own.clone() })
    }

    /// Queries the database, and opens it first if it exists by now. Without a database the result
    /// is the default.
    fn ask<T: Default>(
        &mut self,
        question: impl FnOnce(&CatalogStore) -> Result<T, CatalogError>,
    ) -> Result<T, CatalogError> {
        if self.store.is_none() {
            self.store = CatalogStore::open_read_only(&self.own)?;
        }
        self.store.as_ref().map_or_else(|| Ok(T::default()), question)
    }

    /// Returns whether a value has the token of the current writer.
    fn has_token(&mut self, what: &str) -> Result<bool, CatalogError> {
        let current = WriterLock::token_of(&self.own)?;
        let token: String = self.ask(|store| Ok(store.meta(what)?.unwrap_or_default()))?;
        Ok(!token.is_empty() && token == current)
    }

    /// Returns whether the current writer has scanned the whole folder.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn is_complete(&mut self) -> Result<bool, CatalogError> {
        self.has_token("complete")
    }

    /// Returns whether the slave may have sessions, according to the current writer.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn is_fit(&mut self) -> Result<bool, CatalogError> {
        self.has_token("fit")
    }

    /// Returns whether the current writer is running its first full scan.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn is_scanning(&mut self) -> Result<bool, CatalogError> {
        // A writer that is only starting, and may fail, has no token yet.
        Ok(!WriterLock::token_of(&self.own)?.is_empty() && !self.is_complete()?)
    }

    /// Passes the entries of folder `path` after the name `after` to `add`.
    ///
    /// Stops when `add` returns false, the folder ends, or `most` entries were added. The entry for
    /// which it returns false is not added.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn list(
        &mut self,
        path: &TreePath,
        after: &str,
        most: Option<u32>,
        add: &mut dyn FnMut(&Entry) -> bool,
    ) -> Result<ListOutcome, CatalogError> {
        let found = self.ask(|store| {
            list(store, path, after, most.map_or(PAGE, |most| most.min(PAGE)), add).map(Some)
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
        let row = self.ask(|store| store.row(path))?;
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
        self.ask(|store| match store.row(path)? {
            Some(row) if row.here => Ok(Some((row, Vec::new()))),
            Some(row) => Ok(Some((row, store.holders(path)?))),
            None => Ok(None),
        })
    }

    /// Returns whether the path is unapplied: its content is missing and will not arrive soon.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn is_unapplied(&mut self, path: &TreePath) -> Result<bool, CatalogError> {
        Ok(self.ask(|store| store.unapplied(path))?.is_some())
    }

    /// Returns the slaves of the cluster and their folders.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn peers(&mut self) -> Result<Vec<(SlaveId, FolderId)>, CatalogError> {
        self.ask(|store| {
            store.all("SELECT slave, folder FROM peer", Values::default(), |from| {
                Ok((SlaveId(from.get()?), FolderId(from.get()?)))
            })
        })
    }

    /// Returns the LSN of the last change to a path; `None` if the path has no row.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn version_at(&mut self, path: &TreePath) -> Result<Option<Option<Lsn>>, CatalogError> {
        Ok(self.ask(|store| store.row(path))?.map(|row| row.entry.version))
    }

    /// Returns the commit of the change with this id; `None` if it was not committed.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn commit_of(&mut self, id: ChangeId) -> Result<Option<Commit>, CatalogError> {
        self.ask(|store| store.commit_of(id))
    }

    /// Returns the metrics of the folder.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn metrics(&mut self) -> Result<Metrics, CatalogError> {
        let totals = self.ask(|store| {
            store.all("SELECT what, n FROM total", Values::default(), |from| {
                Ok((from.get::<String>()?, from.get::<i64>()?))
            })
        })?;
        let mut metrics = Metrics::default();
        for (name, n) in totals {
            metrics.set(&name, u64::try_from(n).unwrap_or(0));
        }
        Ok(metrics)
    }

    /// Returns the LSN of the last applied change; 0-0 if there is none.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn applied(&mut self) -> Result<Lsn, CatalogError> {
        Ok(self.ask(CatalogStore::applied)?.unwrap_or_default())
    }

    /// Returns the position in the events after a change; without one, the present position.
    ///
    /// Returns `None` if the change is not known, because it is too old or of another history.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn event_position(
        &mut self,
        after: Option<Lsn>,
    ) -> Result<Option<EventPosition>, CatalogError> {
        self.ask(|store| store.ask_together(|store| store.event_position(after)))
    }

    /// Returns the next events at and below `top`; `None` if events after the position are lost.
    ///
    /// At most `most` events of the whole tree are read.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn events(
        &mut self,
        from: EventPosition,
        top: &TreePath,
        most: u32,
    ) -> Result<Option<EventPage>, CatalogError> {
        self.ask(|store| store.ask_together(|store| store.events(from, top, most)))
    }

    /// Returns the progress of the scrub.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn scrub(&mut self) -> Result<Scrub, CatalogError> {
        self.ask(CatalogStore::scrub)
    }

    /// Returns the last error of the writer; empty if there is none.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn last_error(&mut self) -> Result<String, CatalogError> {
        self.ask(|store| Ok(store.meta("last-error")?.unwrap_or_default()))
    }

    /// Reads a path list for an operator.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn path_listing(&mut self, list: PathList) -> Result<PathListing, CatalogError> {
        self.ask(|store| store.path_listing(list))
    }
}

fn list(
    store: &CatalogStore,
    path: &TreePath,
    after: &str,
    most: u32,
    add: &mut dyn FnMut(&Entry) -> bool,
) -> Result<ListOutcome, CatalogError> {
    if !path.is_root() {
        match store.row(path)? {
            None => return Ok(ListOutcome::NotFound),
            Some(row) if row.entry.kind == Kind::File => return Ok(ListOutcome::NotFolder),
            Some(_) => {}
        }
    }
    let select =
        format!("SELECT {COLUMNS} FROM entry WHERE folder = ? AND name > ? ORDER BY name LIMIT ?");
    let values = Values::default().add(path.as_str()).add(after).add(most);
    let (mut last, mut count) = (after.to_owned(), 0);
    let more = store.ask(|database| {
        let mut statement = database.prepare_cached(&select)?;
        let mut rows = statement.query(params_from_iter(values.0))?;
        while let Some(row) = rows.next()? {
            let mut from = Columns::new(row);
            from.skip(1);
            let entry = CatalogRow::read(from.get()?, &mut from)?.entry;
            if !add(&entry) {
                return Ok(true);
            }
            count += 1;
            last = entry.name;
        }
        Ok(count == most)
    })?;
    Ok(ListOutcome::Page { last, count, more })
}
