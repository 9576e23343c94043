//! A slave's disk: what is on it now, and what would be after a crash.

use std::collections::{BTreeMap, BTreeSet};

use relais_cluster::replica::{Lack, lack_of_entry};
use relais_cluster::{Known, Standing};
use relais_proto::{ChangeId, Digest, Expect, TreePath, Version};

/// Content stands for its bytes: a number that no other content has.
pub type Value = u64;

pub fn digest(value: Value) -> Digest {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&value.to_be_bytes());
    Digest(bytes)
}

/// Something under the id of a change.
#[derive(Debug, Clone)]
pub struct Staged {
    pub value: Value,
    /// Found in the folder: what it was based on.
    pub found: Option<(TreePath, Expect)>,
}

#[derive(Debug, Clone, Default)]
pub struct Image {
    pub standing: Standing,
    pub known: Known,
    pub ends: Vec<Version>,
    pub contents: BTreeMap<Version, Value>,
    /// For a put whose content is lacking: the put whose content is still there in its place.
    pub kept: BTreeMap<Version, Version>,
    pub staged: BTreeMap<ChangeId, Staged>,
    /// What users have put into the folder by hand.
    pub edits: BTreeMap<TreePath, Value>,
    pub aside: Vec<(TreePath, Value)>,
}

impl Image {
    /// Contents of the tree that are not here.
    pub fn lacks(&self) -> Vec<Lack> {
        let all = self.known.tree.iter().filter_map(|(path, entry)| lack_of_entry(path, entry));
        all.filter(|lack| !self.contents.contains_key(&lack.put)).collect()
    }

    /// Frees what nothing refers to any more.
    pub fn free(&mut self) {
        let (tree, contents) = (&self.known.tree, &mut self.contents);
        self.kept.retain(|new, _| tree.path_of(*new).is_some() && !contents.contains_key(new));
        let kept: BTreeSet<Version> = self.kept.values().copied().collect();
        contents.retain(|put, _| tree.path_of(*put).is_some() || kept.contains(put));
    }
}

#[derive(Debug, Clone, Default)]
pub struct Disk {
    pub now: Image,
    pub synced: Image,
    pub full: bool,
    /// Whether paths are refused that content is to come to.
    pub refusing: bool,
    /// The contents whose paths are.
    pub refused: BTreeSet<Version>,
}

impl Disk {
    pub fn sync(&mut self) {
        self.synced = self.now.clone();
    }

    /// What was not synced is there or not.
    pub fn crash(&mut self, written: bool) {
        if written {
            self.synced = self.now.clone();
        } else {
            self.now = self.synced.clone();
        }
    }
}
