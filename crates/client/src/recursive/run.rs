//! A recursive transfer between two listed sides: its plan is reported, then executed.

use std::collections::HashSet;
use std::path::PathBuf;

use relais_proto::TreePath;

use super::batch::{Batch, Direction};
use super::batch_report::BatchReport;
use super::changes::NameChange;
use super::local_tree::LocalTree;
use super::node::{Node, SkipReason, TreeListing, is_covered, parent, remote_name};
use super::plan::{Additions, Plan};
use crate::Result;
use crate::shell::Shell;

/// The two sides of a transfer.
pub struct Sides {
    pub direction: Direction,
    /// Remote folder.
    pub base: TreePath,
    /// Local folder, for messages.
    pub path: PathBuf,
    pub source: TreeListing,
    pub target: TreeListing,
}

impl Sides {
    /// Reports the names of the source that are not transferred.
    ///
    /// They could not be listed, this side cannot store them, or another entry blocks them.
    pub fn report(&self, shell: &mut Shell, report: &mut BatchReport, plan: &Plan) {
        let Self { base, source, .. } = self;
        if self.direction == Direction::Up {
            report.skip(&shell.notices, &self.path, &source.skipped);
        } else {
            let is_invalid = |reason| matches!(reason, SkipReason::Reserved | SkipReason::Name);
            for skipped in source.skipped.iter().filter(|skipped| is_invalid(skipped.reason)) {
                let top = PathBuf::from(base.to_string());
                let name = top.join(skipped.shown()).display().to_string();
                let failure = failure!(Local, "{name} is not fetched: it is {}", skipped.reason);
                report.fail(&mut shell.output, name, failure);
            }
        }
        report.exclude_refused();
        report.fail_unlisted(&mut shell.output, base, source);
        for blocked in &plan.blocked {
            let name = remote_name(base, &source.nodes[blocked.node].path);
            let below = match blocked.below {
                0 => String::new(),
                names => format!("; {names} names below it are skipped"),
            };
            let failure = failure!(Local, "{name}: {}{below}", blocked.by);
            report.fail(&mut shell.output, name, failure);
        }
    }

    /// Executes a plan and returns the number of removed names.
    ///
    /// Removals, and what waits for them, need a first part without failures.
    ///
    /// # Errors
    /// The system gives no random bytes. Failures of single names are in the report.
    pub fn execute(
        &self,
        shell: &mut Shell,
        report: &mut BatchReport,
        tree: &mut LocalTree,
        plan: &Plan,
    ) -> Result<u64> {
        let source = &self.source.nodes;
        let amount = plan.amount(source);
        let mut batch =
            Batch::new(&shell.notices, tree, &self.base, self.direction, report, amount)?;
        batch.add(shell, source, &plan.first);
        if plan.delete.is_empty() || batch.report.is_over() {
            return Ok(0);
        }
        if batch.report.has_failed() {
            batch.report_late(shell, source, &plan.late);
            return Ok(0);
        }
        let deleted =
            batch.change_names(shell, &self.target.nodes, &plan.delete, NameChange::Remove);
        if !batch.report.is_over() {
            batch.add(shell, source, &plan.late);
        }
        Ok(deleted)
    }
}

impl Batch<'_> {
    /// Makes folders and transfers files.
    fn add(&mut self, shell: &mut Shell, source: &[Node], Additions { make, send }: &Additions) {
        let made = self.change_names(shell, source, make, NameChange::MakeFolder);
        self.report.summary.folders += made;
        if !self.report.is_over() {
            self.transfer(shell, source, &by_folder(source, send));
        }
    }

    /// Reports names that wait for removals, because nothing is removed. Names below such a folder
    /// are not reported.
    fn report_late(&mut self, shell: &mut Shell, source: &[Node], late: &Additions) {
        shell.notices.say("nothing is removed: some transfers failed");
        let folders: HashSet<TreePath> =
            late.make.iter().map(|at| source[*at].path.clone()).collect();
        for at in late.make.iter().chain(&late.send) {
            let path = &source[*at].path;
            if !is_covered(&folders, &parent(path)) {
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
