//! Transfers between a local and a remote folder: what all steps share.
//!
//! A failed name is reported and does not stop the others. No further step begins after an
//! interruption or without a server.

use std::collections::HashSet;
use std::slice::Iter;

use relais_proto::{ErrorCode, TreePath};
use relais_tree::TreeError;

use super::batch_report::BatchReport;
use super::conversation::ChangeIds;
use super::local_tree::LocalTree;
use super::node::{Node, is_covered, remote_name, under};
use crate::local_file::tree_failure;
use crate::notices::Notices;
use crate::output::Output;
use crate::progress_bar::TransferBar;
use crate::shell::Shell;
use crate::{Failure, Result};

/// The direction of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The server is the source: files are fetched.
    Down,
    /// The local side is the source: files are sent.
    Up,
}

/// Transfers in one direction.
pub struct Batch<'a> {
    /// Local side.
    pub tree: &'a mut LocalTree,
    /// Remote side.
    pub base: &'a TreePath,
    pub direction: Direction,
    pub report: &'a mut BatchReport,
    pub bar: TransferBar,
    pub ids: ChangeIds,
    /// Folders that could not be made; nothing below them is tried.
    pub blocked_folders: HashSet<TreePath>,
}

impl<'a> Batch<'a> {
    /// Prepares transfers between `tree` and the remote folder `base`.
    ///
    /// The last argument is the number of files and bytes, for the progress bar.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn new(
        notices: &Notices,
        tree: &'a mut LocalTree,
        base: &'a TreePath,
        direction: Direction,
        report: &'a mut BatchReport,
        amount: (u64, u64),
    ) -> Result<Self> {
        let (bar, ids) = (TransferBar::of_files(notices, amount), ChangeIds::new()?);
        Ok(Self { tree, base, direction, report, bar, ids, blocked_folders: HashSet::new() })
    }

    /// Whether no folder above the node failed.
    pub fn is_open(&self, node: &Node) -> bool {
        !is_covered(&self.blocked_folders, &node.path)
    }

    /// Returns the next pick that is open.
    pub fn next_open(&self, nodes: &[Node], picks: &mut Iter<'_, usize>) -> Option<usize> {
        picks.find(|at| self.is_open(&nodes[**at])).copied()
    }

    /// Returns the next pick that is open, with its remote path; invalid paths are reported.
    pub fn next_remote(
        &mut self,
        output: &mut Output,
        nodes: &[Node],
        picks: &mut Iter<'_, usize>,
    ) -> Option<(usize, TreePath)> {
        loop {
            let at = self.next_open(nodes, picks)?;
            let path = &nodes[at].path;
            match under(self.base, path) {
                Ok(remote) => return Some((at, remote)),
                Err(failure) => {
                    self.fail(output, path, failure);
                    self.blocked_folders.insert(path.clone());
                }
            }
        }
    }

    /// Reports the failure of a name.
    pub fn fail(&mut self, output: &mut Output, path: &TreePath, failure: Failure) {
        self.report.fail_about(output, &remote_name(self.base, path), failure);
    }

    /// Reports that a name failed on the local disk.
    pub fn fail_local(&mut self, output: &mut Output, path: &TreePath, error: &TreeError) {
        let failure = tree_failure(&self.tree.shown(path), error);
        self.report.fail(output, remote_name(self.base, path), failure);
    }

    /// Reports the failure of all remaining names.
    pub fn fail_remaining(&mut self, output: &mut Output, failure: Failure) {
        let failure = match failure.code {
            ErrorCode::Unreachable | ErrorCode::NoSlave | ErrorCode::Busy | ErrorCode::Behind => {
                failure!(Cut, "{failure}; run the same command again to resume")
            }
            _ => failure,
        };
        self.report.fail(output, remote_name(self.base, &TreePath::root()), failure);
    }

    /// Whether no further step may begin; an interruption is reported.
    pub fn is_over(&mut self, shell: &mut Shell) -> bool {
        if shell.interrupt.is_raised() && !self.report.is_over() {
            self.fail_remaining(&mut shell.output, Failure::interrupted());
        }
        self.report.is_over()
    }
}
