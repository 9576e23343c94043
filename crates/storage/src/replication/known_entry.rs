//! What the catalogue knows about the entry at a path. Reads no disk.

use relais_cluster::{Entry, FileContent};
use relais_proto::{Digest, Kind, Lsn, TreePath};
use relais_tree::Meta;

use crate::{CatalogError, CatalogRow, CatalogStore, RetainedContent};

/// The row of a path, and the content that the catalogue retains there.
#[derive(Debug, Default)]
pub(super) struct KnownEntry {
    pub row: Option<CatalogRow>,
    pub retained: Option<RetainedContent>,
}

impl KnownEntry {
    pub fn load(store: &CatalogStore, path: &TreePath) -> Result<Self, CatalogError> {
        Ok(Self { row: store.row(path)?, retained: store.retained(path)? })
    }

    /// Returns whether the row is of this kind.
    pub fn is(&self, kind: Kind) -> bool {
        self.row.as_ref().is_some_and(|row| row.entry.kind == kind)
    }

    /// Returns whether the content of the row is on the disk.
    pub fn is_here(&self) -> bool {
        self.row.as_ref().is_some_and(|row| row.here)
    }

    /// Returns the content on the disk: that of the tree, or the retained one.
    pub fn content(&self) -> Option<RetainedContent> {
        self.row.as_ref().and_then(CatalogRow::to_retained).or(self.retained)
    }

    /// Returns whether the catalogue has the content of a put here, or retains it.
    pub fn has_content_of(&self, put: Option<Lsn>) -> bool {
        let here = self.row.as_ref().and_then(CatalogRow::to_retained);
        here.into_iter().chain(self.retained).any(|former| Some(former.content.put) == put)
    }

    /// Returns the entry of the tree if its content is missing.
    pub fn missing(&self) -> Option<(Entry, FileContent)> {
        let entry = self.row.as_ref().filter(|row| !row.here)?.tree_entry()?;
        Some((entry, entry.content?))
    }

    /// Returns the row and the retained content, each if the file or folder is its own. The content
    /// may have changed.
    pub fn of_file(&self, meta: &Meta) -> (Option<&CatalogRow>, Option<&RetainedContent>) {
        // An entry without an LSN belongs to a user.
        let row = self.row.as_ref().filter(|row| row.entry.version.is_some());
        let retained = self.retained.as_ref();
        (
            row.filter(|row| row.matches_except_ctime(meta)),
            retained.filter(|retained| retained.matches_except_ctime(meta)),
        )
    }

    /// Returns whether a file or folder is the known one. Its content may have changed.
    pub fn is_same_file(&self, meta: &Meta) -> bool {
        !matches!(self.of_file(meta), (None, None))
    }

    /// Returns the digest of a file if it is unchanged.
    pub fn digest_of(&self, meta: &Meta) -> Option<Digest> {
        let row = self.row.as_ref().filter(|row| row.matches(meta));
        let retained = self.retained.filter(|retained| retained.matches(meta));
        row.and_then(|row| row.digest).or(retained.map(|retained| retained.content.digest))
    }
}
