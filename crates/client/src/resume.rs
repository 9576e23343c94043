//! Resuming, or dropping, the unfinished transfers of the `.log`.
//!
//! The `.log` is untrusted, and a sent file leaves this host. A transfer is resumed if its local
//! name lies in the folder of `-d`, and no link leads to it. It is also resumed if its signature
//! proves that a client of this user began it in this folder. All messages go to standard error.

use std::path::{Path, PathBuf};

use log::info;
use relais_proto::{ErrorCode, TreePath};
use relais_tree::{Folder, MetaKind, TreeError};

use crate::interrupt::{Activity, Interrupt};
use crate::local::{LocalTarget, openable};
use crate::local_file::{open_regular, tree_failure};
use crate::output::text;
use crate::progress_bar::TransferBar;
use crate::receive::{DownloadJob, receive_into};
use crate::recursive::{LocalTree, SkippedName, fetch_tree, is_resumable, list_local, send_tree};
use crate::send::{UploadJob, UploadLock, send_open};
use crate::shell::Shell;
use crate::transfer_log::{
    DownloadRecord, TransferEntry, TransferLog, TransferTask, UploadRecord, is_part, is_reserved,
    lock_name, part_name, read_log,
};
use crate::{Failure, Result};

/// Why a transfer is not resumed to its end.
enum ResumeError {
    /// Its local name must not be used without the user, or another client works on it.
    Refused(TreeError),
    /// It can never be resumed.
    Useless(String),
    /// It was tried, and failed.
    Failed(Failure),
}

impl From<TreeError> for ResumeError {
    fn from(error: TreeError) -> Self {
        Self::Refused(error)
    }
}

impl From<Failure> for ResumeError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Resumes all unfinished transfers with the connected cluster, files before folders.
///
/// The result is 0, 5 if something is left, or 130 if the user interrupted.
pub fn resume_all(shell: &mut Shell) -> u8 {
    if !shell.resume {
        return 0;
    }
    shell.interrupt.enter(Activity::Command);
    let contents = match read_log(shell.local.home()) {
        Ok(contents) => contents,
        Err(failure) => {
            say!(shell.notices, "ftpclient: {failure}");
            return 0;
        }
    };
    contents.report_bad(&shell.notices);
    // Another cluster may have other files under the same names.
    let origin = shell.session.origin.clone();
    let (trees, files): (Vec<_>, Vec<_>) = contents
        .entries
        .into_iter()
        .filter(|entry| Some(&entry.origin) == origin.as_ref())
        .partition(|entry| entry.task.is_tree());
    let mut status = 0;
    for entry in files.into_iter().chain(trees) {
        match resume(shell, entry) {
            0 => {}
            130 => {
                status = 130;
                break;
            }
            other => status = other,
        }
    }
    shell.session.prefer(None);
    status
}

/// Resumes one transfer and reports it; the result is that of [`resume_all`].
fn resume(shell: &mut Shell, entry: TransferEntry) -> u8 {
    let (remote, local) = (&entry.remote, &entry.local);
    let result = match &entry.task {
        TransferTask::Get(_) => resume_get(shell, &entry),
        TransferTask::Put(record) => resume_put(shell, &entry, record),
        TransferTask::GetTree | TransferTask::PutTree => resume_tree(shell, &entry),
    };
    match result {
        Ok(status) => status,
        Err(ResumeError::Refused(TreeError::InUse)) => {
            info!("{local}: another client is transferring it");
            0
        }
        Err(ResumeError::Refused(why)) => {
            say!(
                shell.notices,
                "{local} is not resumed automatically: {why}; run the command again to resume it"
            );
            0
        }
        Err(ResumeError::Useless(why)) => {
            say!(shell.notices, "resuming {remote}: {why}; removed from the .log");
            if let Err(failure) = forget(shell, &[entry]) {
                shell.notices.say(&failure.to_string());
            }
            0
        }
        Err(ResumeError::Failed(failure)) => {
            // A useless entry was removed by then.
            let gone = read_log(shell.local.home())
                .is_ok_and(|contents| !contents.entries.iter().any(|other| other.is_same(&entry)));
            let end = if gone { "; removed from the .log" } else { "" };
            say!(shell.notices, "resuming {remote}: {failure}{end}");
            match failure.code {
                ErrorCode::Interrupted => 130,
                _ if gone => 0,
                _ => 5,
            }
        }
    }
}

fn resume_get(shell: &mut Shell, entry: &TransferEntry) -> Result<u8, ResumeError> {
    let (folder, target) = file_of(shell, entry)?;
    if let Err(error @ TreeError::InUse) = folder.open_part_locked(part_name(&target.name)) {
        return Err(error.into());
    }
    say!(shell.notices, "resuming {}", entry.remote);
    let job = DownloadJob { remote: entry.remote.clone(), target, log_name: entry.local.clone() };
    let bar = TransferBar::of_file(&shell.notices, &job.remote);
    let received = receive_into(shell, &job, &folder, bar)?;
    shell.notices.say(&text::file(&received));
    Ok(0)
}

fn resume_put(
    shell: &mut Shell,
    entry: &TransferEntry,
    record: &UploadRecord,
) -> Result<u8, ResumeError> {
    let opened = file_of(shell, entry)
        .and_then(|(folder, target)| Ok((open_regular(&folder, &target.name)?, target)));
    let (local, target) = match opened {
        Err(TreeError::NotFound) => {
            return Err(ResumeError::Useless(format!("{} no longer exists", entry.local)));
        }
        opened => opened?,
    };
    let job = UploadJob {
        // The content may have changed; the remote version at the start still counts.
        expect: record.expect,
        resumed: true,
        ..UploadJob::new(target.path(), entry.remote.clone(), entry.local.clone())
    };
    drop(UploadLock::take(shell, &job, &entry.origin)?);
    say!(shell.notices, "resuming {}", job.remote);
    if shell.connected()? != entry.origin {
        return Err(failure!(Unreachable, "another cluster answers at this address now").into());
    }
    let bar = TransferBar::of_file(&shell.notices, &job.remote);
    let sent = send_open(shell, &job, &local, bar)?;
    shell.notices.say(&text::file(&sent));
    Ok(0)
}

/// Resumes a whole folder; equal files are not transferred again.
fn resume_tree(shell: &mut Shell, entry: &TransferEntry) -> Result<u8, ResumeError> {
    let (folder, top) = folder_of(shell, entry)?;
    say!(shell.notices, "resuming {}", entry.remote);
    let several = if entry.task == TransferTask::GetTree {
        fetch_tree(shell, &entry.remote, folder, &top, &entry.local)?
    } else {
        // The local folder must exist.
        let tree =
            LocalTree::below(folder, &top).map_err(|e| ResumeError::Useless(e.to_string()))?;
        send_tree(shell, tree, &entry.remote, &entry.local)?
    };
    // With `--json` failures belong to an object, and this resume has none.
    for failed in several.failed.iter().filter(|_| shell.output.json) {
        shell.notices.say(&failed.failure.message);
    }
    say!(shell.notices, "{}: {}", entry.remote, text::batch(&several));
    let left = several.failed.iter().map(|failed| &failed.failure).filter(|f| is_resumable(f));
    Ok(left.map(|f| if f.code == ErrorCode::Interrupted { 130 } else { 5 }).max().unwrap_or(0))
}

/// Opens the folder of an entry's local name.
///
/// # Errors
/// The name leads out of the folder of `-d` without a signature, or the folder does not exist.
fn folder_of(shell: &Shell, entry: &TransferEntry) -> Result<(Folder, LocalTarget), TreeError> {
    if !entry.is_outside() {
        return inside(shell, &entry.local);
    }
    if entry.signature.is_none() || entry.signature != shell.sign(entry) {
        return Err(refused("it leads out of the local folder, and has no valid signature"));
    }
    let target = match entry.local.strip_suffix("/.") {
        Some(folder) => Some(LocalTarget::folder_itself(PathBuf::from(folder))),
        None => LocalTarget::of(Path::new(&entry.local)),
    };
    let target = target.ok_or_else(|| refused("it is no file name"))?;
    Ok((Folder::open(&target.folder)?, target))
}

/// Opens the folder of a logged name from the folder of `-d`, without following links.
///
/// # Errors
/// The name leads elsewhere, or the folder does not exist.
fn inside(shell: &Shell, log_name: &str) -> Result<(Folder, LocalTarget), TreeError> {
    let (folder, name) = log_name.rsplit_once('/').unwrap_or(("", log_name));
    let below = TreePath::new(folder).map_err(|e| refused(&e.to_string()))?;
    let target =
        LocalTarget { folder: shell.local.home.join(below.as_str()), name: name.to_owned() };
    if log_name.starts_with('/')
        || !target.is_folder_itself() && relais_proto::check_part(name).is_err()
    {
        return Err(refused("it leads out of the local folder"));
    }
    let home = Folder::open(shell.local.home())?;
    let pinned = if below.is_root() { home } else { home.open_folder(&below)? };
    Ok((pinned, target))
}

/// As [`folder_of`], for the name of a file.
fn file_of(shell: &Shell, entry: &TransferEntry) -> Result<(Folder, LocalTarget), TreeError> {
    let (folder, target) = folder_of(shell, entry)?;
    if target.is_folder_itself() || is_reserved(&target.name) {
        return Err(refused("ftpclient uses that name itself"));
    }
    Ok((folder, target))
}

/// The error for a logged name that must not be followed.
fn refused(why: &str) -> TreeError {
    TreeError::Io("use its local name", std::io::Error::other(why.to_owned()))
}

/// Drops unfinished transfers, with their part files, and returns those that were dropped.
///
/// A transfer that another client works on is reported and kept.
///
/// # Errors
/// The `.log` cannot be written, or a part file cannot be removed. Transfers dropped before that
/// stay dropped.
pub fn drop_transfers(
    shell: &mut Shell,
    entries: Vec<TransferEntry>,
) -> Result<Vec<TransferEntry>> {
    let (mut dropped, mut failed) = (Vec::new(), None);
    for entry in entries {
        match drop_parts(shell, &entry) {
            Ok(()) => dropped.push(entry),
            Err(TreeError::InUse) => say!(
                shell.notices,
                "{}: another ftpclient is transferring it; not dropped",
                entry.local
            ),
            Err(e) => {
                failed = Some(tree_failure(&entry.local, &e));
                break;
            }
        }
    }
    forget(shell, &dropped)?;
    failed.map_or(Ok(dropped), Err)
}

fn forget(shell: &Shell, entries: &[TransferEntry]) -> Result<()> {
    TransferLog::open(shell.local.home())?.remove(entries)
}

/// Removes the part files of one transfer; [`TreeError::InUse`] if another client uses them.
fn drop_parts(shell: &Shell, entry: &TransferEntry) -> Result<(), TreeError> {
    let TransferEntry { remote, local, origin, .. } = entry;
    let removed = match &entry.task {
        TransferTask::Put(_) => Folder::open(shell.local.home())
            .and_then(|home| remove_part(&home, &lock_name(remote, local, origin))),
        TransferTask::PutTree => Ok(()),
        TransferTask::Get(_) => {
            part_file(shell, local).and_then(|(folder, part)| remove_part(&folder, &part))
        }
        // The line is untrusted, so the search does not leave the local folder.
        TransferTask::GetTree => {
            let found = folder_of(shell, entry);
            match found.and_then(|(folder, top)| LocalTree::below(folder, &top)) {
                Ok(mut tree) => remove_parts_below(&mut tree),
                Err(e @ (TreeError::NotFound | TreeError::NotFolder)) => Err(e),
                Err(why) => {
                    say!(shell.notices, "{local}: its part files may remain: {why}");
                    Ok(())
                }
            }
        }
    };
    match removed {
        Err(TreeError::NotFound | TreeError::NotFolder) => Ok(()),
        other => other,
    }
}

/// Opens the folder of a download's part file, and returns the name of that file.
fn part_file(shell: &Shell, local: &str) -> Result<(Folder, String), TreeError> {
    let path = shell.local.home.join(local);
    let folder = path.parent().unwrap_or(Path::new(""));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok((Folder::open(openable(folder))?, part_name(&name)))
}

/// Returns the bytes that a download has, also those that a killed client did not log.
pub fn received_bytes(shell: &Shell, local: &str, record: &DownloadRecord) -> u64 {
    // Without a part file the download begins again.
    let part = part_file(shell, local).and_then(|(folder, part)| folder.open_read(part));
    let received = part.ok().and_then(|part| record.0.clone().with_part_of(&part.file).ok());
    received.map_or(0, |resume| resume.good.total())
}

/// Removes a part file or a lock file, if it exists.
fn remove_part(folder: &Folder, name: &str) -> Result<(), TreeError> {
    match folder.open_part_locked(name) {
        // The lock is held until the name is gone.
        Ok(_held) => folder.unlink(name),
        Err(TreeError::NotFound) => Ok(()),
        Err(e) => Err(e),
    }
}

/// Removes all part files below a folder, without following links.
fn remove_parts_below(tree: &mut LocalTree) -> Result<(), TreeError> {
    let listing = list_local(&tree.top, &Interrupt::default()).unwrap_or_default();
    for SkippedName { folder, name, .. } in listing.skipped.iter().filter(|s| is_part(&s.name)) {
        // The folder may have vanished or been replaced meanwhile.
        if let Ok(folder) = tree.folder(folder)
            && folder.stat_part(name.as_bytes()).is_ok_and(|meta| meta.kind == MetaKind::File)
        {
            remove_part(folder, name)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unused_part_files_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("d/e")).unwrap();
        let part = part_name("f");
        for name in ["d/f", "d/e/x.part", "d/e/.relais-x.part"] {
            std::fs::write(at(name), "x").unwrap();
        }
        std::fs::write(at("d/e").join(&part), "x").unwrap();
        std::fs::create_dir(at("outside")).unwrap();
        std::fs::write(at("outside").join(&part), "x").unwrap();
        std::os::unix::fs::symlink("../outside", at("d/link")).unwrap();
        let mut tree = LocalTree::new(Folder::open(&at("d")).unwrap(), &at("d"));
        let held = Folder::open(&at("d/e")).unwrap().open_part_locked(&part).unwrap();
        assert!(matches!(remove_parts_below(&mut tree), Err(TreeError::InUse)));
        drop(held);
        remove_parts_below(&mut tree).unwrap();
        assert!(!at("d/e").join(&part).exists() && at("outside").join(&part).exists());
        assert!(["d/f", "d/e/x.part", "d/e/.relais-x.part"].iter().all(|name| at(name).exists()));
    }

    #[test]
    fn log_names_leading_out_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        let address = "127.0.0.1:1".parse().unwrap();
        let (shell, _) = crate::tests::shell(address, dir.path().to_path_buf(), false);
        for (log_name, name) in [("a/b", "b"), ("b", "b"), ("a/.", "."), (".", ".")] {
            assert_eq!(inside(&shell, log_name).unwrap().1.name, name);
        }
        for bad in ["/a", "/a/b", "../a", "a/../b", "", "a//b", "a/", "./a", "a/..", "a\nb"] {
            assert!(matches!(inside(&shell, bad), Err(TreeError::Io(..))), "{bad:?}");
        }
    }
}
