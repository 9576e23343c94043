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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Tree;
    use relais_proto::{
        ChangeId, Digest, FileTime, LockRequest, LockToken, Lsn, Mode, PropertyChange,
        PropertyName, Sha256, limits,
    };

    fn path(text: &str) -> TreePath {
        TreePath::new(text).unwrap()
    }

    fn put(at: &str) -> Change {
        let (mtime, mode) = (FileTime::default(), Mode::new(0o644));
        Change::Put { path: path(at), size: 1, digest: Digest([1; 32]), mtime, mode }
    }

    fn set(at: &str, value: &str) -> Change {
        let name = PropertyName { namespace: String::new(), local: "p".into() };
        let changes = vec![PropertyChange { name, value: Some(value.into()) }];
        Change::SetProperties { path: path(at), changes }
    }

    fn lock(at: &str, token: u8) -> Change {
        let (user, owner) = ("ann".into(), String::new());
        let token = LockToken([token; 16]);
        let lock = LockRequest { token, user, owner, exclusive: false, deep: true, seconds: 1 };
        Change::Lock { path: path(at), lock }
    }

    fn hashes(of: u64) -> Change {
        let (sha256, piece_size) = (Sha256([2; 32]), limits::PIECE);
        let hashes = ContentHashes { sha256, piece_size, pieces: Vec::new() };
        Change::RecordSha256 { put: Lsn { epoch: 1, number: of }, hashes }
    }

    fn folder(at: &str) -> Change {
        Change::MakeFolder { path: path(at), mode: Mode::new(0o755) }
    }

    fn mv(from: &str, to: &str) -> Change {
        Change::Move { from: path(from), to: path(to) }
    }

    /// Applies changes, one each second, and a slave's copy beside it; shows what is annotated.
    fn after(changes: &[Change]) -> String {
        let (mut tree, mut copy) = (Tree::new(), Tree::new());
        for (number, change) in (1..).zip(changes) {
            let version = Lsn { epoch: 1, number };
            let id = ChangeId([7; 16]);
            let change = change.clone();
            let log_entry = LogEntry { version, id, time_ms: number * 1000, change };
            let effects = tree.apply(&log_entry);
            match log_entry.change {
                Change::Withdraw { .. } => copy.restore(version, &effects.restored),
                _ => drop(copy.apply(&log_entry)),
            }
            assert_eq!(tree.annotations(), copy.annotations(), "after change {number}");
        }
        let all = tree.annotations();
        let listed = AnnotationTables::listed(all.clone());
        assert_eq!(listed.list(), all);
        let properties = all.properties.iter().map(|(path, it)| format!("{path}={}", it.value));
        let locks = all.locks.iter().map(|(path, it)| format!("{path}:{}", it.token.0[0]));
        let hashes = all.hashes.iter().map(|(put, _)| put.number.to_string());
        properties.chain(locks).chain(hashes).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn annotations_follow_their_resource() {
        let withdraw = |number| Change::Withdraw { of: Lsn { epoch: 1, number } };
        let remove = |at| Change::Remove { path: path(at), recursive: true };
        let start = [put("f"), set("f", "1"), lock("f", 1), hashes(1)];
        let with = |more: &[Change]| after(&[&start, more].concat());
        let unlock = Change::Unlock { path: path("f"), token: LockToken([1; 16]) };
        for (more, wanted) in [
            (vec![], "/f=1 /f:1 1"),
            (vec![unlock], "/f=1 1"),
            (vec![set("f", "2"), set("", "3")], "/=3 /f=2 /f:1 1"),
            // New content keeps what belongs to the path; its hashes are not known.
            (vec![put("f")], "/f=1 /f:1"),
            (vec![put("f"), withdraw(5)], "/f=1 /f:1"),
            (vec![remove("f")], ""),
            (vec![remove("f"), put("f")], ""),
            (vec![put("g"), set("g", "2"), lock("g", 2), withdraw(5)], "/f=1 1"),
            // A move takes the properties along, and no lock.
            (vec![mv("f", "g")], "/g=1 1"),
            (vec![mv("f", "f")], "/f=1 /f:1 1"),
            (vec![put("g"), hashes(5), set("g", "2"), lock("g", 2), mv("f", "g")], "/g=1 /g:2 1"),
            (vec![folder("d"), mv("f", "d/f"), set("d", "2"), mv("d", "e")], "/e=2 /e/f=1 1"),
            (vec![folder("d"), mv("f", "d/f"), lock("d/f", 2), remove("d")], ""),
            // An expired lock leaves with the next one.
            (vec![set("f", "2"), lock("", 2)], "/f=2 /:2 1"),
            // What has no resource any more changes nothing.
            (vec![set("none", "2"), lock("none", 2), hashes(9)], "/f=1 /f:1 1"),
        ] {
            assert_eq!(with(&more), wanted, "{more:?}");
        }
    }
}
