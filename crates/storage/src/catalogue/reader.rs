//! Reads the catalogue, in any process of the slave.
//!
//! If the database does not exist yet, each query has an empty result.

use relais_proto::{Entry, FolderId, Kind, Lsn, Metrics, PeerSlave, SlaveId, TreePath};
use relais_tree::{Meta, MetaKind};
use rusqlite::params_from_iter;

use super::columns::{Columns, Values};
use super::row::{COLUMNS, CatalogRow, EntryFacts};
use super::store::CatalogStore;
use crate::error::Result;
use crate::metadata_folder::MetadataFolder;
use crate::writer_lock::WriterLock;

/// Most rows that one page reads.
const PAGE: u32 = 1000;

/// Result of a listing.
#[derive(Debug, PartialEq, Eq, Default)]
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
    #[default]
    NotFound,
    /// The path is a file.
    NotFolder,
}

/// A read-only connection to the catalogue.
pub struct CatalogReader {
    store: Option<CatalogStore>,
    own: MetadataFolder,
}

impl CatalogReader {
    /// Creates a reader. It opens the catalogue in the metadata folder for its first query.
    #[must_use]
    pub fn new(own: &MetadataFolder) -> Self {
        Self { store: None, own: own.clone() }
    }

    /// Queries the catalogue. If it does not exist yet, the result is the default.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn ask<T: Default>(&mut self, query: impl FnOnce(&CatalogStore) -> Result<T>) -> Result<T> {
        if self.store.is_none() {
            self.store = CatalogStore::open_read_only(&self.own)?;
        }
        self.store.as_ref().map_or_else(|| Ok(T::default()), query)
    }
}

impl CatalogStore {
    /// Returns whether the current writer has scanned the whole folder.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn is_complete(&self) -> Result<bool> {
        self.has_token("complete")
    }

    /// Returns whether the slave may have sessions, according to the current writer.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn is_fit(&self) -> Result<bool> {
        self.has_token("fit")
    }

    /// Returns whether the current writer is running its first full scan.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn is_scanning(&self) -> Result<bool> {
        // A writer that is only starting, and may fail, has no token yet.
        Ok(!WriterLock::token_of(self.own())?.is_empty() && !self.is_complete()?)
    }

    /// Returns whether a value has the token of the current writer.
    fn has_token(&self, what: &str) -> Result<bool> {
        let current = WriterLock::token_of(self.own())?;
        let token: String = self.meta(what)?.unwrap_or_default();
        Ok(!token.is_empty() && token == current)
    }

    /// Passes the entries of folder `path` after the name `after` to `add`.
    ///
    /// Stops when `add` returns false, the folder ends, or `most` entries were added. The entry for
    /// which it returns false is not added.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn list(
        &self,
        path: &TreePath,
        after: &str,
        most: Option<u32>,
        add: &mut dyn FnMut(&Entry) -> bool,
    ) -> Result<ListOutcome> {
        if !path.is_root() {
            match self.row(path)? {
                None => return Ok(ListOutcome::NotFound),
                Some(row) if row.entry.kind == Kind::File => return Ok(ListOutcome::NotFolder),
                Some(_) => {}
            }
        }
        let select = format!(
            "SELECT {COLUMNS} FROM entry WHERE folder = ? AND name > ? ORDER BY name LIMIT ?"
        );
        let most = most.map_or(PAGE, |most| most.min(PAGE));
        let values = Values::of(path.as_str()).add(after).add(most);
        let (mut last, mut count) = (after.to_owned(), 0);
        let more = self.ask(|database| {
            let mut statement = database.prepare_cached(&select)?;
            let mut rows = statement.query(params_from_iter(values.0))?;
            while let Some(row) = rows.next()? {
                let entry = CatalogRow::read(&mut Columns::new(row))?.entry;
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

    /// Returns the facts of the file that `meta` describes. Returns `None` if the catalogue has no
    /// row for it, or one of other content.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn facts_of(&self, path: &TreePath, meta: &Meta) -> Result<Option<EntryFacts>> {
        // A folder stays the same when its entries change.
        let is_folder =
            |row: &CatalogRow| row.entry.kind == Kind::Folder && meta.kind == MetaKind::Folder;
        let row = self.row(path)?.filter(|row| row.matches(meta) || is_folder(row));
        Ok(row.map(|row| row.facts()))
    }

    /// Returns the row of a path, and the known holders if its content is missing.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn at(&self, path: &TreePath) -> Result<Option<(CatalogRow, Vec<FolderId>)>> {
        let Some(row) = self.row(path)? else { return Ok(None) };
        let holders = if row.here { Vec::new() } else { self.holders(path)? };
        Ok(Some((row, holders)))
    }

    /// Returns whether the path is unapplied: its content is missing and will not arrive soon.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn is_unapplied(&self, path: &TreePath) -> Result<bool> {
        Ok(self.unapplied(path)?.is_some())
    }

    /// Returns the slaves of the cluster, with their folders and addresses.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn peers(&self) -> Result<Vec<PeerSlave>> {
        self.all("SELECT slave, folder, addrs FROM peer", Values::default(), |from| {
            let (slave, folder) = (SlaveId(from.get()?), FolderId(from.get()?));
            let addrs: String = from.get()?;
            // This program wrote them. An address that it cannot read is of no use to it.
            let addrs = addrs.split(' ').filter_map(|addr| addr.parse().ok()).collect();
            Ok(PeerSlave { slave, folder, addrs })
        })
    }

    /// Returns the LSN of the last change to a path; `None` if the path has no row.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn version_at(&self, path: &TreePath) -> Result<Option<Option<Lsn>>> {
        Ok(self.row(path)?.map(|row| row.entry.version))
    }

    /// Returns the metrics of the folder.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn metrics(&self) -> Result<Metrics> {
        let totals = self.all("SELECT what, n FROM total", Values::default(), |from| {
            Ok((from.get::<String>()?, from.get::<i64>()?))
        })?;
        let mut metrics = Metrics::default();
        for (name, n) in totals {
            metrics.set(&name, u64::try_from(n).unwrap_or(0));
        }
        Ok(metrics)
    }

    /// Returns the last error of the writer; empty if there is none.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn last_error(&self) -> Result<String> {
        Ok(self.meta("last-error")?.unwrap_or_default())
    }
}
