//! What has to be done so that one subtree becomes the other. Pure: two listings in, a plan out.
//!
//! Nothing is planned for removal but what the target's listing names, and never a link, a
//! skipped name, one of our own files, or a folder that holds such. What has to give way to
//! something of another kind is removed with the rest, and only then replaced.

mod protected;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;

use relais_proto::{Kind, TreePath};

use super::node::{Node, SkipReason, TreeListing, order, same_time};
use protected::ProtectedNames;

/// When a file of the target counts as the one of the source.
#[derive(Debug, Clone, Copy)]
pub enum Compare<'a> {
    /// Never: all are transferred.
    Never,
    /// Where size and time are the same.
    Time,
    /// Where the size is the same and the path is among these, whose digests are equal.
    Digests(&'a HashSet<TreePath>),
}

/// What the caller wants.
#[derive(Debug, Clone, Copy)]
pub struct PlanOptions<'a> {
    /// When a file is left as it is.
    pub compare: Compare<'a>,
    /// Whether what only the target has is removed, and what is in the way. Only for a source that was listed whole.
    pub delete: bool,
    /// Whether a link of the target may lose its name to a file. What it leads to is never touched.
    pub over_links: bool,
}

/// What is in the way of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conflict {
    /// A file or folder that would have to be removed.
    OtherKind(Kind),
    /// Something that is never removed.
    Skipped(SkipReason),
    /// A folder that holds something that is never removed.
    Holds(String),
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherKind(Kind::File) => f.write_str("a file has that name"),
            Self::OtherKind(Kind::Folder) => f.write_str("a folder has that name"),
            Self::Skipped(reason) => write!(f, "{reason} has that name"),
            Self::Holds(what) => {
                write!(f, "a folder has that name and cannot be removed: it contains {what}")
            }
        }
    }
}

/// A node that cannot be transferred.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockedNode {
    /// Which of the source's nodes.
    pub node: usize,
    /// Why.
    pub by: Conflict,
    /// How many nodes lie below it and are left out with it.
    pub below: u64,
}

/// What has to be done. Numbers are places in the listings' nodes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Folders of the source to be made, parents first.
    pub make: Vec<usize>,
    /// Files of the source to be transferred.
    pub send: Vec<usize>,
    /// Nodes of the target to be removed when all that is above is done, deepest first.
    pub delete: Vec<usize>,
    /// As `make`, behind the removals.
    pub late_make: Vec<usize>,
    /// As `send`, behind the removals.
    pub late_send: Vec<usize>,
    /// How many folders both sides have.
    pub present: u64,
    /// Nodes of the source that cannot be transferred.
    pub blocked: Vec<BlockedNode>,
    /// Folders of the target that would be removed if they did not hold what is never removed, and what that is.
    pub spared: Vec<(usize, String)>,
}

/// Plans how `target` becomes `source`.
#[must_use]
pub fn plan(source: &TreeListing, target: &TreeListing, options: &PlanOptions<'_>) -> Plan {
    let delete = options.delete && source.is_whole();
    let mut planner = Planner {
        source: &source.nodes,
        target: &target.nodes,
        options: PlanOptions { delete, ..*options },
        protected: ProtectedNames::new(source, target),
        plan: Plan::default(),
        barred: None,
        late: None,
    };
    planner.run();
    planner.plan.delete.reverse();
    planner.plan
}

/// Pairs of files of equal size: the only ones whose digests matter. Places in the nodes of source and target.
#[must_use]
pub fn pairs_of_equal_size(source: &TreeListing, target: &TreeListing) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    merge(&source.nodes, &target.nodes, |step| {
        if let MergeStep::Both(i, j) = step {
            let (a, b) = (&source.nodes[i], &target.nodes[j]);
            if a.kind == Kind::File && b.kind == Kind::File && a.size == b.size {
                pairs.push((i, j));
            }
        }
    });
    pairs
}

/// Where a path was found.
enum MergeStep {
    Source(usize),
    Target(usize),
    Both(usize, usize),
}

/// Goes through two lists in order at the same time.
fn merge(source: &[Node], target: &[Node], mut each: impl FnMut(MergeStep)) {
    let (mut i, mut j) = (0, 0);
    loop {
        let side = match (source.get(i), target.get(j)) {
            (None, None) => return,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => order(&a.path, &b.path),
        };
        each(match side {
            Ordering::Less => MergeStep::Source(i),
            Ordering::Greater => MergeStep::Target(j),
            Ordering::Equal => MergeStep::Both(i, j),
        });
        i += usize::from(side.is_le());
        j += usize::from(side.is_ge());
    }
}

struct Planner<'a> {
    source: &'a [Node],
    target: &'a [Node],
    options: PlanOptions<'a>,
    protected: ProtectedNames<'a>,
    plan: Plan,
    /// The folder of the source that is blocked, while what is below it passes.
    barred: Option<&'a TreePath>,
    /// The folder of the source that takes a file's place, while what is below it passes.
    late: Option<&'a TreePath>,
}

impl Planner<'_> {
    fn run(&mut self) {
        merge(self.source, self.target, |step| match step {
            MergeStep::Source(i) => self.arrives(i, None),
            MergeStep::Target(j) => self.remains(j),
            MergeStep::Both(i, j) => self.arrives(i, Some(j)),
        });
    }

    /// A node of the source, and the target's of the same path.
    fn arrives(&mut self, i: usize, there: Option<usize>) {
        let node = &self.source[i];
        if self.barred.is_some_and(|top| node.path.is_below(top)) {
            if let Some(blocked) = self.plan.blocked.last_mut() {
                blocked.below += 1;
            }
            return;
        }
        if let Some(reason) = self.protected.at(&node.path) {
            let may =
                reason == SkipReason::Link && self.options.over_links && node.kind == Kind::File;
            return if may { self.add(i) } else { self.block(i, Conflict::Skipped(reason)) };
        }
        match there.map(|j| (j, &self.target[j])) {
            None => self.add(i),
            Some((j, old)) if old.kind != node.kind => self.replace(i, j),
            Some(_) if node.is_folder() => self.plan.present += 1,
            Some((_, old)) if !self.is_same(node, old) => self.add(i),
            Some(_) => {}
        }
    }

    fn is_same(&self, new: &Node, old: &Node) -> bool {
        match self.options.compare {
            Compare::Never => false,
            Compare::Time => new.size == old.size && same_time(new.mtime, old.mtime),
            Compare::Digests(equal) => new.size == old.size && equal.contains(&new.path),
        }
    }

    /// The node is made or transferred: now, or where something has to go first, then.
    fn add(&mut self, i: usize) {
        let node = &self.source[i];
        let late = self.late.is_some_and(|top| node.path == *top || node.path.is_below(top));
        let list = match (node.kind, late) {
            (Kind::Folder, false) => &mut self.plan.make,
            (Kind::File, false) => &mut self.plan.send,
            (Kind::Folder, true) => &mut self.plan.late_make,
            (Kind::File, true) => &mut self.plan.late_send,
        };
        list.push(i);
    }

    /// Something of another kind has the name.
    fn replace(&mut self, i: usize, j: usize) {
        let old = &self.target[j];
        if !self.options.delete {
            return self.block(i, Conflict::OtherKind(old.kind));
        }
        if let Some(what) = self.protected.holds(&old.path) {
            return self.block(i, Conflict::Holds(what));
        }
        self.plan.delete.push(j);
        self.late = Some(&self.source[i].path);
        self.add(i);
    }

    fn block(&mut self, i: usize, by: Conflict) {
        self.plan.blocked.push(BlockedNode { node: i, by, below: 0 });
        self.barred = Some(&self.source[i].path);
    }

    /// A node that only the target has.
    fn remains(&mut self, j: usize) {
        let node = &self.target[j];
        if !self.options.delete || self.protected.is_skipped(&node.path) {
            return;
        }
        match self.protected.holds(&node.path) {
            Some(what) => self.plan.spared.push((j, what)),
            None => self.plan.delete.push(j),
        }
    }
}
