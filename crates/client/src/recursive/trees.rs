//! `get -r` and `put -r`: copying a folder into another, which keeps its other content.
//!
//! The whole command has an entry in the `.log`. A resumed command transfers only what differs.

use std::path::{Path, PathBuf};

use relais_proto::{ErrorCode, Kind, TreePath};
use relais_tree::{Folder, TreeError};

use super::batch_report::{BatchReport, is_resumable};
use super::local_tree::{LocalTree, failure};
use super::log_entry::BatchLogEntry;
use super::node::{SkipReason, TreeListing};
use super::plan::{Compare, Plan, PlanOptions, plan};
use super::run::{Direction, PlanRunner, amount, remote_name};
use super::walk;
use crate::local::{LocalTarget, openable};
use crate::outcome::BatchSummary;
use crate::receive::DownloadJob;
use crate::send;
use crate::shell::Shell;
use crate::transfer_log::{TransferEntry, TransferTask, is_reserved, read_log};
use crate::{Failure, Result};

/// The local top folder of a copy.
///
/// It is either a name in a parent folder or a folder that the user named itself.
pub struct CopyRoot {
    /// Parent folder, or the top itself.
    pub folder: PathBuf,
    /// Name in the parent; none if `folder` is the top.
    pub name: Option<String>,
}

impl CopyRoot {
    /// Returns the path for messages.
    pub(super) fn shown(&self) -> PathBuf {
        self.name.as_ref().map_or_else(|| self.folder.clone(), |name| self.folder.join(name))
    }

    /// Returns the name for the `.log`: a path that ends in `.` means the folder itself.
    fn log_name(&self, shell: &Shell) -> Result<String> {
        let name = self.name.clone().unwrap_or_else(|| ".".to_owned());
        shell.local.log_name(&LocalTarget { folder: self.folder.clone(), name })
    }

    /// Opens the top below `parent`, and makes it if needed; follows no link of that name.
    fn tree(&self, parent: Folder) -> Result<LocalTree> {
        let shown = self.shown();
        let failed = |e: TreeError| failure(&shown.display().to_string(), &e);
        let Some(name) = &self.name else { return Ok(LocalTree::new(parent, &shown)) };
        if is_reserved(name) {
            fail!(
                Local,
                "{}: ftpclient uses that name itself; choose another with -o",
                shown.display()
            );
        }
        match parent.make_folder(name, false) {
            Ok(()) | Err(TreeError::Taken) => {}
            Err(error) => return Err(failed(error)),
        }
        Ok(LocalTree::new(parent.sub(name).map_err(failed)?, &shown))
    }
}

impl Shell {
    /// Fetches the remote folder recursively; a file is fetched as with `get`.
    ///
    /// # Errors
    /// The whole command fails. Failures of single names are in the result.
    pub fn get_tree(&mut self, remote: &TreePath, into: Option<&str>) -> Result<BatchSummary> {
        if self.session.stat(remote)?.entry.kind == Kind::File {
            return self.get_single(remote, into);
        }
        let top = self.top_of(remote, into)?;
        let log_name = top.log_name(self)?;
        let parent = Folder::open(openable(&top.folder))
            .map_err(|e| failure(&top.folder.display().to_string(), &e))?;
        self.fetch_tree(remote, parent, &top, &log_name)
    }

    fn get_single(&mut self, remote: &TreePath, into: Option<&str>) -> Result<BatchSummary> {
        let target = self.local.target(remote.last().unwrap_or_default(), into, false)?;
        let log_name = self.local.log_name(&target)?;
        let received =
            self.receive_named(&DownloadJob { remote: remote.clone(), target, log_name })?;
        let mut several = BatchSummary { time: received.time, ..BatchSummary::default() };
        several.add(&received);
        Ok(several)
    }

    /// Returns where the copy of `remote` goes; the root of the tree has no name.
    fn top_of(&self, remote: &TreePath, into: Option<&str>) -> Result<CopyRoot> {
        let named = |LocalTarget { folder, name }| CopyRoot { folder, name: Some(name) };
        if let Some(begun) = into.and_then(|into| self.local.exact_target(into)).map(named)
            && begun
                .log_name(self)
                .is_ok_and(|log_name| self.is_begun(remote, &log_name, &TransferTask::GetTree))
        {
            // The same command made this folder before it was interrupted.
            return Ok(begun);
        }
        match (remote.last(), into) {
            (Some(last), into) => self.local.target(last, into, false).map(named),
            (None, None) => Ok(CopyRoot { folder: self.local.resolve(""), name: None }),
            (None, Some(into)) => {
                let path = self.local.resolve(into);
                match openable(&path).is_dir() {
                    true => Ok(CopyRoot { folder: path, name: None }),
                    false => self.local.target("", Some(into), false).map(named),
                }
            }
        }
    }

    pub(super) fn fetch_tree(
        &mut self,
        remote: &TreePath,
        parent: Folder,
        top: &CopyRoot,
        log_name: &str,
    ) -> Result<BatchSummary> {
        let origin = self.connected()?;
        let log_entry = BatchLogEntry::enter(self, remote, log_name, origin, TransferTask::GetTree);
        let mut report = BatchReport::new();
        let result = self.fetch_into(remote, parent, top, log_entry.resumes, &mut report);
        self.end_tree(log_entry, report, result)
    }

    fn fetch_into(
        &mut self,
        remote: &TreePath,
        parent: Folder,
        top: &CopyRoot,
        resumes: bool,
        report: &mut BatchReport,
    ) -> Result<()> {
        let source = walk::remote(self, remote)?;
        let mut tree = top.tree(parent)?;
        let there = walk::local(tree.top(), &self.interrupt)?;
        report_invalid_names(self, report, remote, &source);
        let plan = copy_plan(&source, &there, resumes);
        report_skipped(self, report, remote, &source, &plan);
        report.summary.folders += plan.present;
        PlanRunner::new(
            self,
            &mut tree,
            remote,
            Direction::Down,
            report,
            amount(&source.nodes, plan.send.iter()),
        )?
        .add(&source, &plan.make, &plan.send);
        Ok(())
    }

    /// Sends the local folder recursively; a file is sent as with `put`.
    ///
    /// # Errors
    /// The whole command fails. Failures of single names are in the result.
    pub fn put_tree(&mut self, local: &str, onto: Option<&str>) -> Result<BatchSummary> {
        if local.is_empty() {
            fail!(Usage, "the local name is empty");
        }
        self.put_tree_at(&self.local.resolve(local), onto)
    }

    /// As [`Self::put_tree`], for a resolved path.
    ///
    /// # Errors
    /// As [`Self::put_tree`].
    pub fn put_tree_at(&mut self, path: &Path, onto: Option<&str>) -> Result<BatchSummary> {
        let found = std::fs::metadata(openable(path)).map_err(|e| Failure::local(path, &e))?;
        let name = own_name(path)?;
        if !found.is_dir() {
            let remote = self.remote_top(name, onto, None)?;
            return self.put_single(path, remote);
        }
        let top = CopyRoot { folder: path.to_path_buf(), name: None };
        let log_name = match (path.parent(), name) {
            (Some(parent), Some(name)) => self
                .local
                .log_name(&LocalTarget { folder: parent.to_path_buf(), name: name.to_owned() })?,
            _ => top.log_name(self)?,
        };
        let remote = self.remote_top(name, onto, Some(&log_name))?;
        let folder =
            Folder::open(openable(path)).map_err(|e| failure(&path.display().to_string(), &e))?;
        self.send_tree(LocalTree::new(folder, path), &remote, &log_name)
    }

    fn put_single(&mut self, path: &Path, remote: TreePath) -> Result<BatchSummary> {
        let log_name = self.local.log_name_of(path);
        let shown = path.display().to_string();
        let sent = self.send_named(&send::UploadJob {
            local: path.to_path_buf(),
            shown,
            remote,
            log_name,
            expect: relais_proto::Expect::Any,
            resumed: false,
        })?;
        let mut several = BatchSummary { time: sent.time, ..BatchSummary::default() };
        several.add_sent(&sent);
        Ok(several)
    }

    /// Whether the `.log` has an unfinished transfer with exactly these names.
    fn is_begun(&self, remote: &TreePath, log_name: &str, task: &TransferTask) -> bool {
        let origin = self.session.origin();
        let is_same = |entry: &TransferEntry| {
            (&entry.remote, entry.local.as_str(), &entry.task) == (remote, log_name, task)
                && Some(&entry.origin) == origin
        };
        // Errors of the `.log` are reported when the entry is written.
        read_log(self.local.home()).is_ok_and(|contents| contents.entries.iter().any(is_same))
    }

    /// Returns the remote path of a local folder called `name`.
    ///
    /// A folder without a name is copied into the target folder itself.
    fn remote_top(
        &mut self,
        name: Option<&str>,
        onto: Option<&str>,
        log_name: Option<&str>,
    ) -> Result<TreePath> {
        let inside = |folder: &TreePath| match name {
            Some(name) => folder.join(name).map_err(|e| Failure::from(e).of(name)),
            None => Ok(folder.clone()),
        };
        let Some(onto) = onto else { return inside(&self.cwd) };
        let path = self.resolve_remote(onto)?;
        if path.is_root() || onto.ends_with('/') {
            return inside(&path);
        }
        if log_name.is_some_and(|log_name| self.is_begun(&path, log_name, &TransferTask::PutTree)) {
            // The same command made this folder before it was interrupted.
            return Ok(path);
        }
        match self.session.stat(&path) {
            Ok(details) if details.entry.kind == Kind::Folder => inside(&path),
            Ok(_) => Ok(path),
            Err(failure) if failure.code == ErrorCode::NotFound => Ok(path),
            Err(failure) => Err(crate::shell::with_path(&path, failure)),
        }
    }

    pub(super) fn send_tree(
        &mut self,
        mut tree: LocalTree,
        remote: &TreePath,
        log_name: &str,
    ) -> Result<BatchSummary> {
        let origin = self.connected()?;
        let log_entry = BatchLogEntry::enter(self, remote, log_name, origin, TransferTask::PutTree);
        let mut report = BatchReport::new();
        let result = self.send_from(&mut tree, remote, log_entry.resumes, &mut report);
        self.end_tree(log_entry, report, result)
    }

    fn send_from(
        &mut self,
        tree: &mut LocalTree,
        remote: &TreePath,
        resumes: bool,
        report: &mut BatchReport,
    ) -> Result<()> {
        let source = walk::local(tree.top(), &self.interrupt)?;
        report.skip(&self.notices, &tree.shown(&TreePath::root()), &source.skipped);
        self.make_top(remote)?;
        // Otherwise all files are sent, and the server reports folders that exist.
        let there = if resumes { walk::remote(self, remote)? } else { TreeListing::default() };
        let plan = copy_plan(&source, &there, resumes);
        report_skipped(self, report, remote, &source, &plan);
        report.summary.folders += plan.present;
        PlanRunner::new(
            self,
            tree,
            remote,
            Direction::Up,
            report,
            amount(&source.nodes, plan.send.iter()),
        )?
        .add(&source, &plan.make, &plan.send);
        Ok(())
    }

    /// Makes the remote top folder if needed; its parent must exist.
    fn make_top(&mut self, remote: &TreePath) -> Result<()> {
        if remote.is_root() {
            return Ok(());
        }
        match self.session.make_folder(remote) {
            Ok(_) => Ok(()),
            Err(failure) if failure.code == ErrorCode::Exists => {
                match self.session.stat(remote)?.entry.kind {
                    Kind::Folder => Ok(()),
                    Kind::File => Err(failure!(NotFolder, "{remote}: a file has that name")),
                }
            }
            Err(failure) if failure.code == ErrorCode::NotFound => {
                Err(failure!(NotFound, "{remote}: the parent folder does not exist"))
            }
            Err(failure) => Err(crate::shell::with_path(remote, failure)),
        }
    }

    /// Removes the entry in the `.log` unless another run could complete the command.
    fn end_tree(
        &mut self,
        log_entry: BatchLogEntry,
        report: BatchReport,
        result: Result<()>,
    ) -> Result<BatchSummary> {
        let left = report.can_resume() || result.as_ref().is_err_and(is_resumable);
        if !left {
            log_entry.finish(self);
        }
        match result {
            Ok(()) => Ok(report.finish()),
            Err(failure) if failure.status() == 3 => {
                Err(failure!(Cut, "{failure}; run the same command again to resume"))
            }
            Err(failure) => Err(failure),
        }
    }
}

/// Returns the last name of a local path; none for `.`, `..` and the root.
fn own_name(path: &Path) -> Result<Option<&str>> {
    let text = path
        .to_str()
        .ok_or_else(|| failure!(BadName, "{}: the name is not UTF-8", path.display()))?;
    let last = text.trim_end_matches('/').rsplit('/').next();
    Ok(last.filter(|last| !matches!(*last, "" | "." | "..")))
}

/// Plans a copy; a resumed copy skips equal files.
fn copy_plan(source: &TreeListing, there: &TreeListing, resumes: bool) -> Plan {
    let compare = if resumes { Compare::Time } else { Compare::Never };
    plan(source, there, &PlanOptions { compare, delete: false, over_links: true })
}

/// Reports the names that are not transferred.
///
/// They could not be listed, this side cannot store them, or another entry blocks them.
pub(super) fn report_skipped(
    shell: &mut Shell,
    report: &mut BatchReport,
    base: &TreePath,
    source: &TreeListing,
    plan: &Plan,
) {
    report_unlisted(shell, report, base, source);
    for blocked in &plan.blocked {
        let path = &source.nodes[blocked.node].path;
        let (name, by) = (remote_name(base, path), &blocked.by);
        let below = if blocked.below > 0 {
            format!("; {} names below it are skipped", blocked.below)
        } else {
            String::new()
        };
        report.fail(&mut shell.output, name.clone(), failure!(Local, "{name}: {by}{below}"));
    }
}

/// Reports the folders that could not be listed.
pub(super) fn report_unlisted(
    shell: &mut Shell,
    report: &mut BatchReport,
    base: &TreePath,
    listing: &TreeListing,
) {
    for (path, failure) in &listing.failed {
        let name = remote_name(base, path);
        let failure = if failure.message.contains(&name) {
            failure.clone()
        } else {
            failure.clone().of(&name)
        };
        report.fail(&mut shell.output, name, failure);
    }
}

/// Reports each of the server's names that cannot exist locally as a failure.
pub(super) fn report_invalid_names(
    shell: &mut Shell,
    report: &mut BatchReport,
    base: &TreePath,
    source: &TreeListing,
) {
    for skipped in source
        .skipped
        .iter()
        .filter(|skipped| matches!(skipped.reason, SkipReason::Reserved | SkipReason::Name))
    {
        let shown = skipped.shown();
        let name = if base.is_root() { format!("/{shown}") } else { format!("{base}/{shown}") };
        report.fail(
            &mut shell.output,
            name.clone(),
            failure!(Local, "{name} is not fetched: it is {}", skipped.reason),
        );
    }
}
