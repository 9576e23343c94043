//! Execution of a plan.

use std::collections::HashSet;

use relais_proto::TreePath;

use super::batch::{Batch, Direction};
use super::changes::{make_local, make_remote, remove_local, remove_remote};
use super::fetch::fetch;
use super::node::{Node, TreeListing, is_covered, remote_name};
use super::plan::Plan;
use super::store::store;
use crate::shell::Shell;

impl Batch<'_> {
    /// Makes folders and transfers files: the first steps of a plan.
    pub fn add(&mut self, shell: &mut Shell, source: &[Node], make: &[usize], send: &[usize]) {
        match self.direction {
            Direction::Down => make_local(self, shell, source, make),
            Direction::Up => make_remote(self, shell, source, make),
        }
        if !self.report.is_over() {
            self.send(shell, source, &by_folder(source, send));
        }
    }

    /// Transfers files.
    pub fn send(&mut self, shell: &mut Shell, nodes: &[Node], picks: &[usize]) {
        match self.direction {
            Direction::Down => fetch(self, shell, nodes, picks),
            Direction::Up => store(self, shell, nodes, picks),
        }
    }

    /// Executes a plan and returns the number of removed names.
    ///
    /// Removals, and what waits for them, need a first part without failures.
    pub fn run(
        &mut self,
        shell: &mut Shell,
        source: &TreeListing,
        target: &TreeListing,
        plan: &Plan,
    ) -> u64 {
        self.add(shell, &source.nodes, &plan.make, &plan.send);
        if plan.delete.is_empty() || self.report.is_over() {
            return 0;
        }
        if self.report.has_failed() {
            self.report_late(shell, &source.nodes, plan);
            return 0;
        }
        let deleted = match self.direction {
            Direction::Down => remove_local(self, shell, &target.nodes, &plan.delete),
            Direction::Up => remove_remote(self, shell, &target.nodes, &plan.delete),
        };
        if !self.report.is_over() {
            self.add(shell, &source.nodes, &plan.late_make, &plan.late_send);
        }
        deleted
    }

    /// Reports names that wait for removals, because nothing is removed. Names below such a folder
    /// are not reported.
    fn report_late(&mut self, shell: &mut Shell, source: &[Node], plan: &Plan) {
        shell.notices.say("nothing is removed: some transfers failed");
        let folders: HashSet<&TreePath> =
            plan.late_make.iter().map(|at| &source[*at].path).collect();
        for at in plan.late_make.iter().chain(&plan.late_send) {
            let path = &source[*at].path;
            let above = path.split_last().map(|(parent, _)| parent).unwrap_or_default();
            if !is_covered(&folders, &above) {
                let name = remote_name(self.base, path);
                let failure = failure!(
                    Local,
                    "{name}: an entry of another kind has that name, and was not removed"
                );
                self.fail(&mut shell.output, path, failure);
            }
        }
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
