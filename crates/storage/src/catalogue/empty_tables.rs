//! Tables that are known to be empty, so that most changes need no look at them.
//!
//! Only the writer remembers that: other processes do not see when it adds a row.

use std::cell::Cell;

/// A table that has rows only where something is out of the ordinary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RareTable {
    Unapplied,
    Kept,
    Skipped,
}

impl RareTable {
    pub fn name(self) -> &'static str {
        match self {
            Self::Unapplied => "unapplied",
            Self::Kept => "kept",
            Self::Skipped => "skipped",
        }
    }

    fn bit(self) -> u8 {
        1 << (self as u8)
    }
}

/// What a connection remembers; see the module.
#[derive(Debug, Default)]
pub(super) struct EmptyTables {
    is_writer: bool,
    empty: Cell<u8>,
}

impl EmptyTables {
    pub fn of_writer() -> Self {
        Self { is_writer: true, ..Self::default() }
    }

    /// Forgets everything. A rollback may bring rows back.
    pub fn forget(&self) {
        self.empty.set(0);
    }

    /// Returns whether a table is known to be empty.
    pub fn has(&self, table: RareTable) -> bool {
        self.empty.get() & table.bit() != 0
    }

    /// Records that a table was found empty. A reader forgets that at once.
    pub fn add(&self, table: RareTable) {
        if self.is_writer {
            self.empty.set(self.empty.get() | table.bit());
        }
    }

    /// Records that a row is about to be added.
    pub fn will_fill(&self, table: RareTable) {
        self.empty.set(self.empty.get() & !table.bit());
    }
}

#[cfg(test)]
mod tests {
    use relais_proto::{Lsn, TreePath};
    use relais_tree::Folder;

    use crate::{CatalogStore, SlaveIdentity, StartParameters};

    #[test]
    fn rows_are_found_after_a_rollback() {
        let dir = tempfile::tempdir().unwrap();
        let any = StartParameters { standalone: false, requested_port: 0, bound_port: 40_000 };
        let own = SlaveIdentity::acquire(&Folder::open(dir.path()).unwrap(), any).unwrap();
        let store = CatalogStore::open(&own.folder).unwrap();
        let path = TreePath::new("a/b").unwrap();
        let is_known = || store.unapplied(&path).unwrap().is_some();
        assert!(!is_known() && !store.is_blocked(&path).unwrap());
        store.record_unapplied(&path, Lsn::default(), false, "why", None).unwrap();
        assert!(is_known() && store.is_blocked(&path).unwrap());
        for is_savepoint in [false, true] {
            store.begin().unwrap();
            if is_savepoint {
                store.begin_savepoint().unwrap();
            }
            store.clear_unapplied(&path).unwrap();
            assert!(!is_known() && !store.is_blocked(&path).unwrap());
            if is_savepoint {
                store.end_savepoint(false).unwrap();
            }
            store.rollback().unwrap();
            assert!(is_known() && store.is_blocked(&path).unwrap());
        }
    }
}
