//! Execution of a plan.
//!
//! A failed name is reported and does not stop the others. No further step begins after an
//! interruption or without a server.

mod fetch;
mod make;
mod names;
mod remove;
mod store;

use std::collections::HashSet;

use relais_proto::{ErrorCode, TreePath};
use relais_tree::TreeError;

use super::batch_progress::BatchProgress;
use super::batch_report::BatchReport;
use super::conversation::{ChangeIds, under};
use super::local_tree::{LocalTree, failure};
use super::node::{Node, TreeListing, is_covered};
use super::plan::Plan;
use crate::shell::Shell;
use crate::{Failure, Result};

/// Size in bytes above which a file has its own entry in the `.log`.
const MIN_LOGGED_SIZE: u64 = 4 * 1024 * 1024;

/// The direction of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The server is the source: files are fetched.
    Down,
    /// The local side is the source: files are sent.
    Up,
}

/// Executes one plan.
pub struct PlanRunner<'a> {
    shell: &'a mut Shell,
    /// Local side.
    tree: &'a mut LocalTree,
    /// Remote side.
    base: &'a TreePath,
    direction: Direction,
    report: &'a mut BatchReport,
    progress: BatchProgress,
    ids: ChangeIds,
    /// Folders that could not be made; nothing below them is tried.
    blocked_folders: HashSet<TreePath>,
}

impl<'a> PlanRunner<'a> {
    /// Prepares a run between `tree` and the remote folder `base`.
    ///
    /// The last argument is the number of files and bytes, for the progress bar.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn new(
        shell: &'a mut Shell,
        tree: &'a mut LocalTree,
        base: &'a TreePath,
        direction: Direction,
        report: &'a mut BatchReport,
        (files, bytes): (u64, u64),
    ) -> Result<Self> {
        let progress = BatchProgress::new(&shell.notices, files, bytes);
        Ok(Self {
            shell,
            tree,
            base,
            direction,
            report,
            progress,
            ids: ChangeIds::new()?,
            blocked_folders: HashSet::new(),
        })
    }

    /// Makes folders and transfers files: the first steps of a plan.
    pub fn add(&mut self, source: &TreeListing, make: &[usize], send: &[usize]) {
        self.make(&source.nodes, make);
        if !self.report.is_over() {
            self.send(&source.nodes, &by_folder(&source.nodes, send));
        }
    }

    /// Removes nodes, then transfers what waited for that; returns the number of removed names.
    pub fn replace(&mut self, source: &TreeListing, target: &TreeListing, plan: &Plan) -> u64 {
        let deleted = self.remove(&target.nodes, &plan.delete);
        if !self.report.is_over() {
            self.add(source, &plan.late_make, &plan.late_send);
        }
        deleted
    }

    fn make(&mut self, nodes: &[Node], picks: &[usize]) {
        match self.direction {
            Direction::Down => self.make_local(nodes, picks),
            Direction::Up => self.make_remote(nodes, picks),
        }
    }

    /// Transfers files.
    pub fn send(&mut self, nodes: &[Node], picks: &[usize]) {
        match self.direction {
            Direction::Down => self.fetch(nodes, picks),
            Direction::Up => self.store(nodes, picks),
        }
    }

    fn remove(&mut self, nodes: &[Node], picks: &[usize]) -> u64 {
        match self.direction {
            Direction::Down => self.remove_local(nodes, picks),
            Direction::Up => self.remove_remote(nodes, picks),
        }
    }

    /// Returns the nodes that are not below a folder that could not be made.
    fn open_picks(&self, nodes: &[Node], picks: &[usize]) -> Vec<usize> {
        picks
            .iter()
            .copied()
            .filter(|at| !is_covered(&self.blocked_folders, &nodes[*at].path))
            .collect()
    }

    /// Reports the failure of a name.
    fn fail(&mut self, path: &TreePath, failure: Failure) {
        let remote = self.remote_name(path);
        self.report.fail(&mut self.shell.output, remote, failure);
    }

    fn fail_local(&mut self, path: &TreePath, error: &TreeError) {
        let failure = failure(&self.tree.shown(path), error);
        self.fail(path, failure);
    }

    /// Reports the failure of all remaining names.
    fn fail_remaining(&mut self, failure: Failure) {
        let failure = match failure.code {
            ErrorCode::Unreachable | ErrorCode::NoSlave | ErrorCode::Busy | ErrorCode::Behind => {
                failure!(Cut, "{failure}; run the same command again to resume")
            }
            _ => failure,
        };
        self.fail(&TreePath::root(), failure);
    }

    fn is_interrupted(&mut self) -> bool {
        let raised = self.shell.interrupt.is_raised();
        if raised && !self.report.is_over() {
            self.fail_remaining(Failure::interrupted());
        }
        raised
    }

    fn remote_name(&self, path: &TreePath) -> String {
        remote_name(self.base, path)
    }
}

/// Returns the full remote path, even if it is too long for a request.
pub fn remote_name(base: &TreePath, path: &TreePath) -> String {
    under(base, path).map_or_else(|_| format!("{base}{path}"), |whole| whole.to_string())
}

/// Adds the remote path to a failure, unless the message contains it.
fn about(remote: &str, failure: Failure) -> Failure {
    if failure.message.contains(remote) || failure.code == ErrorCode::Interrupted {
        failure
    } else {
        failure.of(remote)
    }
}

/// Groups files by folder, so that each folder is opened once.
fn by_folder(nodes: &[Node], picks: &[usize]) -> Vec<usize> {
    let folder =
        |at: &usize| nodes[*at].path.as_str().rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut picks = picks.to_vec();
    picks.sort_by(|a, b| folder(a).cmp(folder(b)));
    picks
}

/// Returns the number of these files and their total size.
pub fn amount<'p>(nodes: &[Node], picks: impl Iterator<Item = &'p usize>) -> (u64, u64) {
    picks.fold((0, 0), |(files, bytes), at| (files + 1, nodes[*at].size.saturating_add(bytes)))
}

impl PlanRunner<'_> {
    /// Whether a transfer failed.
    pub fn has_failed(&self) -> bool {
        self.report.has_failed()
    }

    /// Whether no further step can succeed.
    pub fn is_over(&self) -> bool {
        self.report.is_over()
    }

    /// Prints a notice.
    pub fn say(&self, text: &str) {
        self.shell.notices.say(text);
    }

    /// Reports that an entry of another kind blocks a name.
    pub fn report_conflict(&mut self, path: &TreePath) {
        let name = self.remote_name(path);
        self.fail(
            path,
            failure!(Local, "{name}: an entry of another kind has that name, and was not removed"),
        );
    }
}
