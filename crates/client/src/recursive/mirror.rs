//! `mirror`: makes one folder equal to another, locally or on the server.
//!
//! Removal is the last step. It requires that the source was listed completely and that all
//! transfers succeeded. Names that the target's listing did not contain are never removed.

use std::collections::HashSet;

use relais_proto::{ErrorCode, Kind, TreePath};
use relais_tree::{Folder, TreeError};

use super::batch::Direction;
use super::batch_report::BatchReport;
use super::digests;
use super::local_tree::LocalTree;
use super::node::{TreeListing, parent, remote_name};
use super::plan::{Compare, Plan, PlanOptions, plan};
use super::run::Sides;
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

/// Makes one folder equal to the other.
///
/// # Errors
/// The whole command fails. Failures of single names are in the result.
pub fn mirror(shell: &mut Shell, options: &MirrorOptions) -> Result<BatchSummary> {
    let mut report = BatchReport::new();
    (report.summary.deleted, report.summary.skipped) = (Some(0), Some(Vec::new()));
    let mut mirror = Mirror::list(shell, options)?;
    let Sides { source, target, .. } = &mirror.sides;
    let targets = target.nodes.len();
    if options.delete
        && !options.force
        && source.is_whole()
        && source.nodes.is_empty()
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
    if let Some(tree) = mirror.tree.as_mut().filter(|_| options.checksum) {
        equal = digests::equal(shell, tree, &mirror.sides)?;
    }
    let compare = if options.checksum { Compare::Digests(&equal) } else { Compare::Time };
    let plan =
        plan(source, target, &PlanOptions { compare, delete: options.delete, over_links: false });
    mirror.report(shell, options, &plan, &mut report);
    if options.dry_run {
        mirror.describe(&plan, &mut report.summary);
    } else {
        report.summary.deleted = Some(mirror.apply(shell, &plan, &mut report)?);
    }
    Ok(report.finish())
}

/// The two sides with their listings.
struct Mirror {
    sides: Sides,
    /// Local side; none if its folder does not exist yet.
    tree: Option<LocalTree>,
    /// Missing remote folders on the path to the target, including the target.
    missing: Vec<TreePath>,
}

impl Mirror {
    fn list(shell: &mut Shell, options: &MirrorOptions) -> Result<Self> {
        let MirrorOptions { source, target, up, .. } = options;
        let (remote, local) = if *up { (target, source) } else { (source, target) };
        let (base, path) = (shell.resolve_remote(remote)?, shell.local.resolve(local));
        if *up {
            let tree = LocalTree::new(open_folder(&path)?, &path);
            let source = walk::local(&tree.top, &shell.interrupt)?;
            let missing = missing_folders(shell, &base)?;
            let target = if missing.is_empty() {
                walk::remote(shell, &base)?
            } else {
                TreeListing::default()
            };
            let sides = Sides { direction: Direction::Up, base, path, source, target };
            return Ok(Self { sides, tree: Some(tree), missing });
        }
        let source = walk::remote(shell, &base).map_err(|failure| shell.explain(&base, failure))?;
        let tree = match Folder::open(openable(&path)) {
            Ok(folder) => Some(LocalTree::new(folder, &path)),
            Err(TreeError::NotFound) => None,
            Err(error) => return Err(tree_failure(&path.display().to_string(), &error)),
        };
        let target = match &tree {
            Some(tree) => walk::local(&tree.top, &shell.interrupt)?,
            None => TreeListing::default(),
        };
        let sides = Sides { direction: Direction::Down, base, path, source, target };
        Ok(Self { sides, tree, missing: Vec::new() })
    }

    /// Reports what is neither transferred nor removed.
    fn report(
        &self,
        shell: &mut Shell,
        options: &MirrorOptions,
        plan: &Plan,
        report: &mut BatchReport,
    ) {
        let Sides { direction, base, path, source, target } = &self.sides;
        self.sides.report(shell, report, plan);
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
    fn apply(self, shell: &mut Shell, plan: &Plan, report: &mut BatchReport) -> Result<u64> {
        for folder in &self.missing {
            if let Err(failure) = shell.session.make_folder(folder)
                && failure.code != ErrorCode::Exists
            {
                return Err(with_path(folder, failure));
            }
        }
        let path = &self.sides.path;
        let mut tree = match self.tree {
            Some(tree) => tree,
            None => {
                std::fs::create_dir_all(path).map_err(|e| Failure::local(path, &e))?;
                LocalTree::new(open_folder(path)?, path)
            }
        };
        self.sides.execute(shell, report, &mut tree, plan)
    }

    /// Describes the steps of a dry run.
    fn describe(&self, plan: &Plan, summary: &mut BatchSummary) {
        let (source, target) = (&self.sides.source.nodes, &self.sides.target.nodes);
        let transfer = if self.sides.direction == Direction::Up { "put" } else { "get" };
        let step = |action, path| MirrorStep { action, path };
        let mut steps: Vec<MirrorStep> =
            self.missing.iter().map(|folder| step("make", folder.to_string())).collect();
        if self.tree.is_none() {
            steps.push(step("make", self.sides.path.display().to_string()));
        }
        for (action, picks, nodes) in [
            ("make", &plan.first.make, source),
            (transfer, &plan.first.send, source),
            ("delete", &plan.delete, target),
            ("make", &plan.late.make, source),
            (transfer, &plan.late.send, source),
        ] {
            steps.extend(picks.iter().map(|at| step(action, nodes[*at].path.as_str().to_owned())));
        }
        (summary.files, summary.bytes) = plan.amount(source);
        summary.folders = (plan.first.make.len() + plan.late.make.len()) as u64;
        (summary.deleted, summary.planned) = (Some(plan.delete.len() as u64), Some(steps));
    }
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
        let above = parent(&at);
        missing.push(std::mem::replace(&mut at, above));
    }
    missing.reverse();
    Ok(missing)
}
