//! A copy between a listed source and a listed target: its plan is reported, then executed.

use relais_proto::TreePath;

use super::batch::{Batch, Direction};
use super::batch_report::BatchReport;
use super::local_tree::LocalTree;
use super::node::{SkipReason, TreeListing, remote_name};
use super::plan::Plan;
use super::run::amount;
use crate::Result;
use crate::shell::Shell;

/// Reports the names of the source that are not transferred.
///
/// They could not be listed, this side cannot store them, or another entry blocks them. `local` is
/// the local folder.
pub fn report_plan(
    shell: &mut Shell,
    report: &mut BatchReport,
    base: &TreePath,
    local: &str,
    direction: Direction,
    source: &TreeListing,
    plan: &Plan,
) {
    if direction == Direction::Up {
        report.skip(&shell.notices, local, &source.skipped);
    } else {
        let is_invalid = |reason| matches!(reason, SkipReason::Reserved | SkipReason::Name);
        for skipped in source.skipped.iter().filter(|skipped| is_invalid(skipped.reason)) {
            let top = if base.is_root() { String::new() } else { base.to_string() };
            let name = format!("{top}/{}", skipped.shown());
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
/// # Errors
/// The system gives no random bytes. Failures of single names are in the report.
pub fn execute(
    shell: &mut Shell,
    report: &mut BatchReport,
    (tree, base): (&mut LocalTree, &TreePath),
    direction: Direction,
    (source, target): (&TreeListing, &TreeListing),
    plan: &Plan,
) -> Result<u64> {
    let amount = amount(&source.nodes, plan.send.iter().chain(&plan.late_send));
    let mut batch = Batch::new(&shell.notices, tree, base, direction, report, amount)?;
    Ok(batch.run(shell, source, target, plan))
}
