//! Bringing one file in: a part file in the folder it goes to, a line in the `.log`, the
//! transfer, and only then the name.
//!
//! Files are opened, renamed and removed through a pinned folder alone. The part file's lock
//! is held throughout, so two clients never write one file. What a server names is checked
//! against our own names before anything is made.

mod drop;
mod progress;
mod resume;
mod stream;

use std::fs::File;
use std::path::Path;
use std::time::Instant;

use relais_proto::{ErrorCode, Mode, TreePath};
use relais_transfer::download::{CompletedDownload, DownloadError, Resume, download};
use relais_tree::{Folder, MetaKind, TreeError, UnservedKind, set_mode, set_times, umask};

use crate::Failure;
use crate::error::plain;
use crate::local::{LocalTarget, openable};
use crate::origin::Origin;
use crate::outcome::Received;
use crate::saved_state::now;
use crate::shell::Shell;
use crate::transfer_log::{LogHandle, TransferEntry, TransferTask, is_reserved, part_name};
use progress::DownloadProgress;

/// One file to be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownloadJob {
    /// Which file.
    pub remote: TreePath,
    /// Where it goes.
    pub target: LocalTarget,
    /// The local name as the `.log` has it; empty for a file that has no line of its own.
    pub log_name: String,
}

impl Shell {
    /// Fetches what a command names; resumes what an earlier one has left of it.
    ///
    /// # Errors
    /// See [`Failure`]; code `cut` where it can be carried on.
    pub fn receive_named(&mut self, job: &DownloadJob) -> Result<Received, Failure> {
        let folder = openable(&job.target.folder);
        let folder =
            Folder::open(folder).map_err(|e| local_failure(&folder.display().to_string(), &e))?;
        self.receive(job, &folder)
    }

    /// Fetches a file into `folder`.
    ///
    /// # Errors
    /// As [`Self::receive_named`].
    pub fn receive(&mut self, job: &DownloadJob, folder: &Folder) -> Result<Received, Failure> {
        let shown = job.target.shown();
        check_name(&job.target.name).map_err(|failure| failure.of(&shown))?;
        check_free(folder, &job.target.name).map_err(|e| local_failure(&shown, &e))?;
        self.session.connect()?;
        let part = claim(folder, job).map_err(|e| local_failure(&shown, &e))?;
        self.receive_into(job, folder, &part)
    }

    /// Fetches a file into its part file, which is locked.
    fn receive_into(
        &mut self,
        job: &DownloadJob,
        folder: &Folder,
        part: &File,
    ) -> Result<Received, Failure> {
        let (begun, shown) = (Instant::now(), job.target.shown());
        let Some(origin) = self.session.origin().cloned() else {
            return Err(Failure::new(ErrorCode::Unreachable, "no server is connected"));
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
                return Err(given_up(&error, &shown));
            }
        };
        part_file.name(&fetched, &job.target.name).map_err(|e| local_failure(&shown, &e))?;
        if let Some(Err(failure)) = handle.as_mut().map(LogHandle::finish) {
            self.notices.say(&format!("{shown} is there, but {failure}"));
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
    /// The transfer's line in the `.log`, and from where it goes on. Without a `.log` the
    /// transfer is still worth making.
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
                self.notices
                    .say(&format!("{}: cut off it could not be carried on: {failure}", job.remote));
                (None, None)
            }
        }
    }

    /// Removes what was fetched of a file that cannot be had any more.
    fn drop_part(&self, part_file: &PartFile<'_>, handle: Option<&mut LogHandle>) {
        let removed = part_file.discard().map_err(|e| local_failure(part_file.part_name, &e));
        let result = removed.and_then(|()| handle.map_or(Ok(()), LogHandle::finish));
        if let Err(failure) = result {
            self.notices.say(&format!("what was fetched before is still there: {failure}"));
        }
    }
}

/// Where the bytes are until they have their name.
struct PartFile<'a> {
    folder: &'a Folder,
    part: &'a File,
    part_name: &'a str,
}

impl PartFile<'_> {
    /// Gives the whole content its time, its mode and its name. It is not synced: like other
    /// download programs, the client leaves it to the system when it goes to the disk.
    fn name(&self, fetched: &CompletedDownload, name: &str) -> Result<(), TreeError> {
        set_received_mode(self.part, self.folder, name, fetched.mode)?;
        set_times(self.part, fetched.mtime)?;
        self.folder.rename(self.part_name, name)
    }

    /// Removes what was fetched.
    fn discard(&self) -> Result<(), TreeError> {
        self.folder.unlink(self.part_name)
    }
}

/// What the user is told of a transfer that failed.
fn given_up(error: &DownloadError, shown: &str) -> Failure {
    match error {
        DownloadError::Refused(refusal) if refusal.code == ErrorCode::NoContent => Failure::new(
            ErrorCode::NoContent,
            format!("{refusal}; it can be resumed: the same get carries it on"),
        ),
        DownloadError::Refused(refusal) => refusal.clone().into(),
        DownloadError::Interrupted => Failure::new(
            ErrorCode::Interrupted,
            "interrupted; the same get, or the next prompt, resumes it",
        ),
        DownloadError::Local { what, error } => {
            Failure::new(ErrorCode::Local, format!("{shown}: {what}: {}", plain(error)))
        }
        // For one file these mean the same to the user: it is not here, and can be carried on.
        DownloadError::Unreachable(_) | DownloadError::Cut { .. } => {
            Failure::new(ErrorCode::Cut, format!("{error}; the same get carries it on"))
        }
        other => Failure::new(other.code(), other.to_string()),
    }
}

/// Gives what was fetched its mode, before its name: that of the file that it replaces, else the server's without the umask's bits.
///
/// # Errors
/// What the system says.
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

/// Takes the part file, made where it is missing; [`TreeError::InUse`] where another client has it.
fn claim(folder: &Folder, job: &DownloadJob) -> Result<File, TreeError> {
    folder.create_or_open_part(part_name(&job.target.name))
}

/// Whether the file cannot be had any more, whoever asks and whenever. What was fetched of it
/// is of no use then; after any other failure it is kept.
fn is_gone(code: ErrorCode) -> bool {
    use ErrorCode::{BadName, IsFolder, NotFolder, NotFound, NotServed};
    matches!(code, NotFound | IsFolder | NotFolder | NotServed | BadName)
}

/// Refuses the names that the client uses for itself.
fn check_name(name: &str) -> Result<(), Failure> {
    if is_reserved(name) {
        return Err(Failure::new(
            ErrorCode::Local,
            "ftpclient uses that name itself; choose another with -o",
        ));
    }
    Ok(())
}

/// A folder or a device in the way is told before anything is fetched.
fn check_free(folder: &Folder, name: &str) -> Result<(), TreeError> {
    match folder.stat_part(name.as_bytes()) {
        Ok(meta) if meta.kind == MetaKind::Folder => Err(TreeError::IsFolder),
        // A device or FIFO is no content that could be replaced. A link is: its place is taken, never its target.
        Ok(meta) if meta.kind == MetaKind::Special => {
            Err(TreeError::NotServed(UnservedKind::Special))
        }
        Ok(_) | Err(TreeError::NotFound) => Ok(()),
        Err(e) => Err(e),
    }
}

/// A failure of the local folder.
pub fn local_failure(shown: &str, error: &TreeError) -> Failure {
    let why = match error {
        TreeError::InUse => "another ftpclient is fetching it".to_owned(),
        TreeError::IsFolder => "a folder has that name".to_owned(),
        TreeError::NotFound => "no such folder".to_owned(),
        TreeError::NotServed(_) => {
            "something that is no regular file has that name, or its temporary one".to_owned()
        }
        other => other.to_string(),
    };
    let shown =
        if shown.is_empty() { Path::new(".").display().to_string() } else { shown.to_owned() };
    Failure::new(ErrorCode::Local, format!("{shown}: {why}"))
}
