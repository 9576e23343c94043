//! Sending one file: with an entry in the `.log`, until the server acknowledges it.
//!
//! The `.log` has the id of an upload before the first byte is sent. A later run can therefore
//! resume the partial upload of a slave, and a put whose answer was lost is not made twice. During
//! the upload an empty file beside the `.log` is locked, so two clients never send the same upload.
//! The local file is only read.

mod input;
mod open;
mod progress;
mod resume;

use std::path::PathBuf;
use std::time::Instant;

use log::debug;
use relais_proto::{ErrorCode, Expect, TreePath};
use relais_transfer::TransferError;
use relais_transfer::upload::{CompletedUpload, UploadSource, UploadTarget, put};
use relais_tree::{Folder, OpenFile, TreeError};

use crate::error::plain;
use crate::origin::{Origin, host_key};
use crate::outcome::Sent;
use crate::saved_state::now;
use crate::session::new_id;
use crate::shell::Shell;
use crate::transfer_log::{
    LogHandle, TransferEntry, TransferTask, UploadRecord, lock_name, read_log,
};
use crate::{Failure, Result};
use progress::UploadProgress;

/// One file to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadJob {
    /// File to open; links are followed, because the user named it.
    pub local: PathBuf,
    /// Local name for messages.
    pub shown: String,
    pub remote: TreePath,
    /// Local name for the `.log`; empty for a file without its own entry.
    pub log_name: String,
    /// Expected remote version: the user's choice, or the version at the start of a resumed upload.
    pub expect: Expect,
    /// Whether the prompt resumes the upload.
    ///
    /// If a command names the file, the file is stored as it is now, whatever an earlier command
    /// has done.
    pub resumed: bool,
}

/// The lock on an upload; other clients leave the upload to its holder.
struct UploadLock {
    folder: Folder,
    name: String,
    /// The lock belongs to this file handle.
    _file: std::fs::File,
}

impl Drop for UploadLock {
    fn drop(&mut self) {
        if let Err(e) = self.folder.unlink(&self.name) {
            debug!("{} stays, and is empty: {e}", self.name);
        }
    }
}

impl Shell {
    /// Sends the file that a command names, and resumes an earlier upload of the same content.
    ///
    /// # Errors
    /// See [`Failure`]; the code is `cut` if the upload can be resumed.
    pub fn send_named(&mut self, job: &UploadJob) -> Result<Sent> {
        let local = open::named(&job.local, &job.shown)?;
        self.send_open(job, &local)
    }

    /// As [`Self::send_named`], for an open file.
    ///
    /// # Errors
    /// As [`Self::send_named`].
    pub fn send_open(&mut self, job: &UploadJob, local: &OpenFile) -> Result<Sent> {
        self.prefer_holder_of(job);
        let origin = self.connected()?;
        match self.lock_upload(job, &origin) {
            Ok(lock) => self.send(job, local, &origin, lock),
            Err(TreeError::InUse) => {
                Err(failure!(Local, "{}: another ftpclient is sending it", job.shown))
            }
            Err(e) => {
                debug!("no lock for {}: {e}", job.shown);
                self.send(job, local, &origin, None)
            }
        }
    }

    /// Sends an open file under its lock.
    fn send(
        &mut self,
        job: &UploadJob,
        local: &OpenFile,
        origin: &Origin,
        lock: Option<UploadLock>,
    ) -> Result<Sent> {
        let begun = Instant::now();
        let (mut handle, mut upload, mut is_old) = self.enter_upload(job, local, origin)?;
        let source = UploadSource {
            file: &local.file,
            size: local.meta.size,
            mtime: local.meta.mtime,
            mode: local.meta.mode,
        };
        let (result, resumed_from) = loop {
            let mut progress = UploadProgress::new(&job.remote, self, handle.as_mut(), upload);
            let target = UploadTarget {
                id: upload.id,
                is_old,
                path: &job.remote,
                expect: upload.expect,
                copies: self.copies,
            };
            let result = put(&mut self.session, &source, &target, &mut progress);
            let resumed_from = progress.resumed_from();
            drop(progress);
            if !matches!(result, Err(TransferError::Superseded)) || job.resumed || !is_old {
                break (result, resumed_from);
            }
            // An earlier command stored the file, which is no longer there: this command stores it
            // again.
            debug!("{}: the file stored before is no longer there", job.remote);
            upload = UploadRecord { id: new_id()?, slave: None, sent: 0, ..upload };
            is_old = false;
            if let Some(handle) = &mut handle {
                handle.write(TransferTask::Put(upload))?;
            }
        };
        self.session.prefer(None);
        let is_over = result.as_ref().map_or_else(is_over, |_| true);
        if let Some(handle) = handle.as_mut().filter(|_| is_over)
            && let Err(failure) = handle.finish()
        {
            self.notices.say(&format!("{} is finished, but {failure}", job.remote));
        }
        drop(lock);
        let stored = result.map_err(|error| self.upload_failure(error, job, handle.is_some()))?;
        self.session.record_lsn(stored.version);
        Ok(sent(job.remote.to_string(), job.shown.clone(), begun, stored, resumed_from))
    }

    /// Returns the origin of the connected server, and connects first if needed.
    pub fn connected(&mut self) -> Result<Origin> {
        self.session.connect()?;
        self.session
            .origin()
            .cloned()
            .ok_or_else(|| failure!(Unreachable, "no server is connected"))
    }

    /// Takes the lock of an upload; [`TreeError::InUse`] if another client holds it.
    fn lock_upload(
        &self,
        job: &UploadJob,
        origin: &Origin,
    ) -> Result<Option<UploadLock>, TreeError> {
        if job.log_name.is_empty() {
            return Ok(None);
        }
        let folder = Folder::open(self.local.home())?;
        let name = lock_name(&job.remote, &job.log_name, origin);
        let file = folder.create_or_open_part(&name)?;
        Ok(Some(UploadLock { folder, name, _file: file }))
    }

    /// Prefers the slave that holds the partial upload of this file.
    fn prefer_holder_of(&mut self, job: &UploadJob) {
        if !self.resume || job.log_name.is_empty() {
            return;
        }
        let host = host_key(self.session.host());
        let holder = |entry: &TransferEntry| match entry.task {
            TransferTask::Put(UploadRecord { slave, .. })
                if entry.remote == job.remote
                    && entry.local == job.log_name
                    && entry.origin.host == host =>
            {
                slave
            }
            _ => None,
        };
        // Errors of the `.log` are reported when the entry is written.
        let slave = read_log(self.local.home())
            .ok()
            .and_then(|contents| contents.entries.iter().find_map(holder));
        if slave.is_some() {
            self.session.prefer(slave);
        }
    }

    /// Writes the entry in the `.log`; returns it with the upload and whether that began earlier.
    ///
    /// A new upload has a new id. Without a `.log` the upload still works.
    fn enter_upload(
        &self,
        job: &UploadJob,
        local: &OpenFile,
        origin: &Origin,
    ) -> Result<(Option<LogHandle>, UploadRecord, bool)> {
        let (size, identity) = (local.meta.size, open::identity(local));
        let new = UploadRecord {
            id: new_id()?,
            slave: None,
            size,
            identity,
            expect: job.expect,
            sent: 0,
        };
        if job.log_name.is_empty() {
            return Ok((None, new, false));
        }
        let entry = TransferEntry {
            remote: job.remote.clone(),
            local: job.log_name.clone(),
            origin: origin.clone(),
            since: now(),
            task: TransferTask::Put(new),
        };
        let entered = LogHandle::open(self.local.home(), entry).and_then(|mut handle| {
            let upload = self.upload_of(job, handle.read()?, new);
            handle.write(TransferTask::Put(upload))?;
            Ok((handle, upload))
        });
        Ok(match entered {
            Ok((handle, upload)) => (Some(handle), upload, upload.id != new.id),
            Err(failure) => {
                self.notices.say(&format!(
                    "{}: if interrupted, it cannot be resumed: {failure}",
                    job.remote
                ));
                (None, new, false)
            }
        })
    }

    /// Returns the earlier upload if it can be resumed, else `new`.
    fn upload_of(
        &self,
        job: &UploadJob,
        known: Option<TransferTask>,
        new: UploadRecord,
    ) -> UploadRecord {
        let Some(TransferTask::Put(known)) = known.filter(|_| self.resume) else { return new };
        if (known.size, known.identity) != (new.size, new.identity) {
            self.notices
                .say(&format!("{} was changed since it was sent in part; restarting", job.shown));
            return new;
        }
        // The expectation of the current command counts.
        UploadRecord { expect: job.expect, ..known }
    }
}

/// Builds the outcome; `resumed_from` is the offset of the first try, none if nothing was sent.
fn sent(
    remote: String,
    local: String,
    begun: Instant,
    stored: CompletedUpload,
    resumed_from: Option<u64>,
) -> Sent {
    Sent {
        remote,
        local,
        bytes: stored.size,
        time: begun.elapsed(),
        slaves: stored.servers.iter().map(ToString::to_string).collect(),
        resumed_from: resumed_from
            .map_or(stored.resumed_from, |first| first.min(stored.resumed_from)),
        version: stored.version,
        copies: stored.copies,
    }
}

/// Whether the upload cannot be resumed: a retry would fail the same way, or send other content.
fn is_over(error: &TransferError) -> bool {
    !error.can_resume_upload()
}

/// The failure for a file that fewer disks hold than demanded; the change stands.
pub fn too_few_copies(message: &str) -> Failure {
    let message = if message.contains("stands") {
        message.to_owned()
    } else {
        format!("{message}; the change stands")
    };
    Failure::new(ErrorCode::TooFewCopies, message)
}

impl Shell {
    /// Converts the error of an upload into a failure for the user.
    ///
    /// `in_log` says whether the same command can resume it.
    fn upload_failure(&self, error: TransferError, job: &UploadJob, in_log: bool) -> Failure {
        let failure = match error {
            TransferError::Refused(refusal)
                if refusal.code == ErrorCode::Changed && job.resumed =>
            {
                let why = "the remote file was changed since this put began; \
                           run the same put again to replace it";
                failure!(Changed, "{}: {why}", job.remote)
            }
            TransferError::Refused(refusal) if refusal.code == ErrorCode::TooFewCopies => {
                too_few_copies(&refusal.message)
            }
            TransferError::Refused(refusal) if refusal.code == ErrorCode::NoChanges => {
                Failure::new(refusal.code, self.session.why_no_changes(&refusal.message))
            }
            TransferError::Interrupted if in_log => {
                failure!(Interrupted, "interrupted; the same put, or the next prompt, resumes it")
            }
            TransferError::Local { error, .. } => {
                failure!(Local, "{}: {}", job.shown, plain(&error))
            }
            TransferError::SourceChanged => {
                failure!(Local, "{} was changed while it was sent; nothing was stored", job.shown)
            }
            TransferError::Unreachable(why) => {
                let end = if in_log { "; run the same put again to resume" } else { "" };
                failure!(Cut, "the transfer was cut: {why}{end}")
            }
            TransferError::Superseded => failure!(
                Conflict,
                "the file was stored before and has been changed since; \
                 run the same put again to replace it"
            ),
            other => other.into(),
        };
        crate::shell::with_path(&job.remote, failure)
    }
}
