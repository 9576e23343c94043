//! Carrying out a plan. Each name that fails is told, and the others go on; nothing more is begun
//! once no server answers or the user interrupted.

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
use crate::Failure;
use crate::shell::Shell;

/// Larger files have lines of their own in the `.log`.
const MIN_LOGGED_SIZE: u64 = 4 * 1024 * 1024;

/// Which side is the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The server's: files are fetched.
    Down,
    /// The local one: files are sent.
    Up,
}

/// Carries out one plan.
pub struct PlanRunner<'a> {
    shell: &'a mut Shell,
    /// The local side.
    tree: &'a mut LocalTree,
    /// The remote side.
    base: &'a TreePath,
    direction: Direction,
    report: &'a mut BatchReport,
    progress: BatchProgress,
    ids: ChangeIds,
    /// Folders that could not be made: nothing below them is tried.
    barred: HashSet<TreePath>,
}

impl<'a> PlanRunner<'a> {
    /// Between `tree` and the remote folder `base`, for so many files and bytes.
    ///
    /// # Errors
    /// That the system gives no random bytes.
    pub fn new(
        shell: &'a mut Shell,
        tree: &'a mut LocalTree,
        base: &'a TreePath,
        direction: Direction,
        report: &'a mut BatchReport,
        (files, bytes): (u64, u64),
    ) -> Result<Self, Failure> {
        let progress = BatchProgress::new(&shell.notices, files, bytes);
        Ok(Self {
            shell,
            tree,
            base,
            direction,
            report,
            progress,
            ids: ChangeIds::new()?,
            barred: HashSet::new(),
        })
    }

    /// Makes folders and transfers files: what a plan does first.
    pub fn add(&mut self, source: &TreeListing, make: &[usize], send: &[usize]) {
        self.make(&source.nodes, make);
        if !self.report.is_over() {
            self.send(&source.nodes, &by_folder(&source.nodes, send));
        }
    }

    /// What a plan does last: removes, and transfers what had to wait for that. The result is how many names went.
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

    /// Files whose folder could be made.
    fn open_picks(&self, nodes: &[Node], picks: &[usize]) -> Vec<usize> {
        picks.iter().copied().filter(|at| !is_covered(&self.barred, &nodes[*at].path)).collect()
    }

    /// A name failed.
    fn fail(&mut self, path: &TreePath, failure: Failure) {
        let remote = self.remote_name(path);
        self.report.fail(&mut self.shell.output, remote, failure);
    }

    fn fail_local(&mut self, path: &TreePath, error: &TreeError) {
        let failure = failure(&self.tree.shown(path), error);
        self.fail(path, failure);
    }

    /// All that is left failed.
    fn give_up(&mut self, failure: Failure) {
        let failure = match failure.code {
            ErrorCode::Unreachable | ErrorCode::NoSlave | ErrorCode::Busy | ErrorCode::Behind => {
                Failure::new(
                    ErrorCode::Cut,
                    format!("{failure}; run the same command again to resume"),
                )
            }
            _ => failure,
        };
        self.fail(&TreePath::root(), failure);
    }

    fn is_interrupted(&mut self) -> bool {
        let raised = self.shell.interrupt.is_raised();
        if raised && !self.report.is_over() {
            self.give_up(Failure::interrupted());
        }
        raised
    }

    fn remote_name(&self, path: &TreePath) -> String {
        remote_name(self.base, path)
    }
}

/// The remote path for people and scripts; also of one that is too long to be asked for.
pub fn remote_name(base: &TreePath, path: &TreePath) -> String {
    under(base, path).map_or_else(|_| format!("{base}{path}"), |whole| whole.to_string())
}

/// A failure about a remote path, with the path in front where it does not say it.
fn about(remote: &str, failure: Failure) -> Failure {
    if failure.message.contains(remote) || failure.code == ErrorCode::Interrupted {
        failure
    } else {
        failure.of(remote)
    }
}

/// The files of each folder next to each other, so that it is opened once.
fn by_folder(nodes: &[Node], picks: &[usize]) -> Vec<usize> {
    let folder =
        |at: &usize| nodes[*at].path.as_str().rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut picks = picks.to_vec();
    picks.sort_by(|a, b| folder(a).cmp(folder(b)));
    picks
}

/// How many files these are, and their bytes.
#[must_use]
pub fn amount<'p>(nodes: &[Node], picks: impl Iterator<Item = &'p usize>) -> (u64, u64) {
    picks.fold((0, 0), |(files, bytes), at| (files + 1, nodes[*at].size.saturating_add(bytes)))
}

impl PlanRunner<'_> {
    /// Whether something failed that should have been transferred.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.report.has_failed()
    }

    /// Whether nothing more can be done.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.report.is_over()
    }

    /// A line for the user.
    pub fn say(&self, text: &str) {
        self.shell.notices.say(text);
    }

    /// Something of another kind keeps a name, and was not removed.
    pub fn report_conflict(&mut self, path: &TreePath) {
        let name = self.remote_name(path);
        self.fail(
            path,
            Failure::new(
                ErrorCode::Local,
                format!("{name}: an entry of another kind has that name, and was not removed"),
            ),
        );
    }
}
