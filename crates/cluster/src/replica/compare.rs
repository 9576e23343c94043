//! Compares a slave's tree with the complete tree of the master.
//!
//! An entry is removed only if a change that the master knows removed it. Entries from changes
//! outside the master's history are returned as divergent. They are proposed again or quarantined,
//! never destroyed. [`crate::timeline`] decides which changes are part of the history, never the
//! numbers alone.

use std::collections::HashSet;

use relais_proto::{Annotations, ChangeId, Expect, Lsn, TreePath};

use crate::timeline::Timeline;
use crate::tree::Entry;

/// A tree that arrives in pages. It must not be used before it is complete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReceivedTree {
    /// Entries ordered by path.
    pub entries: Vec<(TreePath, Entry)>,
    /// Ids and numbers of changes.
    pub ids: Vec<(ChangeId, Lsn)>,
    /// All properties, locks and hashes.
    pub annotations: Annotations,
    /// Last change of the tree.
    pub lsn: Lsn,
    /// Timelines of the history that made the tree, oldest first.
    pub timelines: Vec<Timeline>,
}

impl ReceivedTree {
    /// Adds a page; returns false if it is out of order.
    pub(super) fn add(
        &mut self,
        entries: Vec<(TreePath, Entry)>,
        ids: Vec<(ChangeId, Lsn)>,
        annotations: Annotations,
    ) -> bool {
        let before = self.entries.len().saturating_sub(1);
        self.entries.extend(entries);
        self.ids.extend(ids);
        self.annotations.append(annotations);
        self.entries[before.min(self.entries.len())..].is_sorted_by(|a, b| a.0 < b.0)
    }

    /// Returns whether there is a folder at a path below the root.
    fn has_folder(&self, path: &TreePath) -> bool {
        let found = self.entries.binary_search_by(|(other, _)| other.cmp(path)).ok();
        found.and_then(|at| self.entries.get(at)).is_some_and(|(_, entry)| entry.content.is_none())
    }

    pub(super) fn is_whole(&self, entries: u64) -> bool {
        u64::try_from(self.entries.len()) == Ok(entries)
    }
}

/// A slave's entry from a divergent branch.
#[allow(missing_docs, reason = "the names of the fields say what they hold")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DivergentEntry {
    pub path: TreePath,
    pub entry: Entry,
    /// Precondition to propose the entry as a new change.
    ///
    /// `None` quarantines it, because the tree has a newer entry there or no folder for it.
    pub expect: Option<Expect>,
}

/// Steps that turn a slave's tree into the master's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// Entries that a change has removed or replaced since; children before their folder.
    pub gone: Vec<(TreePath, Entry)>,
    /// New or changed entries; folders before their children.
    ///
    /// A replaced file stays until the new content is here, as with every change, because a
    /// withdrawal may restore it.
    pub come: Vec<(TreePath, Entry)>,
    /// Entries of the branch; children before their folder.
    pub strays: Vec<DivergentEntry>,
}

/// Compares a slave's entries, ordered by path, with the received tree.
///
/// Both histories are equal up to `fork`; the slave's later entries are a branch.
pub fn compare<'a>(
    own: impl IntoIterator<Item = (&'a TreePath, &'a Entry)>,
    fork: Lsn,
    listing: &ReceivedTree,
) -> Differences {
    let mut found = Differences::default();
    let mut theirs = listing.entries.iter().peekable();
    // Folders of the branch that are proposed and can contain proposed entries.
    let mut offered = HashSet::new();
    for (path, entry) in own {
        while let Some(next) = theirs.next_if(|(other, _)| other < path) {
            found.come.push(next.clone());
        }
        let there = theirs.next_if(|(other, _)| other == path).map(|(_, entry)| entry);
        if there == Some(entry) {
            continue;
        }
        found.come.extend(there.map(|there| (path.clone(), *there)));
        let digest = |entry: &Entry| entry.content.map(|content| content.digest);
        if there.is_some_and(|there| digest(there) == digest(entry)) {
            continue;
        }
        if entry.version <= fork {
            found.gone.push((path.clone(), *entry));
            continue;
        }
        let parent = path.split_last().map(|(parent, _)| parent).unwrap_or_default();
        let has_parent =
            parent.is_root() || offered.contains(&parent) || listing.has_folder(&parent);
        if entry.content.is_none() {
            if there.is_none() && has_parent {
                offered.insert(path.clone());
                let expect = Some(Expect::Absent);
                found.strays.push(DivergentEntry { path: path.clone(), entry: *entry, expect });
            } else {
                // Its children are handled separately.
                found.gone.push((path.clone(), *entry));
            }
            continue;
        }
        let expect = match there {
            None => has_parent.then_some(Expect::Absent),
            // The entry is based on the content that the tree still has there.
            Some(there) if there.content.is_some() && there.version <= fork => {
                Some(Expect::Lsn(there.version))
            }
            Some(_) => None,
        };
        found.strays.push(DivergentEntry { path: path.clone(), entry: *entry, expect });
    }
    found.come.extend(theirs.cloned());
    found.gone.reverse();
    found.strays.reverse();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::FileContent;
    use relais_proto::{Digest, FileTime, Mode};

    fn version(epoch: u32, number: u64) -> Lsn {
        Lsn { epoch, number }
    }

    fn file(path: &str, put: Lsn) -> (TreePath, Entry) {
        let content = FileContent {
            put,
            digest: Digest([u8::try_from(put.number).unwrap(); 32]),
            size: 1,
            mtime: FileTime::default(),
        };
        (
            TreePath::new(path).unwrap(),
            Entry { version: put, mode: Mode::new(0o644), content: Some(content) },
        )
    }

    fn names<'a>(entries: impl IntoIterator<Item = &'a TreePath>) -> Vec<&'a str> {
        entries.into_iter().map(TreePath::as_str).collect()
    }

    fn folder(path: &str, version: Lsn) -> (TreePath, Entry) {
        let entry = Entry { version, mode: Mode::new(0o755), content: None };
        (TreePath::new(path).unwrap(), entry)
    }

    fn compared(
        own: &[(TreePath, Entry)],
        fork: Lsn,
        theirs: Vec<(TreePath, Entry)>,
    ) -> Differences {
        let listing =
            ReceivedTree { entries: theirs, lsn: version(2, 1), ..ReceivedTree::default() };
        compare(own.iter().map(|(path, entry)| (path, entry)), fork, &listing)
    }

    fn strays(found: &Differences) -> Vec<(&str, Option<Expect>)> {
        found.strays.iter().map(|stray| (stray.path.as_str(), stray.expect)).collect()
    }

    #[test]
    fn only_what_a_known_change_took_goes() {
        let own = [
            file("a", version(1, 1)),
            file("b", version(1, 2)),
            file("c", version(1, 9)),
            file("d", version(1, 8)),
            file("e", version(1, 7)),
        ];
        let entries = vec![
            file("a", version(1, 1)),
            file("d", version(1, 3)),
            file("e", version(2, 1)),
            file("f", version(1, 4)),
        ];
        let found = compared(&own, version(1, 5), entries);
        assert_eq!(
            names(found.gone.iter().map(|(path, _)| path)),
            ["b"],
            "the master had its number, and has it no more"
        );
        assert_eq!(names(found.come.iter().map(|(path, _)| path)), ["d", "e", "f"]);
        let base = Some(Expect::Lsn(version(1, 3)));
        assert_eq!(strays(&found), [("e", None), ("d", base), ("c", Some(Expect::Absent))]);
    }

    #[test]
    fn equal_numbers_of_two_histories_are_not_the_same_change() {
        let mut other = file("a", version(1, 6));
        other.1.content.as_mut().unwrap().digest = Digest([99; 32]);
        let own = [file("a", version(1, 6)), file("b", version(1, 7))];
        let found = compared(&own, version(1, 5), vec![other.clone()]);
        assert_eq!(strays(&found), [("b", Some(Expect::Absent)), ("a", None)]);
        assert_eq!((found.gone.len(), found.come), (0, vec![other]));
        // Equal content at the same path is no conflict, whatever its numbers are.
        let mut same = file("a", version(2, 1));
        same.1.content.as_mut().unwrap().digest = Digest([6; 32]);
        let found = compared(&own[..1], version(1, 5), vec![same.clone()]);
        assert_eq!((found.gone.len(), found.strays.len(), found.come), (0, 0, vec![same]));
    }

    #[test]
    fn moved_content_is_not_lost() {
        let own = [file("a", version(1, 1))];
        let found = compared(&own, version(1, 5), vec![file("b", version(1, 1))]);
        assert_eq!((found.gone.len(), found.come.len(), found.strays.len()), (1, 1, 0));
        // The branch has moved it. Another branch may replace it where the tree has it.
        let mut moved = file("c", version(1, 1));
        moved.1.version = version(1, 8);
        let found = compared(&[moved.clone()], version(1, 5), own.to_vec());
        assert_eq!((found.gone.len(), found.come.len()), (0, 1));
        assert_eq!(strays(&found), [("c", Some(Expect::Absent))]);
        // The tree no longer has it.
        let found = compared(&[moved], version(1, 5), Vec::new());
        assert_eq!((found.gone.len(), strays(&found)), (0, vec![("c", Some(Expect::Absent))]));
    }

    #[test]
    fn what_lies_in_a_folder_that_the_tree_lacks_is_quarantined() {
        let own = [
            folder("gone", version(1, 1)),
            file("gone/new", version(1, 7)),
            folder("here", version(1, 8)),
            file("here/new", version(1, 9)),
            folder("taken", version(1, 10)),
            folder("taken/sub", version(1, 11)),
            file("taken/sub/new", version(1, 12)),
        ];
        let found = compared(&own, version(1, 5), vec![file("taken", version(2, 1))]);
        assert_eq!(
            strays(&found),
            [
                ("taken/sub/new", None),
                ("here/new", Some(Expect::Absent)),
                ("here", Some(Expect::Absent)),
                ("gone/new", None)
            ]
        );
        assert_eq!(
            names(found.gone.iter().map(|(path, _)| path)),
            ["taken/sub", "taken", "gone"],
            "they are empty by then"
        );
    }

    #[test]
    fn a_listing_counts_only_in_order_and_whole() {
        let mut listing = ReceivedTree::default();
        let add = |listing: &mut ReceivedTree, entries| {
            listing.add(entries, vec![], Annotations::default())
        };
        assert!(add(&mut listing, vec![file("a", version(1, 1)), file("b", version(1, 1))]));
        assert!(add(&mut listing, vec![]) && !listing.is_whole(3) && listing.is_whole(2));
        assert!(add(&mut listing.clone(), vec![file("c", version(1, 1))]));
        assert!(!add(&mut listing, vec![file("b", version(1, 1))]));
    }
}
