//! Fetching one file: into a part file, with an entry in the `.log`, then renamed.
//!
//! Files are opened, renamed and removed through a pinned folder only. The part file is locked
//! throughout, so two clients never write to it at once. A server's names are checked against the
//! reserved names before anything is made.

mod drop;
mod progress;
mod resume;
mod stream;

use std::fs::File;
use std::path::Path;
use std::time::Instant;

use relais_proto::{ErrorCode, Mode, TreePath};
use relais_transfer::TransferError;
use relais_transfer::download::{CompletedDownload, Resume, download};
use relais_tree::{Folder, MetaKind, TreeError, UnservedKind, set_mode, set_times, umask};

use crate::error::plain;
use crate::local::{LocalTarget, openable};
use crate::origin::Origin;
use crate::outcome::Received;
use crate::saved_state::now;
use crate::shell::Shell;
use crate::transfer_log::{LogHandle, TransferEntry, TransferTask, is_reserved, part_name};
use crate::{Failure, Result};
use progress::DownloadProgress;

/// One file to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownloadJob {
    pub remote: TreePath,
    pub target: LocalTarget,
    /// Local name for the `.log`; empty for a file without its own entry.
    pub log_name: String,
}

impl Shell {
    /// Fetches the file that a command names, and resumes an earlier download.
    ///
    /// # Errors
    /// See [`Failure`]; the code is `cut` if the download can be resumed.
    pub fn receive_named(&mut self, job: &DownloadJob) -> Result<Received> {
        let folder = openable(&job.target.folder);
        let folder =
            Folder::open(folder).map_err(|e| local_failure(&folder.display().to_string(), &e))?;
        self.receive(job, &folder)
    }

    /// Fetches a file into `folder`.
    ///
    /// # Errors
    /// As [`Self::receive_named`].
    pub fn receive(&mut self, job: &DownloadJob, folder: &Folder) -> Result<Received> {
        let shown = job.target.shown();
        check_name(&job.target.name).map_err(|failure| failure.of(&shown))?;
        check_free(folder, &job.target.name).map_err(|e| local_failure(&shown, &e))?;
        self.session.connect()?;
        let part = claim(folder, job).map_err(|e| local_failure(&shown, &e))?;
        self.receive_into(job, folder, &part)
    }

    /// Fetches a file into its locked part file.
    fn receive_into(
        &mut self,
        job: &DownloadJob,
        folder: &Folder,
        part: &File,
    ) -> Result<Received> {
        let (begun, shown) = (Instant::now(), job.target.shown());
        let Some(origin) = self.session.origin().cloned() else {
            fail!(Unreachable, "no server is connected");
        };
        let part_name = part_name(&job.target.name);
        let part_file = PartFile { folder, part, part_name: &part_name };
        let (mut handle, resume) = self.enter_log(job, origin);
        let mut progress = DownloadProgress::new(
            &job.remote,
            self.notices.clone(),
            self.interrupt.clone(),
            handle.as_mut(),
        );
        let result = download(&mut self.session, &job.remote, part, resume, &mut progress);
        drop(progress);
        let fetched = match result {
            Ok(fetched) => fetched,
            Err(error) => {
                if is_gone(error.code()) {
                    self.drop_part(&part_file, handle.as_mut());
                }
                return Err(download_failure(error, &shown));
            }
        };
        part_file.name(&fetched, &job.target.name).map_err(|e| local_failure(&shown, &e))?;
        if let Some(Err(failure)) = handle.as_mut().map(LogHandle::finish) {
            self.notices.say(&format!("{shown} is complete, but {failure}"));
        }
        Ok(Received {
            remote: job.remote.to_string(),
            local: shown,
            bytes: fetched.size,
            time: begun.elapsed(),
            slaves: fetched.servers.iter().map(ToString::to_string).collect(),
            resumed_from: fetched.resumed_from,
        })
    }
}

impl Shell {
    /// Writes the entry in the `.log` and returns the state to resume from.
    ///
    /// Without a `.log` the transfer still works.
    fn enter_log(&self, job: &DownloadJob, origin: Origin) -> (Option<LogHandle>, Option<Resume>) {
        if job.log_name.is_empty() {
            return (None, None);
        }
        let entry = TransferEntry {
            remote: job.remote.clone(),
            local: job.log_name.clone(),
            origin,
            since: now(),
            task: TransferTask::Get(None),
        };
        let entered = LogHandle::open(self.local.home(), entry).and_then(|mut handle| {
            let resume = match handle.read()? {
                Some(TransferTask::Get(state)) if self.resume => state,
                _ => None,
            };
            handle.write(TransferTask::Get(resume.clone()))?;
            Ok((handle, resume))
        });
        match entered {
            Ok((handle, resume)) => (Some(handle), resume),
            Err(failure) => {
                self.notices.say(&format!(
                    "{}: if interrupted, it cannot be resumed: {failure}",
                    job.remote
                ));
                (None, None)
            }
        }
    }

    /// Removes the part file of a file that no longer exists on the server.
    fn drop_part(&self, part_file: &PartFile<'_>, handle: Option<&mut LogHandle>) {
        let removed = part_file.discard().map_err(|e| local_failure(part_file.part_name, &e));
        let result = removed.and_then(|()| handle.map_or(Ok(()), LogHandle::finish));
        if let Err(failure) = result {
            self.notices.say(&format!("cannot remove the part file: {failure}"));
        }
    }
}

/// The file that holds the content until it is complete.
struct PartFile<'a> {
    folder: &'a Folder,
    part: &'a File,
    part_name: &'a str,
}

impl PartFile<'_> {
    /// Sets the time and mode of the complete content, and renames it.
    ///
    /// The file is not synced: like other download programs, the client leaves that to the system.
    fn name(&self, fetched: &CompletedDownload, name: &str) -> Result<(), TreeError> {
        set_received_mode(self.part, self.folder, name, fetched.mode)?;
        set_times(self.part, fetched.mtime)?;
        self.folder.rename(self.part_name, name)
    }

    /// Removes the part file.
    fn discard(&self) -> Result<(), TreeError> {
        self.folder.unlink(self.part_name)
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

/// Sets the mode of a fetched file before it gets its name.
///
/// The mode is that of the replaced file, else the server's mode without the umask's bits.
///
/// # Errors
/// A system call fails.
pub(crate) fn set_received_mode(
    file: &File,
    folder: &Folder,
    name: &str,
    mode: Mode,
) -> Result<(), TreeError> {
    let mode = match folder.stat_part(name.as_bytes()) {
        Ok(there) if there.kind == MetaKind::File => there.mode,
        Ok(_) | Err(TreeError::NotFound) => mode.masked(umask()),
        Err(e) => return Err(e),
    };
    set_mode(file, mode)
}

/// Opens and locks the part file; [`TreeError::InUse`] if another client holds the lock.
fn claim(folder: &Folder, job: &DownloadJob) -> Result<File, TreeError> {
    folder.create_or_open_part(part_name(&job.target.name))
}

/// Whether no server can have the file any more.
///
/// The part file is then useless; after any other failure it is kept.
fn is_gone(code: ErrorCode) -> bool {
    use ErrorCode::{BadName, IsFolder, NotFolder, NotFound, NotServed};
    matches!(code, NotFound | IsFolder | NotFolder | NotServed | BadName)
}

/// Refuses reserved names.
fn check_name(name: &str) -> Result<()> {
    if is_reserved(name) {
        fail!(Local, "ftpclient uses that name itself; choose another with -o");
    }
    Ok(())
}

/// Refuses a name that a folder or a device has, before anything is fetched.
fn check_free(folder: &Folder, name: &str) -> Result<(), TreeError> {
    match folder.stat_part(name.as_bytes()) {
        Ok(meta) if meta.kind == MetaKind::Folder => Err(TreeError::IsFolder),
        // A device or FIFO must not be replaced. A link is replaced itself, never its target.
        Ok(meta) if meta.kind == MetaKind::Special => {
            Err(TreeError::NotServed(UnservedKind::Special))
        }
        Ok(_) | Err(TreeError::NotFound) => Ok(()),
        Err(e) => Err(e),
    }
}

/// The failure for an error in the local folder.
pub fn local_failure(shown: &str, error: &TreeError) -> Failure {
    let why = match error {
        TreeError::InUse => "another ftpclient is fetching it".to_owned(),
        TreeError::IsFolder => "a folder has that name".to_owned(),
        TreeError::NotFound => "no such folder".to_owned(),
        TreeError::NotServed(_) => {
            "the name, or its temporary name, belongs to something other than a regular file"
                .to_owned()
        }
        other => other.to_string(),
    };
    let shown =
        if shown.is_empty() { Path::new(".").display().to_string() } else { shown.to_owned() };
    failure!(Local, "{shown}: {why}")
}
