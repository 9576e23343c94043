//! The tree that the log makes: kind, last change and content of each path.
//!
//! Pure, and the same on every server that applies the same changes in the same order. The master
//! checks changes against it. After a restart, replaying the journal onto an empty tree restores
//! it.

use std::collections::{BTreeMap, HashMap};

use relais_proto::{Annotations, Attributes, Change, ChangeId, LogEntry, Lsn, TreePath};
pub use relais_proto::{FileContent, TreeEntry as Entry};

use crate::annotation_tables::AnnotationTables;
use crate::content_hashes::ContentHashTable;
use crate::locks::LockTable;
use crate::packed_map::{Iter, PackedMap};
use crate::properties::{PathProperties, PropertyTable};
use crate::tree_view::{TreeNode, TreeView};

/// Number of changes after which the replaced entry of an unconfirmed put is forgotten.
const MEMORY: u64 = 100_000;

/// Effects of a change that the change itself does not describe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects {
    /// Entries that the change replaced or removed.
    pub gone: Vec<(TreePath, Entry)>,
    /// Paths that a withdrawal changes, each with its restored entry.
    pub restored: Vec<(TreePath, Option<Entry>)>,
}

/// All files and folders, by path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    /// Ordered by the bytes of the path, so the entries below a folder are adjacent.
    entries: PackedMap<TreePath, Entry>,
    last: Lsn,
    /// Path of each content, by its put.
    puts: PackedMap<Lsn, TreePath>,
    /// Replaced entry of each put, until the put is safe. A withdrawal restores it. Nothing else
    /// can be withdrawn, so removed or moved subtrees are not kept.
    pub(crate) formers: BTreeMap<Lsn, Option<Entry>>,
    /// What the tree holds beside the entries; nothing for an entry that has none of it.
    annotations: AnnotationTables,
}

impl Tree {
    /// Makes an empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the last applied change.
    #[must_use]
    pub fn last(&self) -> Lsn {
        self.last
    }

    /// Returns the entry at a path below the root.
    #[must_use]
    pub fn get(&self, path: &TreePath) -> Option<Entry> {
        self.entries.get(path)
    }

    /// Iterates over all entries, ordered by path.
    pub fn iter(&self) -> Iter<'_, TreePath, Entry> {
        self.entries.iter()
    }

    /// Returns the number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether the tree is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Iterates over the entries below a folder.
    pub fn below<'a>(
        &'a self,
        folder: &'a TreePath,
    ) -> impl Iterator<Item = (TreePath, Entry)> + 'a {
        // Names that begin with the folder's name, such as `a-b` after `a`, are in between.
        self.entries
            .after(folder)
            .take_while(|(path, _)| begins(path, folder))
            .filter(|(path, _)| path.is_below(folder))
    }

    /// Returns the path of a put's content, if the tree still has it.
    #[must_use]
    pub fn path_of(&self, put: Lsn) -> Option<TreePath> {
        self.puts.get(&put)
    }

    /// Iterates over the puts whose content is in the tree, oldest first.
    pub fn puts(&self) -> Iter<'_, Lsn, TreePath> {
        self.puts.iter()
    }

    /// Returns a copy of all entries, which shares their memory.
    pub(crate) fn entries(&self) -> PackedMap<TreePath, Entry> {
        self.entries.clone()
    }

    /// Builds a tree from its entries after change `last`.
    ///
    /// The replaced entries are unknown, so no put can be withdrawn.
    #[must_use]
    pub fn listed(entries: impl IntoIterator<Item = (TreePath, Entry)>, last: Lsn) -> Self {
        let mut tree = Self { last, ..Self::default() };
        for (path, entry) in entries {
            tree.list(&path, entry);
        }
        tree
    }

    /// Adds an entry to a listed tree.
    pub(crate) fn list(&mut self, path: &TreePath, entry: Entry) {
        self.put_in(path, entry);
    }

    /// Returns the tree with these properties, locks and hashes in place of its own.
    #[must_use]
    pub fn annotated(self, annotations: Annotations) -> Self {
        Self { annotations: AnnotationTables::listed(annotations), ..self }
    }

    /// Returns the tree as the start of a new history, after change `last` and without locks.
    #[must_use]
    pub(crate) fn restarted(self, last: Lsn) -> Self {
        let annotations = AnnotationTables { locks: LockTable::default(), ..self.annotations };
        Self { annotations, ..Self::listed(self.entries.iter(), last) }
    }

    /// Returns a copy of all properties, locks and hashes.
    #[must_use]
    pub fn annotations(&self) -> Annotations {
        self.annotations.list()
    }

    /// Returns the properties.
    #[must_use]
    pub fn properties(&self) -> &PropertyTable {
        &self.annotations.properties
    }

    /// Returns the locks, some of which may have expired.
    #[must_use]
    pub fn locks(&self) -> &LockTable {
        &self.annotations.locks
    }

    /// Returns the hashes of contents.
    #[must_use]
    pub fn hashes(&self) -> &ContentHashTable {
        &self.annotations.hashes
    }

    /// Applies the next change. A change up to the last one is ignored, because it was applied
    /// before.
    pub fn apply(&mut self, log_entry: &LogEntry) -> Effects {
        let version = log_entry.version;
        if version <= self.last {
            return Effects::default();
        }
        self.last = version;
        // Every server forgets at the same change, so a withdrawal has the same effect everywhere.
        while let Some(oldest) = self
            .formers
            .first_entry()
            .filter(|oldest| oldest.key().number.saturating_add(MEMORY) <= version.number)
        {
            oldest.remove();
        }
        if self.has_subject(&log_entry.change) {
            self.annotations.apply(log_entry);
        }
        let effects = self.apply_entries(log_entry);
        self.forget_contents(&effects.gone);
        effects
    }

    /// Returns whether what the change annotates is there, as it was when the change was checked.
    fn has_subject(&self, change: &Change) -> bool {
        match change {
            Change::SetProperties { path, .. } | Change::Lock { path, .. } => {
                path.is_root() || self.entries.contains_key(path)
            }
            Change::RecordSha256 { put, .. } => self.puts.contains_key(put),
            _ => true,
        }
    }

    /// Forgets the hashes of contents that have left the tree.
    fn forget_contents(&mut self, gone: &[(TreePath, Entry)]) {
        for content in gone.iter().filter_map(|(_, entry)| entry.content) {
            // Moved content is still in the tree.
            if !self.puts.contains_key(&content.put) {
                self.annotations.hashes.forget(content.put);
            }
        }
    }

    fn apply_entries(&mut self, log_entry: &LogEntry) -> Effects {
        let version = log_entry.version;
        let paths = match &log_entry.change {
            Change::Put { path, size, digest, mtime, mode } => {
                let content =
                    FileContent { put: version, digest: *digest, size: *size, mtime: *mtime };
                self.insert(path, Entry { version, mode: *mode, content: Some(content) })
            }
            Change::MakeFolder { path, mode } => {
                self.insert(path, Entry { version, mode: *mode, content: None })
            }
            Change::SetAttributes { path, attributes: Attributes { mode, mtime } } => {
                if let Some(mut entry) = self.entries.get(path) {
                    entry.version = version;
                    entry.mode = mode.unwrap_or(entry.mode);
                    if let (Some(content), Some(mtime)) = (&mut entry.content, mtime) {
                        content.mtime = *mtime;
                    }
                    self.entries.insert(path, &entry);
                }
                return Effects::default();
            }
            Change::SetProperties { .. }
            | Change::Lock { .. }
            | Change::Unlock { .. }
            | Change::RecordSha256 { .. } => return Effects::default(),
            Change::Remove { path, .. } => self.remove(path),
            Change::Move { from, to } => self.relocate(from, to, version),
            Change::Withdraw { of } => return self.withdraw(*of, version),
        };
        if matches!(log_entry.change, Change::Put { .. }) {
            self.formers.insert(version, paths.first().and_then(|(_, former)| *former));
        }
        let gone = paths
            .into_iter()
            .filter_map(|(path, former)| former.map(|former| (path, former)))
            .collect();
        Effects { gone, restored: Vec::new() }
    }

    /// Applies a withdrawal whose effects another tree has computed.
    pub fn restore(&mut self, version: Lsn, restored: &[(TreePath, Option<Entry>)]) {
        if version <= self.last {
            return;
        }
        self.last = version;
        let mut gone = Vec::new();
        for (path, entry) in restored {
            let former = match entry {
                Some(entry) => self.put_in(path, *entry),
                None => self.vanish(path),
            };
            gone.extend(former.map(|former| (path.clone(), former)));
        }
        self.forget_contents(&gone);
    }

    /// Records that the put is safe: its replaced entry is no longer needed.
    pub fn settle(&mut self, version: Lsn) {
        self.formers.remove(&version);
    }

    /// Returns whether the content of a put can be withdrawn.
    #[must_use]
    pub fn can_withdraw(&self, put: Lsn) -> bool {
        self.puts.contains_key(&put) && self.formers.contains_key(&put)
    }

    /// Returns whether the put replaced other content, as far as that is known.
    #[must_use]
    pub fn replaced(&self, put: Lsn) -> bool {
        matches!(self.formers.get(&put), Some(Some(_)))
    }

    fn put_in(&mut self, path: &TreePath, entry: Entry) -> Option<Entry> {
        let former = self.entries.insert(path, &entry);
        self.forget_put(path, former.as_ref());
        if let Some(content) = &entry.content {
            self.puts.insert(&content.put, path);
        }
        former
    }

    fn take_out(&mut self, path: &TreePath) -> Option<Entry> {
        let former = self.entries.remove(path)?;
        self.forget_put(path, Some(&former));
        Some(former)
    }

    /// Forgets the content of an entry that is no longer at this path.
    fn forget_put(&mut self, path: &TreePath, former: Option<&Entry>) {
        if let Some(content) = former.and_then(|former| former.content.as_ref())
            && self.puts.get(&content.put).as_ref() == Some(path)
        {
            self.puts.remove(&content.put);
        }
    }

    /// Removes an entry whose put is withdrawn, with its properties and locks.
    fn vanish(&mut self, path: &TreePath) -> Option<Entry> {
        self.annotations.remove_tree(path);
        self.take_out(path)
    }

    fn insert(&mut self, path: &TreePath, entry: Entry) -> Vec<(TreePath, Option<Entry>)> {
        vec![(path.clone(), self.put_in(path, entry))]
    }

    /// Returns a path and all paths below it.
    fn subtree(&self, path: &TreePath) -> Vec<TreePath> {
        let below = self.below(path).map(|(below, _)| below);
        std::iter::once(path.clone()).chain(below).collect()
    }

    fn remove(&mut self, path: &TreePath) -> Vec<(TreePath, Option<Entry>)> {
        let paths = self.subtree(path);
        paths.into_iter().map(|path| (path.clone(), self.take_out(&path))).collect()
    }

    fn relocate(
        &mut self,
        from: &TreePath,
        to: &TreePath,
        version: Lsn,
    ) -> Vec<(TreePath, Option<Entry>)> {
        let mut former = Vec::new();
        for old in self.subtree(from) {
            if let (Some(entry), Some(new)) = (self.take_out(&old), old.moved(from, to)) {
                former.push((old, Some(entry)));
                let replaced = self.put_in(&new, Entry { version, ..entry });
                if from != to {
                    former.push((new, replaced));
                }
            }
        }
        former
    }

    /// Withdraws the content of a put, wherever it is now, and restores the replaced entry.
    fn withdraw(&mut self, of: Lsn, version: Lsn) -> Effects {
        let mut effects = Effects::default();
        let path = self.puts.get(&of);
        if let (Some(former), Some(path)) = (self.formers.remove(&of), path) {
            let now = self.entries.get(&path);
            let restored = former.map(|former| given_back(former, now.as_ref(), version));
            effects.gone.extend(now.map(|now| (path.clone(), now)));
            match restored {
                Some(entry) => self.put_in(&path, entry),
                None => self.vanish(&path),
            };
            effects.restored.push((path, restored));
        }
        effects
    }
}

/// Returns the replaced entry under a new number.
///
/// The mode belongs to the file, not to its content. A mode change since the put in `now` therefore
/// also applies to the restored entry.
fn given_back(former: Entry, now: Option<&Entry>, version: Lsn) -> Entry {
    let kept = now.filter(|now| now.kind() == former.kind()).map(|now| now.mode);
    Entry { version, mode: kept.unwrap_or(former.mode), ..former }
}

/// Returns whether an entry below `folder` may still follow this path in the order of paths.
fn begins(path: &TreePath, folder: &TreePath) -> bool {
    path.as_str().starts_with(folder.as_str())
}

/// A tree, with the ids of the changes that made it.
#[derive(Debug, Clone, Default)]
pub struct TreeState {
    /// The tree after the last change.
    pub tree: Tree,
    /// Numbers of the changes by id.
    pub ids: HashMap<ChangeId, Lsn>,
}

impl TreeState {
    /// Applies the next change and records its id.
    pub fn apply(&mut self, log_entry: &LogEntry) -> Effects {
        self.ids.insert(log_entry.id, log_entry.version);
        self.tree.apply(log_entry)
    }
}

impl TreeView for TreeState {
    fn node(&mut self, path: &TreePath) -> Option<TreeNode> {
        self.tree.get(path).map(|entry| TreeNode {
            kind: entry.kind(),
            version: Some(entry.version),
            mode: entry.mode,
        })
    }

    fn is_empty(&mut self, folder: &TreePath) -> bool {
        self.tree.below(folder).next().is_none()
    }

    fn longest_below(&mut self, folder: &TreePath) -> usize {
        self.tree.below(folder).map(|(path, _)| path.as_str().len()).max().unwrap_or(0)
    }

    fn number_of(&mut self, id: ChangeId) -> Option<Lsn> {
        self.ids.get(&id).copied()
    }

    fn locks(&mut self) -> &LockTable {
        self.tree.locks()
    }

    fn properties(&mut self, path: &TreePath) -> Option<&PathProperties> {
        self.tree.properties().at(path)
    }

    fn property_bytes(&mut self) -> usize {
        self.tree.properties().memory()
    }

    fn size_of(&mut self, put: Lsn) -> Option<u64> {
        let path = self.tree.path_of(put)?;
        self.tree.get(&path)?.content.map(|content| content.size)
    }

    fn has_hashes(&mut self, put: Lsn) -> bool {
        self.tree.hashes().of(put).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequence::{ChangeRequest, SequenceResult, Sequencer};
    use relais_proto::{Digest, Expect, FileTime, Mode};

    fn path(text: &str) -> TreePath {
        TreePath::new(text).unwrap()
    }

    fn put(text: &str, size: u64) -> Change {
        Change::Put {
            path: path(text),
            size,
            digest: Digest([0; 32]),
            mtime: FileTime::default(),
            mode: Mode::new(0o644),
        }
    }

    /// Applies changes that fit, like a master; returns the paths with number and size.
    fn made(changes: &[Change]) -> (TreeState, Vec<(String, u64, Option<u64>)>) {
        let (mut known, mut sequencer) = (TreeState::default(), Sequencer::new(Lsn::default()));
        for (n, change) in changes.iter().enumerate() {
            let id = ChangeId([u8::try_from(n).unwrap(); 16]);
            let request = ChangeRequest {
                id,
                change: change.clone(),
                expect: Expect::Any,
                keep_mode: false,
                tokens: Vec::new(),
            };
            let verdicts = sequencer.sequence([(&request, false)], &mut known, 0);
            match &verdicts[..] {
                [SequenceResult::Accepted(log_entry)] => drop(known.apply(log_entry)),
                other => panic!("{change:?}: {other:?}"),
            }
        }
        let all = known.tree.iter().map(|(path, entry)| {
            (path.to_string(), entry.version.number, entry.content.map(|c| c.size))
        });
        let all = all.collect();
        (known, all)
    }

    fn chmod(text: &str, bits: u32) -> Change {
        Change::SetAttributes { path: path(text), attributes: Attributes::mode(Mode::new(bits)) }
    }

    #[test]
    fn attributes_change_what_they_name_and_nothing_else() {
        let mtime = FileTime { seconds: 7, nanos: 8 };
        let attributes = Attributes { mtime: Some(mtime), mode: None };
        let touch = Change::SetAttributes { path: path("f"), attributes };
        let (known, _) =
            made(&[put("f", 1), touch, chmod("f", 0o600), folder("d"), chmod("d", 0o700)]);
        let file = known.tree.get(&path("f")).unwrap();
        let content = file.content.unwrap();
        assert_eq!((file.version.number, file.mode), (3, Mode::new(0o600)));
        assert_eq!((content.put.number, content.mtime), (1, mtime));
        assert_eq!(known.tree.path_of(content.put), Some(path("f")));
        let folder = known.tree.get(&path("d")).unwrap();
        assert_eq!((folder.version.number, folder.mode), (5, Mode::new(0o700)));
    }

    fn folder(text: &str) -> Change {
        Change::MakeFolder { path: path(text), mode: Mode::new(0o755) }
    }

    #[test]
    fn another_mode_stays_where_content_is_withdrawn() {
        let private = chmod("f", 0o600);
        let withdraw = Change::Withdraw { of: Lsn { epoch: 1, number: 2 } };
        let (known, all) = made(&[put("f", 1), put("f", 2), private, withdraw]);
        assert_eq!(all, [("/f".to_owned(), 4, Some(1))]);
        assert_eq!(known.tree.get(&path("f")).map(|entry| entry.mode), Some(Mode::new(0o600)));
    }

    #[test]
    fn a_folder_takes_all_below_it_along_and_nothing_beside_it() {
        let mut changes = vec![
            folder("a"),
            folder("a-b"),
            put("a-b/x", 1),
            put("a/x", 2),
            folder("a/sub"),
            put("a/sub/y", 3),
            put("a.txt", 4),
        ];
        let moved = Change::Move { from: path("a"), to: path("a-b/a") };
        changes.push(moved);
        let (_, all) = made(&changes);
        let wanted = [
            ("/a-b", 2, None),
            ("/a-b/a", 8, None),
            ("/a-b/a/sub", 8, None),
            ("/a-b/a/sub/y", 8, Some(3)),
            ("/a-b/a/x", 8, Some(2)),
        ];
        let wanted = wanted.into_iter().chain([("/a-b/x", 3, Some(1)), ("/a.txt", 7, Some(4))]);
        assert_eq!(
            all,
            wanted.map(|(path, n, size)| (path.to_owned(), n, size)).collect::<Vec<_>>()
        );
        changes.push(Change::Remove { path: path("a-b"), recursive: true });
        assert_eq!(made(&changes).1, [("/a.txt".to_owned(), 7, Some(4))]);
    }

    #[test]
    fn a_withdrawal_restores_the_replaced_entry_under_a_new_number() {
        let of = |number| Change::Withdraw { of: Lsn { epoch: 1, number } };
        assert_eq!(made(&[put("f", 1), put("f", 2), of(2)]).1, [("/f".to_owned(), 3, Some(1))]);
        assert_eq!(made(&[put("f", 1), of(1)]).1, []);
        assert_eq!(
            made(&[put("f", 1), put("f", 2), put("f", 3), of(2)]).1,
            [("/f".to_owned(), 3, Some(3))],
            "a later put stays"
        );
        let both = [("/d".to_owned(), 1, None), ("/d/f".to_owned(), 2, Some(1))];
        assert_eq!(made(&[folder("d"), put("d/f", 1), of(1)]).1, both, "only a put is withdrawn");
        let moved =
            [put("f", 1), put("f", 2), Change::Move { from: path("f"), to: path("g") }, of(2)];
        assert_eq!(
            made(&moved).1,
            [("/g".to_owned(), 4, Some(1))],
            "the content gives way where it is now"
        );
        let (mut known, _) = made(&[put("f", 1), put("f", 2)]);
        known.tree.settle(Lsn { epoch: 1, number: 2 });
        known.apply(&LogEntry {
            version: Lsn { epoch: 1, number: 3 },
            id: ChangeId([9; 16]),
            time_ms: 0,
            change: of(2),
        });
        assert_eq!(
            known.tree.get(&path("f")).map(|entry| entry.version.number),
            Some(2),
            "what is safe is not withdrawn"
        );
    }

    #[test]
    fn a_withdrawal_applies_to_a_tree_without_replaced_entries() {
        let (mut known, _) = made(&[put("f", 1), put("f", 2)]);
        let mut received = Tree::listed(known.tree.iter(), known.tree.last());
        let version = Lsn { epoch: 1, number: 3 };
        let change = Change::Withdraw { of: Lsn { epoch: 1, number: 2 } };
        assert!(
            known.tree.can_withdraw(Lsn { epoch: 1, number: 2 })
                && !received.can_withdraw(Lsn { epoch: 1, number: 2 })
        );
        let effects = known.apply(&LogEntry { version, id: ChangeId([9; 16]), time_ms: 0, change });
        received.restore(version, &effects.restored);
        assert!(
            known.tree.iter().eq(received.iter())
                && known.tree.puts().eq(received.puts())
                && received.last() == version
        );
        assert_eq!(effects.gone.len(), 1);
    }

    #[test]
    fn what_was_applied_is_not_applied_again() {
        let (known, all) = made(&[put("f", 1), put("f", 2)]);
        let mut again = known.clone();
        again.apply(&LogEntry {
            version: Lsn { epoch: 1, number: 1 },
            id: ChangeId([0; 16]),
            time_ms: 0,
            change: put("f", 1),
        });
        assert_eq!(again.tree.iter().count(), all.len());
        assert_eq!(again.tree, known.tree);
    }
}
