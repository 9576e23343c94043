//! `mirror`: makes one folder equal to another, locally or on the server.
//!
//! Removal is the last step. It requires that the source was listed completely and that all
//! transfers succeeded. Names that the target's listing did not contain are never removed.

use std::collections::HashSet;
use std::path::PathBuf;

use relais_proto::{ErrorCode, Kind, TreePath};
use relais_tree::{Folder, TreeError};

use super::batch::Direction;
use super::batch_report::BatchReport;
use super::copy::{execute, report_plan};
use super::digests;
use super::local_tree::LocalTree;
use super::node::{TreeListing, remote_name};
use super::plan::{Compare, Plan, PlanOptions, plan};
use super::run::amount;
use super::walk;
use crate::local::openable;
use crate::local_file::{open_folder, tree_failure};
use crate::outcome::{BatchSummary, MirrorStep};
use crate::shell::{Shell, with_path};
use crate::{Failure, Result};

/// The arguments of `mirror`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MirrorOptions {
    /// Source folder.
    pub source: String,
    /// Target folder.
    pub target: String,
    /// Whether the source is local.
    pub up: bool,
    /// Whether names that only the target has are removed.
    pub delete: bool,
    /// Whether the steps are only shown.
    pub dry_run: bool,
    /// Whether files of equal size are compared by digest rather than by time.
    pub checksum: bool,
    /// Whether an empty source may empty the target.
    pub force: bool,
}

/// The two sides with their listings.
struct MirrorSides {
    direction: Direction,
    base: TreePath,
    /// Local side; none if its folder does not exist yet.
    tree: Option<LocalTree>,
    /// Path at which the local folder is made.
    path: PathBuf,
    /// Missing remote folders on the path to the target, including the target.
    missing: Vec<TreePath>,
    source: TreeListing,
    target: TreeListing,
}

/// Makes one folder equal to the other.
///
/// # Errors
/// The whole command fails. Failures of single names are in the result.
pub fn mirror(shell: &mut Shell, options: &MirrorOptions) -> Result<BatchSummary> {
    let mut report = BatchReport::new();
    (report.summary.deleted, report.summary.skipped) = (Some(0), Some(Vec::new()));
    let mut sides = if options.up { sides_up(shell, options) } else { sides_down(shell, options) }?;
    let (sources, targets) = (&sides.source.nodes, sides.target.nodes.len());
    if options.delete
        && !options.force
        && sides.source.is_whole()
        && sources.is_empty()
        && targets > 0
    {
        fail!(
            NotEmpty,
            "{} is empty, so all {targets} names in {} would be removed; --force removes them",
            options.source,
            options.target
        );
    }
    let mut equal = HashSet::new();
    if let Some(tree) = sides.tree.as_mut().filter(|_| options.checksum) {
        let (there, here) = match sides.direction {
            Direction::Up => (&sides.target, &sides.source),
            Direction::Down => (&sides.source, &sides.target),
        };
        equal = digests::equal(shell, tree, &sides.base, there, here)?;
    }
    let compare = if options.checksum { Compare::Digests(&equal) } else { Compare::Time };
    let plan = plan(
        &sides.source,
        &sides.target,
        &PlanOptions { compare, delete: options.delete, over_links: false },
    );
    report_mirror(shell, options, &sides, &plan, &mut report);
    if options.dry_run {
        describe_plan(&sides, &plan, &mut report);
    } else {
        report.summary.deleted = Some(apply(shell, sides, &plan, &mut report)?);
    }
    Ok(report.finish())
}

fn sides_down(shell: &mut Shell, options: &MirrorOptions) -> Result<MirrorSides> {
    let base = shell.resolve_remote(&options.source)?;
    let source = walk::remote(shell, &base).map_err(|failure| shell.explain(&base, failure))?;
    let path = shell.local.resolve(&options.target);
    let tree = match Folder::open(openable(&path)) {
        Ok(folder) => Some(LocalTree::new(folder, &path)),
        Err(TreeError::NotFound) => None,
        Err(error) => return Err(tree_failure(&path.display().to_string(), &error)),
    };
    let target = match &tree {
        Some(tree) => walk::local(tree.top(), &shell.interrupt)?,
        None => TreeListing::default(),
    };
    let (direction, missing) = (Direction::Down, Vec::new());
    Ok(MirrorSides { direction, base, tree, path, missing, source, target })
}

fn sides_up(shell: &mut Shell, options: &MirrorOptions) -> Result<MirrorSides> {
    let path = shell.local.resolve(&options.source);
    let tree = LocalTree::new(open_folder(&path)?, &path);
    let source = walk::local(tree.top(), &shell.interrupt)?;
    let base = shell.resolve_remote(&options.target)?;
    let missing = missing_folders(shell, &base)?;
    let target =
        if missing.is_empty() { walk::remote(shell, &base)? } else { TreeListing::default() };
    let (direction, tree) = (Direction::Up, Some(tree));
    Ok(MirrorSides { direction, base, tree, path, missing, source, target })
}

/// Returns the missing folders on the path to `base`, including `base`, parents first.
fn missing_folders(shell: &mut Shell, base: &TreePath) -> Result<Vec<TreePath>> {
    let (mut at, mut missing) = (base.clone(), Vec::new());
    loop {
        match shell.session.stat(&at) {
            Ok(details) if details.entry.kind == Kind::Folder => break,
            Ok(_) => fail!(NotFolder, "{at} is not a folder"),
            Err(failure) if failure.code == ErrorCode::NotFound && !at.is_root() => {}
            Err(failure) => return Err(with_path(&at, failure)),
        }
        let parent = at.split_last().map(|(parent, _)| parent).unwrap_or_default();
        missing.push(std::mem::replace(&mut at, parent));
    }
    missing.reverse();
    Ok(missing)
}

/// Reports what is neither transferred nor removed.
fn report_mirror(
    shell: &mut Shell,
    options: &MirrorOptions,
    sides: &MirrorSides,
    plan: &Plan,
    report: &mut BatchReport,
) {
    let MirrorSides { direction, base, path, source, target, .. } = sides;
    report_plan(shell, report, base, &path.display().to_string(), *direction, source, plan);
    report.fail_unlisted(&mut shell.output, base, target);
    for (at, what) in &plan.spared {
        let node = &target.nodes[*at].path;
        let shown = match direction {
            Direction::Up => remote_name(base, node),
            Direction::Down => path.join(node.as_str()).display().to_string(),
        };
        say!(shell.notices, "{shown} is not removed: it contains {what}");
        report.summary.skip([shown]);
    }
    if options.delete && !source.is_whole() {
        shell.notices.say("nothing is removed: the source could not be listed completely");
    }
}

/// Executes the plan and returns the number of removed names.
fn apply(
    shell: &mut Shell,
    sides: MirrorSides,
    plan: &Plan,
    report: &mut BatchReport,
) -> Result<u64> {
    let MirrorSides { direction, base, tree, path, missing, source, target } = sides;
    for folder in &missing {
        match shell.session.make_folder(folder) {
            Err(failure) if failure.code != ErrorCode::Exists => {
                return Err(with_path(folder, failure));
            }
            _ => {}
        }
    }
    let mut tree = match tree {
        Some(tree) => tree,
        None => {
            std::fs::create_dir_all(&path).map_err(|e| Failure::local(&path, &e))?;
            LocalTree::new(open_folder(&path)?, &path)
        }
    };
    execute(shell, report, (&mut tree, &base), direction, (&source, &target), plan)
}

/// Describes the steps of a dry run.
fn describe_plan(sides: &MirrorSides, plan: &Plan, report: &mut BatchReport) {
    let (source, target) = (&sides.source.nodes, &sides.target.nodes);
    let transfer = if sides.direction == Direction::Up { "put" } else { "get" };
    let step = |action, path| MirrorStep { action, path };
    let mut steps: Vec<MirrorStep> =
        sides.missing.iter().map(|folder| step("make", folder.to_string())).collect();
    if sides.tree.is_none() {
        steps.push(step("make", sides.path.display().to_string()));
    }
    for (action, picks, nodes) in [
        ("make", &plan.make, source),
        (transfer, &plan.send, source),
        ("delete", &plan.delete, target),
        ("make", &plan.late_make, source),
        (transfer, &plan.late_send, source),
    ] {
        steps.extend(picks.iter().map(|at| step(action, nodes[*at].path.as_str().to_owned())));
    }
    let summary = &mut report.summary;
    (summary.files, summary.bytes) = amount(source, plan.send.iter().chain(&plan.late_send));
    summary.folders = plan.make.len() as u64 + plan.late_make.len() as u64;
    (summary.deleted, summary.planned) = (Some(plan.delete.len() as u64), Some(steps));
}
