//! The names that a plan must not touch. Pure functions.

use std::collections::{HashMap, HashSet};

use relais_proto::TreePath;

use crate::recursive::node::{SkipReason, SkippedName, TreeListing, parent};

/// The skipped names of both sides.
pub struct ProtectedNames<'a> {
    /// Skipped names of the target, by path.
    pub at: HashMap<TreePath, SkipReason>,
    /// Target folders that contain a skipped name at any depth, each with one such name.
    holding: HashMap<TreePath, &'a SkippedName>,
    /// Skipped paths of the source.
    ///
    /// A target node at or below such a path may exist in the source too, where nothing was listed.
    pub source_skipped: HashSet<TreePath>,
}

impl<'a> ProtectedNames<'a> {
    /// Collects the names from both listings.
    pub fn new(source: &'a TreeListing, target: &'a TreeListing) -> Self {
        let mut holding = HashMap::new();
        for skipped in &target.skipped {
            let mut folder = skipped.folder.clone();
            // The parents of a known folder are known too.
            while !folder.is_root() && holding.insert(folder.clone(), skipped).is_none() {
                folder = parent(&folder);
            }
        }
        let reason_at = |skipped: &SkippedName| Some((skipped.path()?, skipped.reason));
        Self {
            at: target.skipped.iter().filter_map(reason_at).collect(),
            holding,
            source_skipped: source.skipped.iter().filter_map(SkippedName::path).collect(),
        }
    }

    /// Describes the content that prevents the removal of a target folder.
    pub fn holds(&self, folder: &TreePath) -> Option<String> {
        self.holding.get(folder).map(|skipped| match skipped.name.as_str() {
            "" => skipped.reason.to_string(),
            _ => format!("{}, {}", skipped.shown(), skipped.reason),
        })
    }
}
