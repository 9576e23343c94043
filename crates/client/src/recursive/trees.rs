//! `get -r` and `put -r`: copies of whole folders, with an entry in the `.log`.

use std::path::Path;

use relais_proto::{ErrorCode, Kind, TreePath};
use relais_tree::{Folder, TreeError};

use super::batch::Direction;
use super::batch_report::{BatchReport, is_resumable};
use super::local_tree::LocalTree;
use super::node::TreeListing;
use super::plan::{Compare, PlanOptions, plan};
use super::run::Sides;
use super::walk;
use crate::local::{LocalTarget, openable};
use crate::local_file::{open_folder, tree_failure};
use crate::outcome::{BatchSummary, TransferredFile};
use crate::receive::{DownloadJob, receive};
use crate::send::{UploadJob, send};
use crate::shell::{Shell, with_path};
use crate::transfer_log::{LogHandle, TransferEntry, TransferTask, is_reserved, read_log};
use crate::{Failure, Result};

/// Fetches the remote folder recursively; a file is fetched as with `get`.
///
/// # Errors
/// The whole command fails. Failures of single names are in the result.
pub fn get_tree(shell: &mut Shell, remote: &TreePath, into: Option<&str>) -> Result<BatchSummary> {
    if shell.session.stat(remote)?.entry.kind == Kind::File {
        let target = shell.local.target(remote.last().unwrap_or_default(), into, false)?;
        let log_name = shell.local.log_name(&target)?;
        let job = DownloadJob { remote: remote.clone(), target, log_name };
        return receive(shell, &job).map(|file| single(&file));
    }
    let top = top_of(shell, remote, into)?;
    let log_name = shell.local.log_name(&top)?;
    fetch_tree(shell, remote, open_folder(&top.folder)?, &top, &log_name)
}

/// Sends the local folder recursively; a file is sent as with `put`.
///
/// # Errors
/// The whole command fails. Failures of single names are in the result.
pub fn put_tree(shell: &mut Shell, path: &Path, onto: Option<&str>) -> Result<BatchSummary> {
    let found = std::fs::metadata(openable(path)).map_err(|e| Failure::local(path, &e))?;
    let name = own_name(path)?;
    if !found.is_dir() {
        let remote = remote_top(shell, name, onto, None)?;
        let log_name = shell.local.log_name_of(path);
        let job = UploadJob::new(path.to_path_buf(), remote, log_name);
        return send(shell, &job).map(|file| single(&file));
    }
    let top = name
        .and_then(|_| LocalTarget::of(path))
        .unwrap_or_else(|| LocalTarget::folder_itself(path.to_path_buf()));
    let log_name = shell.local.log_name(&top)?;
    let remote = remote_top(shell, name, onto, Some(&log_name))?;
    send_tree(shell, LocalTree::new(open_folder(path)?, path), &remote, &log_name)
}

fn single(file: &TransferredFile) -> BatchSummary {
    let mut several = BatchSummary { time: file.time, ..BatchSummary::default() };
    several.add(file);
    several
}

/// Fetches a remote folder into `top`, which lies in `parent`.
///
/// # Errors
/// As [`get_tree`].
pub fn fetch_tree(
    shell: &mut Shell,
    remote: &TreePath,
    parent: Folder,
    top: &LocalTarget,
    log_name: &str,
) -> Result<BatchSummary> {
    copy(shell, remote, log_name, TransferTask::GetTree, |shell, _| {
        let source = walk::remote(shell, remote)?;
        let tree = make_local_top(top, parent)?;
        let target = walk::local(&tree.top, &shell.interrupt)?;
        let (direction, base, path) = (Direction::Down, remote.clone(), top.path());
        Ok((tree, Sides { direction, base, path, source, target }))
    })
}

/// Sends the content of `tree` to a remote folder.
///
/// # Errors
/// As [`put_tree`].
pub fn send_tree(
    shell: &mut Shell,
    tree: LocalTree,
    remote: &TreePath,
    log_name: &str,
) -> Result<BatchSummary> {
    copy(shell, remote, log_name, TransferTask::PutTree, |shell, resumes| {
        let source = walk::local(&tree.top, &shell.interrupt)?;
        make_remote_top(shell, remote)?;
        let target = if resumes { walk::remote(shell, remote)? } else { TreeListing::default() };
        let (direction, base, path) = (Direction::Up, remote.clone(), tree.path.clone());
        Ok((tree, Sides { direction, base, path, source, target }))
    })
}

/// Copies what the target does not have; a resumed copy skips equal files.
///
/// The copy has an entry in the `.log`, which stays if another run could complete it. The last
/// argument of `list` tells whether an earlier run left the entry.
fn copy(
    shell: &mut Shell,
    remote: &TreePath,
    log_name: &str,
    task: TransferTask,
    list: impl FnOnce(&mut Shell, bool) -> Result<(LocalTree, Sides)>,
) -> Result<BatchSummary> {
    shell.session.connect()?;
    let mut resumes = false;
    let mut handle = LogHandle::enter(shell, remote, log_name, task, |known| {
        resumes = true;
        known
    })?;
    resumes &= handle.is_logged();
    let mut report = BatchReport::new();
    let result = list(shell, resumes).and_then(|(mut tree, sides)| {
        let compare = if resumes { Compare::Time } else { Compare::Never };
        let options = PlanOptions { compare, delete: false, over_links: true };
        let plan = plan(&sides.source, &sides.target, &options);
        sides.report(shell, &mut report, &plan);
        report.summary.folders += plan.present;
        sides.execute(shell, &mut report, &mut tree, &plan)
    });
    if !report.can_resume() && !result.as_ref().is_err_and(is_resumable) {
        handle.finish();
    }
    match result {
        Ok(_) => Ok(report.finish()),
        Err(failure) if failure.status() == 3 => {
            fail!(Cut, "{failure}; run the same command again to resume")
        }
        Err(failure) => Err(failure),
    }
}

/// Returns where the copy of `remote` goes; the root of the tree has no name.
fn top_of(shell: &Shell, remote: &TreePath, into: Option<&str>) -> Result<LocalTarget> {
    // An earlier run may have made the folder that `into` names.
    if let Some(begun) = into.and_then(|into| shell.local.exact_target(into))
        && let Ok(log_name) = shell.local.log_name(&begun)
        && is_begun(shell, remote, &log_name, &TransferTask::GetTree)
    {
        return Ok(begun);
    }
    if let Some(last) = remote.last() {
        return shell.local.target(last, into, false);
    }
    let path = shell.local.resolve(into.unwrap_or_default());
    match into {
        Some(_) if !openable(&path).is_dir() => shell.local.target("", into, false),
        _ => Ok(LocalTarget::folder_itself(path)),
    }
}

/// Opens the top below `parent`, and makes it if needed; follows no link of that name.
fn make_local_top(top: &LocalTarget, parent: Folder) -> Result<LocalTree> {
    let shown = top.shown();
    if is_reserved(&top.name) {
        fail!(Local, "{shown}: ftpclient uses that name itself; choose another with -o");
    }
    let made = if top.is_folder_itself() { Ok(()) } else { parent.make_folder(&top.name, false) };
    match made {
        Ok(()) | Err(TreeError::Taken) => LocalTree::below(parent, top),
        Err(error) => Err(error),
    }
    .map_err(|e| tree_failure(&shown, &e))
}

/// Whether the `.log` has an unfinished transfer with exactly these names.
fn is_begun(shell: &Shell, remote: &TreePath, log_name: &str, task: &TransferTask) -> bool {
    let is_same = |entry: &TransferEntry| {
        (&entry.remote, entry.local.as_str(), &entry.task) == (remote, log_name, task)
            && Some(&entry.origin) == shell.session.origin.as_ref()
    };
    read_log(shell.local.home()).is_ok_and(|contents| contents.entries.iter().any(is_same))
}

/// Returns the remote path of a local file or folder called `name`, which `-o` names or contains.
///
/// A folder without a name is copied into the target folder itself.
///
/// # Errors
/// A name breaks the rules, or no server answers.
pub fn remote_top(
    shell: &mut Shell,
    name: Option<&str>,
    onto: Option<&str>,
    log_name: Option<&str>,
) -> Result<TreePath> {
    let inside = |folder: &TreePath| match name {
        Some(name) => folder.join(name).map_err(|e| Failure::from(e).of(name)),
        None => Ok(folder.clone()),
    };
    let Some(onto) = onto else { return inside(&shell.cwd) };
    let path = shell.resolve_remote(onto)?;
    if path.is_root() || onto.ends_with('/') {
        return inside(&path);
    }
    // An earlier run may have made the folder.
    if log_name.is_some_and(|name| is_begun(shell, &path, name, &TransferTask::PutTree)) {
        return Ok(path);
    }
    match shell.session.stat(&path) {
        Ok(details) if details.entry.kind == Kind::Folder => inside(&path),
        Ok(_) => Ok(path),
        Err(failure) if failure.code == ErrorCode::NotFound => Ok(path),
        Err(failure) => Err(with_path(&path, failure)),
    }
}

/// Makes the remote top folder if needed; its parent must exist.
fn make_remote_top(shell: &mut Shell, remote: &TreePath) -> Result<()> {
    if remote.is_root() {
        return Ok(());
    }
    let Err(failure) = shell.session.make_folder(remote) else { return Ok(()) };
    match failure.code {
        ErrorCode::Exists if shell.session.stat(remote)?.entry.kind == Kind::Folder => Ok(()),
        ErrorCode::Exists => fail!(NotFolder, "{remote}: a file has that name"),
        ErrorCode::NotFound => fail!(NotFound, "{remote}: the parent folder does not exist"),
        _ => Err(with_path(remote, failure)),
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
