//! What a standalone slave alone needs of the catalogue.

use relais_cluster::Entry;
use relais_proto::{ChangeId, Digest, Kind, Lsn, TreePath};
use relais_tree::Meta;

use super::columns::{AT, BELOW, Values, split};
use super::path_listing::escape_path;
use super::skipped::SkipReason;
use super::store::CatalogStore;
use crate::error::CatalogError;
use crate::proposal::Commit;

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

impl CatalogStore {
    /// Writes an entry that a change has put at `path`, with its LSNs and digest.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn put_committed(
        &self,
        path: &TreePath,
        made: &AppliedEntry<'_>,
    ) -> Result<(), CatalogError> {
        self.unskip(path)?;
        self.run(&format!("DELETE FROM entry WHERE {AT}"), Values::at(path))?;
        self.insert(path, made.kind, made.meta)?;
        self.run(
            &format!(
                "UPDATE entry SET epoch = ?3, number = ?4, content_epoch = ?5,
                 content_number = ?6, digest = ?7 WHERE {AT}"
            ),
            Values::at(path).lsn(made.version).optional_lsn(made.content).digest(made.digest),
        )
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
        self.relocate(from, to, version)?;
        self.set_lsn(to, version)?;
        self.update_disk_meta(to, meta)
    }

    /// Assigns the LSNs of `known` to an entry of the scan, if both describe the same file.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn assign_lsn(&self, path: &TreePath, known: &Entry) -> Result<(), CatalogError> {
        let Some(row) = self.row(path)? else { return Ok(()) };
        let is_same = match known.content {
            None => row.entry.kind == Kind::Folder,
            Some(content) => {
                row.entry.kind == Kind::File
                    && (row.entry.size, row.entry.mtime) == (content.size, content.mtime)
            }
        };
        if !is_same || row.entry.version.is_some() {
            return Ok(());
        }
        self.run(
            &format!(
                "UPDATE entry SET epoch = ?3, number = ?4, content_epoch = ?5,
                 content_number = ?6 WHERE {AT}"
            ),
            Values::at(path)
                .lsn(known.version)
                .optional_lsn(known.content.map(|content| content.put)),
        )
        .map(drop)
    }

    /// Returns whether a folder has neither entries nor skipped names.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn is_empty(&self, folder: &TreePath) -> Result<bool, CatalogError> {
        Ok(self.names(folder)?.is_empty())
    }

    /// Returns the length in bytes of the longest path below a folder; 0 if it is empty.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn longest_below(&self, folder: &TreePath) -> Result<usize, CatalogError> {
        let rows = self.below(folder)?;
        Ok(rows.iter().map(|(path, _)| path.as_str().len()).max().unwrap_or(0))
    }

    /// Returns all committed changes by id, with the digests of their puts.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn commits(&self) -> Result<Vec<(ChangeId, Commit)>, CatalogError> {
        let select = "SELECT id, epoch, number, digest FROM change";
        self.all(select, Values::default(), |from| {
            Ok((ChangeId(from.get()?), Commit { version: from.lsn()?, digest: from.digest()? }))
        })
    }

    /// Returns the number of skipped names at or below a path.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn skipped_below(&self, path: &TreePath) -> Result<u64, CatalogError> {
        let select = format!("SELECT count(*) FROM skipped WHERE {BELOW}");
        let count =
            self.first(&select, Values::default().add(path.as_str()), |from| from.unsigned())?;
        Ok(count.unwrap_or_default())
    }

    /// Returns the first skipped name below a folder, escaped, and what it is.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn first_skipped_below(
        &self,
        path: &TreePath,
    ) -> Result<Option<(String, &'static str)>, CatalogError> {
        let select = format!(
            "SELECT folder, name, why FROM skipped WHERE {BELOW} ORDER BY folder, name LIMIT 1"
        );
        self.first(&select, Values::default().add(path.as_str()), |from| {
            let (folder, name): (String, Vec<u8>) = (from.get()?, from.get()?);
            let reason = SkipReason::from_number(from.get()?);
            Ok((escape_path(&folder, &name), reason.map_or("not served", SkipReason::text)))
        })
    }

    /// Returns why a name is skipped; `None` if it is served or missing.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn skipped_at(&self, path: &TreePath) -> Result<Option<SkipReason>, CatalogError> {
        let (folder, name) = split(path);
        let select = format!("SELECT why FROM skipped WHERE {AT}");
        let values = Values::default().add(folder).add(name.as_bytes());
        Ok(self.first(&select, values, |from| from.get())?.and_then(SkipReason::from_number))
    }
}
