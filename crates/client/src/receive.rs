//! Fetching one file: into a part file, with an entry in the `.log`, then renamed.
//!
//! The part file is locked throughout, so two clients never write to it at once. A server's names
//! are checked against the reserved names before anything is made.

use std::fs::File;
use std::net::SocketAddr;
use std::time::Instant;

use relais_proto::{ErrorCode, TreePath};
use relais_transfer::download::{self, download};
use relais_transfer::{Progress, Resume, TransferError};
use relais_tree::{Folder, TreeError};

use crate::error::plain;
use crate::interrupt::Interrupt;
use crate::local::LocalTarget;
use crate::local_file::{check_target, open_folder, set_received, tree_failure};
use crate::notices::Notices;
use crate::outcome::TransferredFile;
use crate::progress_bar::TransferBar;
use crate::shell::Shell;
use crate::transfer_log::{LogHandle, TransferEntry, TransferTask, part_name};
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
    let shown = job.target.shown();
    check_target(folder, &job.target.name, &shown)?;
    shell.session.connect()?;
    let part = claim(folder, job).map_err(|e| tree_failure(&shown, &e))?;
    receive_claimed(shell, job, folder, &part, bar)
}

/// Opens and locks the part file.
///
/// # Errors
/// [`TreeError::InUse`] if another client holds the lock.
pub fn claim(folder: &Folder, job: &DownloadJob) -> Result<File, TreeError> {
    folder.create_or_open_part(part_name(&job.target.name))
}

/// Fetches a file into its locked part file.
///
/// # Errors
/// As [`receive`].
pub fn receive_claimed(
    shell: &mut Shell,
    job: &DownloadJob,
    folder: &Folder,
    part: &File,
    bar: TransferBar,
) -> Result<TransferredFile> {
    let (begun, shown, part_name) =
        (Instant::now(), job.target.shown(), part_name(&job.target.name));
    let mut handle = enter_log(shell, job)?;
    let resume = match handle.as_ref().map(LogHandle::task) {
        Some(TransferTask::Get(state)) => state.clone(),
        _ => None,
    };
    let mut progress = DownloadProgress {
        name: job.remote.to_string(),
        notices: shell.notices.clone(),
        interrupt: shell.interrupt.clone(),
        handle: handle.as_mut(),
        warned: false,
        bar,
    };
    let result = download(&mut shell.session, &job.remote, part, resume, &mut progress);
    drop(progress);
    let fetched = match result {
        Ok(fetched) => fetched,
        Err(error) => {
            if !error.can_resume_download() {
                // The part file is useless; after any other failure it is kept.
                let removed = folder.unlink(&part_name).map_err(|e| tree_failure(&part_name, &e));
                let removed =
                    removed.and_then(|()| handle.as_mut().map_or(Ok(()), LogHandle::finish));
                if let Err(failure) = removed {
                    say!(shell.notices, "cannot remove the part file: {failure}");
                }
            }
            return Err(download_failure(error, &shown));
        }
    };
    set_received(part, folder, &job.target.name, fetched.mode, fetched.mtime)
        .and_then(|()| folder.rename(&part_name, &job.target.name))
        .map_err(|e| tree_failure(&shown, &e))?;
    if let Some(Err(failure)) = handle.as_mut().map(LogHandle::finish) {
        say!(shell.notices, "{shown} is complete, but {failure}");
    }
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
        StreamProgress { notices: shell.notices.clone(), interrupt: shell.interrupt.clone() };
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
struct StreamProgress {
    notices: Notices,
    interrupt: Interrupt,
}

impl Progress for StreamProgress {
    fn moved(&mut self, _: SocketAddr, to: SocketAddr, at: u64) {
        if let Some(gone) = self.notices.take_lost() {
            let (from, why) = (gone.addr, gone.why);
            say!(self.notices, "lost {from} ({why}); resuming at byte {at} from {to}");
        }
    }

    fn interrupted(&self) -> bool {
        self.interrupt.is_raised()
    }
}

/// Writes the entry in the `.log`, with the state of an earlier run.
fn enter_log(shell: &Shell, job: &DownloadJob) -> Result<Option<LogHandle>> {
    let origin = shell.origin()?;
    if job.log_name.is_empty() {
        return Ok(None);
    }
    let entry = TransferEntry::new(&job.remote, &job.log_name, &origin, TransferTask::Get(None));
    Ok(LogHandle::enter(shell.local.home(), &shell.notices, entry, |known| {
        known.filter(|_| shell.resume).unwrap_or(TransferTask::Get(None))
    }))
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

/// Progress of one download: the bar, notices about servers, and the entry in the `.log`.
struct DownloadProgress<'a> {
    name: String,
    notices: Notices,
    interrupt: Interrupt,
    /// None if the `.log` cannot be used; the user was told.
    handle: Option<&'a mut LogHandle>,
    warned: bool,
    bar: TransferBar,
}

impl Progress for DownloadProgress<'_> {
    fn started(&mut self, size: u64, resumed_from: u64) {
        self.bar.started(size, resumed_from);
    }

    fn advanced(&mut self, good: u64) {
        self.bar.advanced(good);
    }

    fn moved(&mut self, from: SocketAddr, to: SocketAddr, at: u64) {
        let why = self.notices.take_lost_reason();
        say!(self.notices, "lost {from} ({why}); resuming at byte {at} from {to}");
    }

    fn restarted(&mut self, why: &str) {
        say!(self.notices, "{}: restarting: {why}", self.name);
    }

    fn checkpoint(&mut self, state: &Resume) {
        let Some(handle) = &mut self.handle else { return };
        if let Err(failure) = handle.write(TransferTask::Get(Some(state.clone())))
            && !std::mem::replace(&mut self.warned, true)
        {
            say!(
                self.notices,
                "{}: if interrupted now, it cannot be resumed from here: {failure}",
                self.name
            );
        }
    }

    fn interrupted(&self) -> bool {
        self.interrupt.is_raised()
    }
}
