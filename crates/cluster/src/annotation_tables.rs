//! Properties, locks and hashes of a tree, and what changes do to them.

use relais_proto::{Annotations, Change, ContentHashes, Lock, LogEntry, TreePath};

use crate::content_hashes::ContentHashTable;
use crate::locks::LockTable;
use crate::properties::PropertyTable;

/// What a tree holds beside its entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AnnotationTables {
    /// Dead properties.
    pub properties: PropertyTable,
    /// Locks, some of which may have expired.
    pub locks: LockTable,
    /// Hashes of contents.
    pub hashes: ContentHashTable,
}

impl AnnotationTables {
    /// Makes the tables from their content.
    #[must_use]
    pub fn listed(all: Annotations) -> Self {
        Self {
            properties: PropertyTable::listed(all.properties),
            locks: LockTable::listed(all.locks),
            hashes: ContentHashTable::listed(all.hashes),
        }
    }

    /// Returns a copy of the content of the tables.
    #[must_use]
    pub fn list(&self) -> Annotations {
        let of = |path: &TreePath, property| (path.clone(), property);
        let properties =
            self.properties.iter().flat_map(|(path, all)| all.iter().map(move |it| of(path, it)));
        let locks = self.locks.iter().map(|(path, lock)| (path.clone(), Lock::clone(lock)));
        let hashes = self.hashes.iter().map(|(put, hashes)| (put, ContentHashes::clone(hashes)));
        Annotations {
            properties: properties.collect(),
            locks: locks.collect(),
            hashes: hashes.collect(),
        }
    }

    /// Applies the next change, whose resource or content is there.
    ///
    /// The withdrawal of a put, and contents that leave the tree, are [`Self::remove_tree`] and
    /// [`ContentHashTable::forget`].
    pub fn apply(&mut self, log_entry: &LogEntry) {
        match &log_entry.change {
            Change::SetProperties { path, changes } => self.properties.set(path, changes),
            Change::Lock { path, lock } => {
                let lock = Lock::granted(lock, log_entry.id, log_entry.time_ms);
                self.locks.grant(path, lock, log_entry.time_ms);
            }
            Change::Unlock { path, token } => self.locks.release(path, *token),
            Change::RecordSha256 { put, hashes } => self.hashes.record(*put, hashes.clone()),
            Change::Remove { path, .. } => self.remove_tree(path),
            // A lock stays where it was made (RFC 4918, section 7.6).
            Change::Move { from, to } if from != to => {
                self.properties.remove_tree(to);
                self.properties.move_tree(from, to);
                self.locks.remove_tree(from);
            }
            Change::Put { .. }
            | Change::MakeFolder { .. }
            | Change::Move { .. }
            | Change::Withdraw { .. }
            | Change::SetAttributes { .. } => {}
        }
    }

    /// Removes properties and locks of a path and of all below it, because they are gone.
    pub fn remove_tree(&mut self, path: &TreePath) {
        self.properties.remove_tree(path);
        self.locks.remove_tree(path);
    }
}
