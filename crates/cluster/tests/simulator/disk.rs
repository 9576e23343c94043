//! Disk of a slave: its current state, and the state after a crash.

use std::collections::{BTreeMap, BTreeSet};

use relais_cluster::replica::{MissingContent, lack_of_entry};
use relais_cluster::{ReplicaPosition, Tree, TreeState};
use relais_proto::{ChangeId, Digest, Expect, Lsn, Timeline, TreePath};

/// A number that stands for the bytes of a content; no other content has it.
pub type Value = u64;

pub fn digest(value: Value) -> Digest {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&value.to_be_bytes());
    Digest(bytes)
}

/// A staged file with the id of its change.
#[derive(Debug, Clone)]
pub struct Staged {
    pub value: Value,
    /// For a local change: the entry that it is based on.
    pub found: Option<(TreePath, Expect)>,
}

#[derive(Debug, Clone, Default)]
pub struct Image {
    pub position: ReplicaPosition,
    pub known: TreeState,
    pub timelines: Vec<Timeline>,
    pub contents: BTreeMap<Lsn, Value>,
    /// For a put with missing content: the put whose content is still at the path.
    pub kept: BTreeMap<Lsn, Lsn>,
    pub staged: BTreeMap<ChangeId, Staged>,
    /// Contents that mounts hide, with the paths of their files.
    pub hidden: BTreeMap<Lsn, (TreePath, Value)>,
    /// Local changes of users in the folder.
    pub edits: BTreeMap<TreePath, Value>,
    pub aside: Vec<(TreePath, Value)>,
}

impl Image {
    /// Keeps the contents of the adopted tree that were here before, by their digests.
    ///
    /// Of other contents it keeps only those of the shared history. `own` is the tree before.
    pub fn take_over_contents(&mut self, own: &Tree, fork: Lsn) {
        let old = std::mem::take(&mut self.contents);
        for (path, entry) in self.known.tree.iter() {
            let Some(content) = entry.content else { continue };
            let here = own.get(&path).and_then(|entry| entry.content).map(|content| content.put);
            let value = [Some(content.put), here]
                .into_iter()
                .flatten()
                .filter_map(|put| old.get(&put))
                .find(|value| digest(**value) == content.digest);
            self.contents.extend(value.map(|value| (content.put, *value)));
        }
        let hidden = std::mem::take(&mut self.hidden);
        for (path, entry) in self.known.tree.iter() {
            let Some(content) = entry.content else { continue };
            let here = own.get(&path).and_then(|entry| entry.content).map(|content| content.put);
            let found = [Some(content.put), here]
                .into_iter()
                .flatten()
                .filter_map(|put| hidden.get(&put))
                .find(|(_, value)| digest(*value) == content.digest);
            if let Some(found) = found.filter(|_| !self.contents.contains_key(&content.put)) {
                self.hidden.insert(content.put, found.clone());
            }
        }
        let tree = &self.known.tree;
        self.kept.retain(|_, kept| *kept <= fork && tree.path_of(*kept).is_none());
        let kept = self.kept.values().filter_map(|kept| Some((*kept, *old.get(kept)?)));
        self.contents.extend(kept);
        let kept = self.kept.values().filter_map(|kept| Some((*kept, hidden.get(kept)?.clone())));
        self.hidden.extend(kept);
    }

    /// The content of a put, on this disk and perhaps hidden.
    pub fn value(&self, put: Lsn) -> Option<Value> {
        let hidden = self.hidden.get(&put).map(|(_, value)| value);
        self.contents.get(&put).or(hidden).copied()
    }

    /// Contents of the tree that are not here.
    pub fn missing(&self) -> Vec<MissingContent> {
        let all = self.known.tree.iter().filter_map(|(path, entry)| lack_of_entry(&path, &entry));
        all.filter(|lack| !self.contents.contains_key(&lack.put)).collect()
    }

    /// Drops everything that is no longer referenced.
    pub fn free(&mut self) {
        let (tree, contents) = (&self.known.tree, &mut self.contents);
        self.kept.retain(|new, _| tree.path_of(*new).is_some() && !contents.contains_key(new));
        let kept: BTreeSet<Lsn> = self.kept.values().copied().collect();
        contents.retain(|put, _| tree.path_of(*put).is_some() || kept.contains(put));
        self.hidden.retain(|put, _| tree.path_of(*put).is_some() || kept.contains(put));
    }
}

#[derive(Debug, Clone, Default)]
pub struct Disk {
    pub now: Image,
    pub synced: Image,
    pub full: bool,
    /// Whether the disk refuses some paths for new content.
    pub refusing: bool,
    /// The contents at these paths.
    pub refused: BTreeSet<Lsn>,
    /// Folders with something mounted over them.
    pub mounts: BTreeSet<TreePath>,
    /// Contents that a mount keeps from their paths.
    pub blocked: BTreeSet<Lsn>,
}

impl Disk {
    pub fn sync(&mut self) {
        self.synced = self.now.clone();
    }

    /// Unsynced data is kept or lost at random.
    pub fn crash(&mut self, written: bool) {
        if written {
            self.synced = self.now.clone();
        } else {
            self.now = self.synced.clone();
        }
    }
}
