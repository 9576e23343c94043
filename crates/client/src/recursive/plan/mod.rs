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

use relais_proto::TreePath;

use super::node::{Node, SkipReason, TreeListing, is_covered, order, same_time};
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

/// A node that cannot be transferred.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockedNode {
    /// Index of the source node.
    pub node: usize,
    /// The reason.
    pub by: String,
    /// Number of nodes below it, which are skipped with it.
    pub below: u64,
}

/// Folders to make and files to transfer; numbers are indices into the source's nodes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Additions {
    /// Folders to make, parents first.
    pub make: Vec<usize>,
    /// Files to transfer.
    pub send: Vec<usize>,
}

/// The steps of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// What the target lacks.
    pub first: Additions,
    /// Indices of target nodes to remove after that, deepest first.
    pub delete: Vec<usize>,
    /// What replaces a removed node.
    pub late: Additions,
    /// Number of folders that both sides have.
    pub present: u64,
    /// Source nodes that cannot be transferred.
    pub blocked: Vec<BlockedNode>,
    /// Indices of target folders that are kept because of their content, and a description of that
    /// content.
    pub spared: Vec<(usize, String)>,
}

impl Plan {
    /// Returns the number of files to transfer and their total size.
    pub fn amount(&self, source: &[Node]) -> (u64, u64) {
        let files = self.first.send.iter().chain(&self.late.send);
        files.fold((0, 0), |(count, bytes), at| (count + 1, source[*at].size.saturating_add(bytes)))
    }
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

/// Returns the source files that have the size of the target's file at their path.
pub fn files_of_equal_size<'a>(source: &'a TreeListing, target: &TreeListing) -> Vec<&'a Node> {
    let mut files = Vec::new();
    merge(&source.nodes, &target.nodes, |i, j| {
        if let (Some(i), Some(j)) = (i, j) {
            let (a, b) = (&source.nodes[i], &target.nodes[j]);
            if !a.is_folder() && !b.is_folder() && a.size == b.size {
                files.push(a);
            }
        }
    });
    files
}

/// Walks two sorted lists in parallel, with the indices of each path.
fn merge(source: &[Node], target: &[Node], mut each: impl FnMut(Option<usize>, Option<usize>)) {
    let (mut i, mut j) = (0, 0);
    loop {
        let side = match (source.get(i), target.get(j)) {
            (None, None) => return,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => order(&a.path, &b.path),
        };
        each(side.is_le().then_some(i), side.is_ge().then_some(j));
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
        merge(self.source, self.target, |i, j| match (i, j) {
            (Some(i), there) => self.plan_source_node(i, there),
            (None, Some(j)) => self.plan_target_only_node(j),
            (None, None) => {}
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
        if let Some(&reason) = self.protected.at.get(&node.path) {
            let may = reason == SkipReason::Link && self.options.over_links && !node.is_folder();
            return if may {
                self.add(i)
            } else {
                self.block(i, format!("{reason} has that name"))
            };
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
        let additions = if late { &mut self.plan.late } else { &mut self.plan.first };
        if node.is_folder() { additions.make.push(i) } else { additions.send.push(i) }
    }

    /// Handles a target node of another kind.
    fn replace(&mut self, i: usize, j: usize) {
        let old = &self.target[j];
        if !self.options.delete {
            let kind = if old.is_folder() { "folder" } else { "file" };
            return self.block(i, format!("a {kind} has that name"));
        }
        if let Some(what) = self.protected.holds(&old.path) {
            let why = "a folder has that name and cannot be removed: it contains";
            return self.block(i, format!("{why} {what}"));
        }
        self.plan.delete.push(j);
        self.late = Some(&self.source[i].path);
        self.add(i);
    }

    fn block(&mut self, i: usize, by: String) {
        self.plan.blocked.push(BlockedNode { node: i, by, below: 0 });
        self.blocked_folder = Some(&self.source[i].path);
    }

    /// Handles a node that only the target has.
    fn plan_target_only_node(&mut self, j: usize) {
        let node = &self.target[j];
        if !self.options.delete || is_covered(&self.protected.source_skipped, &node.path) {
            return;
        }
        match self.protected.holds(&node.path) {
            Some(what) => self.plan.spared.push((j, what)),
            None => self.plan.delete.push(j),
        }
    }
}
