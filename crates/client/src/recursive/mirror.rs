//! `mirror`: makes one folder equal to another, locally or on the server.
//!
//! Removal is the last step. It requires that the source was listed completely and that all
//! transfers succeeded. Names that the target's listing did not contain are never removed.

use std::collections::HashSet;
use std::path::PathBuf;

use relais_proto::{ErrorCode, Kind, TreePath};
use relais_tree::{Folder, TreeError};

use super::batch_report::BatchReport;
use super::digests;
use super::local_tree::{LocalTree, failure};
use super::node::{TreeListing, is_covered};
use super::plan::{Compare, Plan, PlanOptions, plan};
use super::run::{Direction, PlanRunner, amount, remote_name};
use super::trees::{report_invalid_names, report_skipped, report_unlisted};
use super::walk;
use crate::local::openable;
use crate::outcome::{MirrorResult, MirrorStep};
use crate::shell::Shell;
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

/// The listings of both sides.
struct MirrorSides {
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

impl Shell {
    /// Makes one folder equal to the other.
    ///
    /// # Errors
    /// The whole command fails. Failures of single names are in the result.
    pub fn mirror(&mut self, mirror: &MirrorOptions) -> Result<MirrorResult> {
        let mut report = BatchReport::new();
        let mut sides = if mirror.up { self.sides_up(mirror) } else { self.sides_down(mirror) }?;
        check_empty(mirror, &sides)?;
        let plan = self.plan_mirror(mirror, &mut sides)?;
        self.report_mirror(mirror, &sides, &plan, &mut report);
        if mirror.dry_run {
            return Ok(planned_steps(mirror, &sides, &plan, report));
        }
        let deleted = self.apply(mirror, sides, &plan, &mut report)?;
        Ok(MirrorResult { summary: report.finish(), deleted, planned: None })
    }

    fn sides_down(&mut self, mirror: &MirrorOptions) -> Result<MirrorSides> {
        let base = self.resolve_remote(&mirror.source)?;
        let source = walk::remote(self, &base).map_err(|failure| self.explain(&base, failure))?;
        let path = self.local.resolve(&mirror.target);
        let shown = path.display().to_string();
        let tree = match Folder::open(openable(&path)) {
            Ok(folder) => Some(LocalTree::new(folder, &path)),
            Err(TreeError::NotFound) => None,
            Err(error) => return Err(failure(&shown, &error)),
        };
        let target = tree.as_ref().map_or_else(
            || Ok(TreeListing::default()),
            |tree| walk::local(tree.top(), &self.interrupt),
        )?;
        Ok(MirrorSides { base, tree, path, missing: Vec::new(), source, target })
    }

    fn sides_up(&mut self, mirror: &MirrorOptions) -> Result<MirrorSides> {
        let path = self.local.resolve(&mirror.source);
        let folder =
            Folder::open(openable(&path)).map_err(|e| failure(&path.display().to_string(), &e))?;
        let tree = LocalTree::new(folder, &path);
        let source = walk::local(tree.top(), &self.interrupt)?;
        let base = self.resolve_remote(&mirror.target)?;
        let missing = self.missing_folders(&base)?;
        let target =
            if missing.is_empty() { walk::remote(self, &base)? } else { TreeListing::default() };
        Ok(MirrorSides { base, tree: Some(tree), path, missing, source, target })
    }

    /// Returns the missing folders on the path to `base`, including `base`, parents first.
    fn missing_folders(&mut self, base: &TreePath) -> Result<Vec<TreePath>> {
        let (mut at, mut missing) = (base.clone(), Vec::new());
        loop {
            match self.session.stat(&at) {
                Ok(details) if details.entry.kind == Kind::Folder => break,
                Ok(_) => {
                    fail!(NotFolder, "{at} is not a folder");
                }
                Err(failure) if failure.code == ErrorCode::NotFound && !at.is_root() => {}
                Err(failure) => return Err(crate::shell::with_path(&at, failure)),
            }
            let parent = at.split_last().map(|(parent, _)| parent).unwrap_or_default();
            missing.push(std::mem::replace(&mut at, parent));
        }
        missing.reverse();
        Ok(missing)
    }

    fn plan_mirror(&mut self, mirror: &MirrorOptions, sides: &mut MirrorSides) -> Result<Plan> {
        let mut equal = HashSet::new();
        if let Some(tree) = sides.tree.as_mut().filter(|_| mirror.checksum) {
            let (there, here) = if mirror.up {
                (&sides.target, &sides.source)
            } else {
                (&sides.source, &sides.target)
            };
            equal = digests::equal(self, tree, &sides.base, there, here)?;
        }
        let compare = if mirror.checksum { Compare::Digests(&equal) } else { Compare::Time };
        Ok(plan(
            &sides.source,
            &sides.target,
            &PlanOptions { compare, delete: mirror.delete, over_links: false },
        ))
    }

    /// Reports skipped names and the reasons.
    fn report_mirror(
        &mut self,
        mirror: &MirrorOptions,
        sides: &MirrorSides,
        plan: &Plan,
        report: &mut BatchReport,
    ) {
        match mirror.up {
            true => {
                report.skip(&self.notices, &sides.path.display().to_string(), &sides.source.skipped)
            }
            false => report_invalid_names(self, report, &sides.base, &sides.source),
        }
        // Names that cannot exist here are not failed transfers, so they do not prevent removals.
        report.exclude_refused();
        report_skipped(self, report, &sides.base, &sides.source, plan);
        report_unlisted(self, report, &sides.base, &sides.target);
        for (at, what) in &plan.spared {
            let path = &sides.target.nodes[*at].path;
            let shown = if mirror.up {
                remote_name(&sides.base, path)
            } else {
                sides.path.join(path.as_str()).display().to_string()
            };
            self.notices.say(&format!("{shown} is not removed: it contains {what}"));
            report.summary.skipped.push(shown);
        }
        if mirror.delete && !sides.source.is_whole() {
            self.notices.say("nothing is removed: the source could not be listed completely");
        }
    }

    fn apply(
        &mut self,
        mirror: &MirrorOptions,
        sides: MirrorSides,
        plan: &Plan,
        report: &mut BatchReport,
    ) -> Result<u64> {
        let MirrorSides { base, tree, path, missing, source, target } = sides;
        for folder in &missing {
            match self.session.make_folder(folder) {
                Ok(_) => {}
                Err(failure) if failure.code == ErrorCode::Exists => {}
                Err(failure) => return Err(crate::shell::with_path(folder, failure)),
            }
        }
        let mut tree = match tree {
            Some(tree) => tree,
            None => {
                std::fs::create_dir_all(&path).map_err(|e| Failure::local(&path, &e))?;
                let folder =
                    Folder::open(&path).map_err(|e| failure(&path.display().to_string(), &e))?;
                LocalTree::new(folder, &path)
            }
        };
        let direction = if mirror.up { Direction::Up } else { Direction::Down };
        let all = amount(&source.nodes, plan.send.iter().chain(&plan.late_send));
        let mut run = PlanRunner::new(self, &mut tree, &base, direction, report, all)?;
        run.add(&source, &plan.make, &plan.send);
        if plan.delete.is_empty() || run.is_over() {
            return Ok(0);
        }
        if run.has_failed() {
            run.report_late(&source, plan);
            return Ok(0);
        }
        Ok(run.replace(&source, &target, plan))
    }
}

/// Refuses to empty the target: an empty source is often a mistake or an unmounted disk.
fn check_empty(mirror: &MirrorOptions, sides: &MirrorSides) -> Result<()> {
    let empties = mirror.delete
        && sides.source.is_whole()
        && sides.source.nodes.is_empty()
        && !sides.target.nodes.is_empty();
    if empties && !mirror.force {
        let message = format!(
            "{} is empty, so all {} names in {} would be removed; --force removes them",
            mirror.source,
            sides.target.nodes.len(),
            mirror.target
        );
        return Err(Failure::new(ErrorCode::NotEmpty, message));
    }
    Ok(())
}

/// Returns the planned steps in order.
fn planned_steps(
    mirror: &MirrorOptions,
    sides: &MirrorSides,
    plan: &Plan,
    mut report: BatchReport,
) -> MirrorResult {
    let moves = if mirror.up { "put" } else { "get" };
    let (source, target) = (&sides.source.nodes, &sides.target.nodes);
    let mut steps = Vec::new();
    let tops = if mirror.up {
        sides.missing.iter().map(ToString::to_string).collect()
    } else if sides.tree.is_none() {
        vec![sides.path.display().to_string()]
    } else {
        Vec::new()
    };
    steps.extend(tops.into_iter().map(|path| MirrorStep { action: "make", path }));
    let lists = [
        ("make", &plan.make, source),
        (moves, &plan.send, source),
        ("delete", &plan.delete, target),
        ("make", &plan.late_make, source),
        (moves, &plan.late_send, source),
    ];
    for (action, picks, nodes) in lists {
        steps.extend(
            picks.iter().map(|at| MirrorStep { action, path: nodes[*at].path.as_str().to_owned() }),
        );
    }
    let (files, bytes) = amount(source, plan.send.iter().chain(&plan.late_send));
    report.summary.files = files;
    report.summary.bytes = bytes;
    report.summary.folders = plan.make.len() as u64 + plan.late_make.len() as u64;
    MirrorResult {
        summary: report.finish(),
        deleted: plan.delete.len() as u64,
        planned: Some(steps),
    }
}

impl PlanRunner<'_> {
    /// Reports the names that waited for a removal, which failed transfers prevent.
    fn report_late(&mut self, source: &TreeListing, plan: &Plan) {
        self.say("nothing is removed: some transfers failed");
        let folders: HashSet<&TreePath> =
            plan.late_make.iter().map(|at| &source.nodes[*at].path).collect();
        for at in plan.late_make.iter().chain(&plan.late_send) {
            let path = &source.nodes[*at].path;
            let above = path.split_last().map(|(parent, _)| parent).unwrap_or_default();
            // Names below a folder are reported with it.
            if !is_covered(&folders, &above) {
                self.report_conflict(path);
            }
        }
    }
}
