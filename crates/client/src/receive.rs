//! Fetching one file: into a part file, with an entry in the `.log`, then renamed.
//!
//! The part file is locked throughout, so two clients never write to it at once. A server's names
//! are checked against the reserved names before anything is made.

use std::net::SocketAddr;
use std::time::Instant;

use relais_proto::{ErrorCode, TreePath};
use relais_transfer::download::{self, download};
use relais_transfer::{Progress, TransferError};
use relais_tree::Folder;

use crate::error::plain;
use crate::interrupt::Interrupt;
use crate::local::LocalTarget;
use crate::local_file::{check_target, open_folder, set_received, tree_failure};
use crate::notices::Notices;
use crate::outcome::TransferredFile;
use crate::progress_bar::TransferBar;
use crate::shell::Shell;
use crate::transfer_log::{DownloadRecord, LogHandle, TransferTask, part_name};
use crate::transfer_progress::{TransferProgress, damaged_text, lost_text};
use crate::{Failure, Result};

/// One file to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownloadJob {
    pub remote: TreePath,
    pub target: LocalTarget,
    /// Local name for the `.log`; empty for a file without its own entry.
    pub log_name: String,
}

/// Fetches the file that a command names, and resumes an earlier download.
///
/// # Errors
/// See [`Failure`]; the code is `cut` if the download can be resumed.
pub fn receive(shell: &mut Shell, job: &DownloadJob) -> Result<TransferredFile> {
    let bar = TransferBar::of_file(&shell.notices, &job.remote);
    receive_into(shell, job, &open_folder(&job.target.folder)?, bar)
}

/// Fetches a file into `folder`.
///
/// # Errors
/// As [`receive`].
pub fn receive_into(
    shell: &mut Shell,
    job: &DownloadJob,
    folder: &Folder,
    bar: TransferBar,
) -> Result<TransferredFile> {
    let begun = Instant::now();
    let (shown, part_name) = (job.target.shown(), part_name(&job.target.name));
    check_target(folder, &job.target.name, &shown)?;
    shell.session.connect()?;
    let part = &folder.create_or_open_part(&part_name).map_err(|e| tree_failure(&shown, &e))?;
    let new = TransferTask::Get(None);
    let mut handle = LogHandle::enter(shell, &job.remote, &job.log_name, new, |known| known)?;
    let resume = match handle.task() {
        TransferTask::Get(Some(DownloadRecord(state))) => Some(state.clone()),
        _ => None,
    };
    let mut progress = TransferProgress::new(shell, &job.remote, Some(&mut handle), bar);
    let result = download(&mut shell.session, &job.remote, part, resume, &mut progress);
    drop(progress);
    let fetched = match result {
        Ok(fetched) => fetched,
        Err(error) => {
            if !error.can_resume_download() {
                // The part file is useless; after any other failure it is kept.
                match folder.unlink(&part_name) {
                    Ok(()) => handle.finish(),
                    Err(e) => {
                        let failure = tree_failure(&part_name, &e);
                        say!(shell.notices, "cannot remove the part file: {failure}");
                    }
                }
            }
            return Err(download_failure(error, &shown));
        }
    };
    set_received(part, folder, &job.target.name, fetched.mode, fetched.mtime)
        .and_then(|()| folder.rename(&part_name, &job.target.name))
        .map_err(|e| tree_failure(&shown, &e))?;
    handle.finish();
    Ok(TransferredFile::new(
        job.remote.to_string(),
        shown,
        fetched.size,
        begun,
        &fetched.servers,
        fetched.resumed_from,
    ))
}

/// Writes the content of `path` to standard output.
///
/// # Errors
/// See [`Failure`]; part of the content may have been written.
pub fn receive_to_output(shell: &mut Shell, path: &TreePath) -> Result<TransferredFile> {
    let begun = Instant::now();
    shell.session.connect()?;
    let (mut out, output) = (0, &mut shell.output);
    let mut progress =
        StreamProgress { path, notices: shell.notices.clone(), interrupt: shell.interrupt.clone() };
    let mut sink = |bytes: &[u8]| {
        output.content(bytes)?;
        out += bytes.len() as u64;
        Ok(())
    };
    let result = download::stream(&mut shell.session, path, &mut sink, &mut progress);
    let completed = result.map_err(|error| match error {
        TransferError::Unreachable(why) if out > 0 => failure!(Cut, "cut at byte {out}: {why}"),
        error => error.into(),
    })?;
    shell.output.flush()?;
    let (remote, local, servers) = (path.to_string(), "-".to_owned(), &completed.servers);
    Ok(TransferredFile::new(remote, local, completed.size, begun, servers, 0))
}

/// Notices about servers during a stream.
struct StreamProgress<'a> {
    path: &'a TreePath,
    notices: Notices,
    interrupt: Interrupt,
}

impl Progress for StreamProgress<'_> {
    fn moved(&mut self, _: SocketAddr, to: SocketAddr, at: u64) {
        if let Some(gone) = self.notices.take_lost() {
            say!(self.notices, "{}", lost_text(gone.addr, &gone.why, to, at));
        }
    }

    fn damaged(&mut self, from: SocketAddr, pieces: u64) {
        say!(self.notices, "{}", damaged_text(from, pieces, self.path));
    }

    fn interrupted(&self) -> bool {
        self.interrupt.is_raised()
    }
}

/// Converts the error of a download into a failure for the user.
fn download_failure(error: TransferError, shown: &str) -> Failure {
    match error {
        TransferError::Refused(refusal) if refusal.code == ErrorCode::NoContent => {
            failure!(NoContent, "{refusal}; run the same get again to resume")
        }
        TransferError::Interrupted => {
            failure!(Interrupted, "interrupted; the same get, or the next prompt, resumes it")
        }
        TransferError::Local { what, error } => {
            failure!(Local, "{shown}: {what}: {}", plain(&error))
        }
        TransferError::Unreachable(why) => {
            failure!(Cut, "the transfer was cut: {why}; run the same get again to resume")
        }
        other => other.into(),
    }
}
