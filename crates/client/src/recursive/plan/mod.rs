//! The plan that makes one subtree equal to another. Pure: two listings in, a plan out.
//!
//! A plan removes only names of the target's listing. It never removes a link, a skipped name, a
//! reserved file, or a folder that contains one of these. A node that blocks another kind is
//! removed with the others, before its replacement is transferred.

mod protected;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;

use relais_proto::{Kind, TreePath};

use super::node::{Node, SkipReason, TreeListing, order, same_time};
use protected::ProtectedNames;

/// When a target file counts as equal to the source file.
#[derive(Debug, Clone, Copy)]
pub enum Compare<'a> {
    /// Never: all files are transferred.
    Never,
    /// If size and time are equal.
    Time,
    /// If the sizes are equal and the set contains the path: its digests are equal.
    Digests(&'a HashSet<TreePath>),
}

/// The options of a plan.
#[derive(Debug, Clone, Copy)]
pub struct PlanOptions<'a> {
    /// When a file is left unchanged.
    pub compare: Compare<'a>,
    /// Whether the plan removes names that only the target has, and blocking nodes.
    ///
    /// Removal requires a complete listing of the source.
    pub delete: bool,
    /// Whether a file may replace a link of the target. The link's own target is never touched.
    pub over_links: bool,
}

/// The reason why a node is blocked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conflict {
    /// An entry of another kind has the name and would have to be removed.
    OtherKind(Kind),
    /// A name that is never removed has the path.
    Skipped(SkipReason),
    /// A folder has the name and contains something that is never removed.
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
    /// Index of the source node.
    pub node: usize,
    pub by: Conflict,
    /// Number of nodes below it, which are skipped with it.
    pub below: u64,
}

/// The steps of a plan. Numbers are indices into the listings' nodes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Source folders to make, parents first.
    pub make: Vec<usize>,
    /// Source files to transfer.
    pub send: Vec<usize>,
    /// Target nodes to remove after the steps above, deepest first.
    pub delete: Vec<usize>,
    /// As `make`, after the removals.
    pub late_make: Vec<usize>,
    /// As `send`, after the removals.
    pub late_send: Vec<usize>,
    /// Number of folders that both sides have.
    pub present: u64,
    /// Source nodes that cannot be transferred.
    pub blocked: Vec<BlockedNode>,
    /// Target folders that are kept because of their content, and a description of that content.
    pub spared: Vec<(usize, String)>,
}

/// Plans how `target` becomes equal to `source`.
pub fn plan(source: &TreeListing, target: &TreeListing, options: &PlanOptions<'_>) -> Plan {
    let delete = options.delete && source.is_whole();
    let mut planner = Planner {
        source: &source.nodes,
        target: &target.nodes,
        options: PlanOptions { delete, ..*options },
        protected: ProtectedNames::new(source, target),
        plan: Plan::default(),
        blocked_folder: None,
        late: None,
    };
    planner.run();
    planner.plan.delete.reverse();
    planner.plan
}

/// Returns the pairs of files of equal size, whose digests must be compared.
///
/// The numbers are indices into the nodes of source and target.
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

/// The side on which a path was found.
enum MergeStep {
    Source(usize),
    Target(usize),
    Both(usize, usize),
}

/// Walks two sorted lists in parallel.
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
    /// Blocked source folder, while the walk is below it.
    blocked_folder: Option<&'a TreePath>,
    /// Source folder that replaces a file, while the walk is below it.
    late: Option<&'a TreePath>,
}

impl Planner<'_> {
    fn run(&mut self) {
        merge(self.source, self.target, |step| match step {
            MergeStep::Source(i) => self.plan_source_node(i, None),
            MergeStep::Target(j) => self.plan_target_only_node(j),
            MergeStep::Both(i, j) => self.plan_source_node(i, Some(j)),
        });
    }

    /// Handles a source node, with the target node of the same path.
    fn plan_source_node(&mut self, i: usize, there: Option<usize>) {
        let node = &self.source[i];
        if self.blocked_folder.is_some_and(|top| node.path.is_below(top)) {
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

    /// Adds the node to the plan, before or after the removals.
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

    /// Handles a target node of another kind.
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
        self.blocked_folder = Some(&self.source[i].path);
    }

    /// Handles a node that only the target has.
    fn plan_target_only_node(&mut self, j: usize) {
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
