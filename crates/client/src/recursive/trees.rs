//! `get -r` and `put -r`: copies of whole folders, with an entry in the `.log`.

use std::path::Path;

use relais_proto::{ErrorCode, Kind, TreePath};
use relais_tree::{Folder, TreeError};

use super::batch::Direction;
use super::batch_report::{BatchReport, is_resumable};
use super::copy::{execute, report_plan};
use super::local_tree::{CopyRoot, LocalTree};
use super::node::TreeListing;
use super::plan::{Compare, PlanOptions, plan};
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
    let log_name = log_name(shell, &top)?;
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
    let top = match (path.parent(), name) {
        (Some(parent), Some(name)) => {
            CopyRoot { folder: parent.to_path_buf(), name: Some(name.to_owned()) }
        }
        _ => CopyRoot { folder: path.to_path_buf(), name: None },
    };
    let log_name = log_name(shell, &top)?;
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
    top: &CopyRoot,
    log_name: &str,
) -> Result<BatchSummary> {
    logged(shell, remote, log_name, TransferTask::GetTree, |shell, report, resumes| {
        let source = walk::remote(shell, remote)?;
        let tree = make_local_top(top, parent)?;
        let there = walk::local(tree.top(), &shell.interrupt)?;
        copy(shell, report, (tree, remote), Direction::Down, (&source, &there), resumes)
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
    logged(shell, remote, log_name, TransferTask::PutTree, |shell, report, resumes| {
        let source = walk::local(tree.top(), &shell.interrupt)?;
        make_remote_top(shell, remote)?;
        let there = if resumes { walk::remote(shell, remote)? } else { TreeListing::default() };
        copy(shell, report, (tree, remote), Direction::Up, (&source, &there), resumes)
    })
}

/// Copies what the target does not have; a resumed copy skips equal files.
fn copy(
    shell: &mut Shell,
    report: &mut BatchReport,
    (mut tree, remote): (LocalTree, &TreePath),
    direction: Direction,
    (source, there): (&TreeListing, &TreeListing),
    resumes: bool,
) -> Result<()> {
    let compare = if resumes { Compare::Time } else { Compare::Never };
    let plan = plan(source, there, &PlanOptions { compare, delete: false, over_links: true });
    let local = tree.shown(&TreePath::root());
    report_plan(shell, report, remote, &local, direction, source, &plan);
    report.summary.folders += plan.present;
    execute(shell, report, (&mut tree, remote), direction, (source, there), &plan)?;
    Ok(())
}

/// Runs a copy with an entry in the `.log`, which stays if another run could complete the copy.
///
/// The last argument of `run` tells whether an earlier run left the entry.
fn logged(
    shell: &mut Shell,
    remote: &TreePath,
    log_name: &str,
    task: TransferTask,
    run: impl FnOnce(&mut Shell, &mut BatchReport, bool) -> Result<()>,
) -> Result<BatchSummary> {
    let origin = shell.connected()?;
    let entry = TransferEntry::new(remote, log_name, &origin, task.clone());
    let mut resumes = false;
    let handle = LogHandle::enter(shell.local.home(), &shell.notices, entry, |known| {
        resumes = known.is_some() && shell.resume;
        task
    });
    let mut report = BatchReport::new();
    let result = run(shell, &mut report, resumes && handle.is_some());
    let is_left = report.can_resume() || result.as_ref().is_err_and(is_resumable);
    if let Some(mut handle) = handle.filter(|_| !is_left)
        && let Err(failure) = handle.finish()
    {
        say!(shell.notices, "everything is done, but {failure}");
    }
    match result {
        Ok(()) => Ok(report.finish()),
        Err(failure) if failure.status() == 3 => {
            fail!(Cut, "{failure}; run the same command again to resume")
        }
        Err(failure) => Err(failure),
    }
}

/// Returns where the copy of `remote` goes; the root of the tree has no name.
fn top_of(shell: &Shell, remote: &TreePath, into: Option<&str>) -> Result<CopyRoot> {
    let named = |LocalTarget { folder, name }| CopyRoot { folder, name: Some(name) };
    // An earlier run may have made the folder that `into` names.
    if let Some(begun) = into.and_then(|into| shell.local.exact_target(into)).map(named)
        && log_name(shell, &begun)
            .is_ok_and(|log_name| is_begun(shell, remote, &log_name, &TransferTask::GetTree))
    {
        return Ok(begun);
    }
    match (remote.last(), into) {
        (Some(last), into) => shell.local.target(last, into, false).map(named),
        (None, None) => Ok(CopyRoot { folder: shell.local.resolve(""), name: None }),
        (None, Some(into)) => {
            let path = shell.local.resolve(into);
            match openable(&path).is_dir() {
                true => Ok(CopyRoot { folder: path, name: None }),
                false => shell.local.target("", Some(into), false).map(named),
            }
        }
    }
}

/// Returns the name of a top for the `.log`: a path that ends in `.` means the folder itself.
fn log_name(shell: &Shell, top: &CopyRoot) -> Result<String> {
    let name = top.name.clone().unwrap_or_else(|| ".".to_owned());
    shell.local.log_name(&LocalTarget { folder: top.folder.clone(), name })
}

/// Opens the top below `parent`, and makes it if needed; follows no link of that name.
fn make_local_top(top: &CopyRoot, parent: Folder) -> Result<LocalTree> {
    let shown = top.shown().display().to_string();
    if let Some(name) = &top.name {
        if is_reserved(name) {
            fail!(Local, "{shown}: ftpclient uses that name itself; choose another with -o");
        }
        match parent.make_folder(name, false) {
            Ok(()) | Err(TreeError::Taken) => {}
            Err(error) => return Err(tree_failure(&shown, &error)),
        }
    }
    LocalTree::below(parent, top).map_err(|e| tree_failure(&shown, &e))
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
