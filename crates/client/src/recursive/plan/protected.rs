//! What a plan must never touch. Pure.

use std::collections::{HashMap, HashSet};

use relais_proto::TreePath;

use crate::recursive::node::{SkipReason, SkippedName, TreeListing, is_covered};

/// The names that are left alone, on both sides.
pub struct ProtectedNames<'a> {
    /// The target's, by path.
    at: HashMap<&'a TreePath, SkipReason>,
    /// Folders of the target that hold such a name at some depth, and one of those names.
    holding: HashMap<TreePath, &'a SkippedName>,
    /// The source's: what has one of these paths in the target, or lies below, may be what was not looked at there.
    source_skipped: HashSet<&'a TreePath>,
}

impl<'a> ProtectedNames<'a> {
    /// The guard of a plan.
    pub fn new(source: &'a TreeListing, target: &'a TreeListing) -> Self {
        let mut holding = HashMap::new();
        for skipped in &target.skipped {
            let mut folder = skipped.folder.clone();
            // A folder that is known already has its parents in as well.
            while !folder.is_root() && holding.insert(folder.clone(), skipped).is_none() {
                folder = folder.split_last().map(|(parent, _)| parent).unwrap_or_default();
            }
        }
        Self {
            at: target
                .skipped
                .iter()
                .filter_map(|skipped| Some((skipped.path.as_ref()?, skipped.reason)))
                .collect(),
            holding,
            source_skipped: source
                .skipped
                .iter()
                .filter_map(|skipped| skipped.path.as_ref())
                .collect(),
        }
    }

    /// What the target has at this path that is left alone.
    pub fn at(&self, path: &TreePath) -> Option<SkipReason> {
        self.at.get(path).copied()
    }

    /// What keeps this folder of the target from being removed.
    pub fn holds(&self, folder: &TreePath) -> Option<String> {
        self.holding.get(folder).map(|skipped| match skipped.name.as_str() {
            "" => skipped.reason.to_string(),
            _ => format!("{}, {}", skipped.shown(), skipped.reason),
        })
    }

    /// Whether the source has something at this path, or at one above it, that was skipped.
    pub fn is_skipped(&self, path: &TreePath) -> bool {
        is_covered(&self.source_skipped, path)
    }
}
