//! SHA-256 hashes of contents: a row for each content that has them.

use relais_proto::{ContentHashes, Lsn, TreePath};

use super::annotations::{decoded, encoded};
use super::columns::{AT_OR_BELOW, Values};
use super::store::CatalogStore;
use crate::error::Result;

impl CatalogStore {
    /// Returns the hashes of the content that a put stored, if they are known.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn content_hashes(&self, put: Lsn) -> Result<Option<ContentHashes>> {
        let select = "SELECT hashes FROM sha256 WHERE epoch = ? AND number = ?";
        let found: Option<Vec<u8>> =
            self.first(select, Values::default().lsn(put), |from| from.get())?;
        let damaged = || self.damaged("the hashes of a content");
        found.map(|bytes| decoded(&bytes).ok_or_else(damaged)).transpose()
    }

    /// Returns whether the hashes of any content are known.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn has_hashes(&self) -> Result<bool> {
        self.exists("sha256", "1", Values::default())
    }

    /// Records the hashes of a content that the tree has.
    pub(super) fn record_hashes(&self, put: Lsn, hashes: &ContentHashes) -> Result<()> {
        self.run(
            "INSERT OR REPLACE INTO sha256 SELECT ?1, ?2, ?3 WHERE EXISTS
                 (SELECT 1 FROM entry WHERE content_epoch = ?1 AND content_number = ?2)",
            Values::default().lsn(put).add(encoded(hashes)),
        )
    }

    /// Deletes the hashes of a content that leaves the tree.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn drop_hashes(&self, put: Lsn) -> Result<()> {
        let delete = "DELETE FROM sha256 WHERE epoch = ? AND number = ?";
        self.run(delete, Values::default().lsn(put))
    }

    /// Deletes the hashes of the contents at and below a path, which leave the tree.
    pub(super) fn drop_hashes_below(&self, path: &TreePath) -> Result<()> {
        if !self.has_hashes()? {
            return Ok(());
        }
        let contents = format!(
            "SELECT content_epoch, content_number FROM entry
             WHERE content_number IS NOT NULL AND {AT_OR_BELOW}"
        );
        let delete = format!("DELETE FROM sha256 WHERE (epoch, number) IN ({contents})");
        self.run(&delete, Values::tree(path))
    }

    /// Returns all hashes, ordered by the put that stored the content.
    pub(super) fn all_hashes(&self) -> Result<Vec<(Lsn, ContentHashes)>> {
        let select = "SELECT epoch, number, hashes FROM sha256 ORDER BY epoch, number";
        let rows =
            self.all(select, Values::default(), |from| Ok((from.lsn()?, from.get::<Vec<u8>>()?)))?;
        let damaged = || self.damaged("the hashes of a content");
        let hashes = |(put, bytes): (Lsn, Vec<u8>)| Ok((put, decoded(&bytes).ok_or_else(damaged)?));
        rows.into_iter().map(hashes).collect()
    }
}
