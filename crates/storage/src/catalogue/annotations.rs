//! Annotations of the tree: properties and locks of paths, and SHA-256 hashes of contents.
//!
//! They follow the log, never the disk: what a change does to them is recorded in the transaction
//! of the change, also if the disk refuses the rest. A file without annotations costs nothing.

use relais_proto::{Annotations, Change, Decoder, Encoder, Lock, LogEntry, TreePath, Wire};

use super::columns::{AT_OR_BELOW, Values};
use super::store::CatalogStore;
use crate::error::Result;

/// Tables of annotations.
const TABLES: [&str; 3] = ["property", "lock", "sha256"];

/// Returns the encoding of a value, as on the wire.
pub(super) fn encoded<T: Wire>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    value.encode(&mut Encoder::new(&mut bytes));
    bytes
}

/// Returns the value of [`encoded`] bytes; `None` if they are damaged.
pub(super) fn decoded<T: Wire>(bytes: &[u8]) -> Option<T> {
    let mut from = Decoder::new(bytes);
    let value = T::decode(&mut from).ok()?;
    from.finish().ok()?;
    Some(value)
}

impl CatalogStore {
    /// Records an annotation, if the change is one.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn annotate(&self, entry: &LogEntry) -> Result<()> {
        match &entry.change {
            Change::SetProperties { path, changes } => self.set_properties(path, changes),
            Change::Lock { path, lock } => {
                let lock = Lock::granted(lock, entry.id, entry.time_ms);
                self.grant_lock(path, lock, entry.time_ms)
            }
            Change::Unlock { path, token } => self.drop_lock(path, *token),
            Change::RecordSha256 { put, hashes } => self.record_hashes(*put, hashes),
            Change::Put { .. }
            | Change::MakeFolder { .. }
            | Change::Remove { .. }
            | Change::Move { .. }
            | Change::Withdraw { .. }
            | Change::SetAttributes { .. } => Ok(()),
        }
    }

    /// Drops the annotations of a path and of all below it, before a change removes their rows.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn drop_annotations(&self, path: &TreePath) -> Result<()> {
        self.drop_hashes_below(path)?;
        self.drop_tree("property", path)?;
        self.drop_tree("lock", path)
    }

    /// Moves the properties at and below `from`, before a change moves the rows to `to`.
    ///
    /// Locks do not move with their path: those at `from` end, and a lock of what is replaced at
    /// `to` stays there.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn move_annotations(&self, from: &TreePath, to: &TreePath) -> Result<()> {
        self.drop_hashes_below(to)?;
        self.drop_tree("property", to)?;
        self.relocate_rows("property", from, to)?;
        self.drop_tree("lock", from)
    }

    /// Deletes the rows of a table at and below a path.
    fn drop_tree(&self, table: &str, path: &TreePath) -> Result<()> {
        self.run(&format!("DELETE FROM {table} WHERE {AT_OR_BELOW}"), Values::tree(path))
    }

    /// Returns all annotations.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn annotations(&self) -> Result<Annotations> {
        Ok(Annotations {
            properties: self.all_properties()?,
            locks: self.all_locks()?,
            hashes: self.all_hashes()?,
        })
    }

    /// Replaces all annotations by those of the master's tree. The rows of its entries are written.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn replace_annotations(&self, annotations: &Annotations) -> Result<()> {
        for table in TABLES {
            self.run(&format!("DELETE FROM {table}"), Values::default())?;
        }
        for (path, property) in &annotations.properties {
            let insert = "INSERT OR REPLACE INTO property VALUES (?, ?, ?, ?, ?)";
            let name = &property.name;
            let at = Values::at(path).add(&*name.namespace).add(&*name.local);
            self.run(insert, at.add(&*property.value))?;
        }
        for (path, lock) in &annotations.locks {
            self.put_lock(path, lock)?;
        }
        annotations.hashes.iter().try_for_each(|(put, hashes)| self.record_hashes(*put, hashes))
    }
}
