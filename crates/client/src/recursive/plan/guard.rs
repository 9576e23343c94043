//! What a plan must never touch. Pure.

use std::collections::{HashMap, HashSet};

use relais_proto::TreePath;

use crate::recursive::node::{Kept, Listing, Odd, is_covered};

/// The names that are left alone, on both sides.
pub struct Guard<'a> {
    /// The target's, by path.
    at: HashMap<&'a TreePath, Odd>,
    /// Folders of the target that hold such a name at some depth, and one of those names.
    holding: HashMap<TreePath, &'a Kept>,
    /// The source's: what has one of these paths in the target, or lies below, may be what was not looked at there.
    skipped: HashSet<&'a TreePath>,
}

impl<'a> Guard<'a> {
    /// The guard of a plan.
    pub fn new(source: &'a Listing, target: &'a Listing) -> Self {
        let mut holding = HashMap::new();
        for kept in &target.kept {
            let mut folder = kept.folder.clone();
            // A folder that is known already has its parents in as well.
            while !folder.is_root() && holding.insert(folder.clone(), kept).is_none() {
                folder = folder.split_last().map(|(parent, _)| parent).unwrap_or_default();
            }
        }
        Self {
            at: target
                .kept
                .iter()
                .filter_map(|kept| Some((kept.path.as_ref()?, kept.odd)))
                .collect(),
            holding,
            skipped: source.kept.iter().filter_map(|kept| kept.path.as_ref()).collect(),
        }
    }

    /// What the target has at this path that is left alone.
    pub fn at(&self, path: &TreePath) -> Option<Odd> {
        self.at.get(path).copied()
    }

    /// What keeps this folder of the target from being removed.
    pub fn holds(&self, folder: &TreePath) -> Option<String> {
        self.holding.get(folder).map(|kept| match kept.name.as_str() {
            "" => kept.odd.to_string(),
            _ => format!("{}, {}", kept.shown(), kept.odd),
        })
    }

    /// Whether the source has something at this path, or at one above it, that was skipped.
    pub fn is_skipped(&self, path: &TreePath) -> bool {
        is_covered(&self.skipped, path)
    }
}
