//! Sending one file: with an entry in the `.log`, until the server acknowledges it.
//!
//! The `.log` has the id of an upload before the first byte is sent. A later run can therefore
//! resume the partial upload of a slave, and a put whose answer was lost is not made twice. During
//! the upload an empty file beside the `.log` is locked, so two clients never send the same upload.
//! The local file is only read.
//!
//! Standard input is read once and not stored. After the first byte it can be neither resumed nor
//! sent to another server.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use log::debug;
use relais_proto::{ErrorCode, Expect, TreePath};
use relais_transfer::TransferError;
use relais_transfer::upload::{CompletedUpload, UploadSource, UploadTarget, put, put_stream};
use relais_tree::{Folder, OpenFile, TreeError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::error::plain;
use crate::interrupt::Interrupt;
use crate::local_file::{identity, open_named};
use crate::origin::{Origin, host_key};
use crate::outcome::{StoredFile, TransferredFile};
use crate::progress_bar::TransferBar;
use crate::session::new_id;
use crate::shell::{Shell, with_path};
use crate::transfer_log::{
    LogHandle, TransferEntry, TransferTask, UploadRecord, lock_name, read_log,
};
use crate::transfer_progress::TransferProgress;
use crate::{Failure, Result};

/// How long a read of standard input waits before it checks for an interruption.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// One file to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadJob {
    /// File to open; links are followed, because the user named it.
    pub local: PathBuf,
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

impl UploadJob {
    /// Describes a file that is stored whatever its remote version is.
    pub fn new(local: PathBuf, remote: TreePath, log_name: String) -> Self {
        Self { local, remote, log_name, expect: Expect::Any, resumed: false }
    }

    /// Returns the local name for messages.
    pub fn shown(&self) -> String {
        self.local.display().to_string()
    }
}

/// The lock on an upload; other clients leave the upload to its holder.
pub struct UploadLock {
    folder: Folder,
    name: String,
    /// The lock belongs to this file handle.
    _file: std::fs::File,
}

impl UploadLock {
    /// Takes the lock of an upload; none for a file without its own entry in the `.log`.
    ///
    /// # Errors
    /// [`TreeError::InUse`] if another client holds it. After other errors the upload still works.
    pub fn take(
        shell: &Shell,
        job: &UploadJob,
        origin: &Origin,
    ) -> Result<Option<Self>, TreeError> {
        if job.log_name.is_empty() {
            return Ok(None);
        }
        let lock = || {
            let folder = Folder::open(shell.local.home())?;
            let name = lock_name(&job.remote, &job.log_name, origin);
            let file = folder.create_or_open_part(&name)?;
            Ok(Self { folder, name, _file: file })
        };
        match lock() {
            Ok(lock) => Ok(Some(lock)),
            Err(TreeError::InUse) => Err(TreeError::InUse),
            Err(e) => {
                debug!("no lock for {}: {e}", job.shown());
                Ok(None)
            }
        }
    }
}

impl Drop for UploadLock {
    fn drop(&mut self) {
        if let Err(e) = self.folder.unlink(&self.name) {
            debug!("{} stays, and is empty: {e}", self.name);
        }
    }
}

/// Sends the file that a command names, and resumes an earlier upload of the same content.
///
/// # Errors
/// See [`Failure`]; the code is `cut` if the upload can be resumed.
pub fn send(shell: &mut Shell, job: &UploadJob) -> Result<TransferredFile> {
    let local = open_named(&job.local, &job.shown())?;
    let bar = TransferBar::of_file(&shell.notices, &job.remote);
    send_open(shell, job, &local, bar)
}

/// As [`send`], for an open file; other clients leave the upload to this one meanwhile.
///
/// # Errors
/// As [`send`].
pub fn send_open(
    shell: &mut Shell,
    job: &UploadJob,
    local: &OpenFile,
    bar: TransferBar,
) -> Result<TransferredFile> {
    prefer_holder(shell, Some(job));
    let origin = shell.connected()?;
    let lock = UploadLock::take(shell, job, &origin)
        .map_err(|_| failure!(Local, "{}: another ftpclient is sending it", job.shown()))?;
    let begun = Instant::now();
    let (id, size, identity) = (new_id()?, local.meta.size, identity(local));
    let new = UploadRecord { id, slave: None, size, identity, expect: job.expect, sent: 0 };
    let task = TransferTask::Put(new);
    let mut handle =
        LogHandle::enter(shell, &job.remote, &job.log_name, task, |known| match known {
            TransferTask::Put(known) if (known.size, known.identity) == (size, identity) => {
                TransferTask::Put(UploadRecord { expect: job.expect, ..known })
            }
            _ => {
                let shown = job.shown();
                say!(shell.notices, "{shown} was changed since it was sent in part; restarting");
                TransferTask::Put(new)
            }
        })?;
    let mut upload = match handle.task() {
        TransferTask::Put(upload) => *upload,
        _ => new,
    };
    let mut is_old = upload.id != new.id;
    let source =
        UploadSource { file: &local.file, size, mtime: local.meta.mtime, mode: local.meta.mode };
    let (result, resumed_from) = loop {
        let mut progress =
            TransferProgress::new(shell, &job.remote, Some(&mut handle), bar.clone());
        let target = UploadTarget {
            id: upload.id,
            is_old,
            path: &job.remote,
            expect: upload.expect,
            copies: shell.copies,
        };
        let result = put(&mut shell.session, &source, &target, &mut progress);
        let resumed_from = progress.resumed_from;
        drop(progress);
        if !matches!(result, Err(TransferError::Superseded)) || job.resumed || !is_old {
            break (result, resumed_from);
        }
        // An earlier command stored the file, which is no longer there: this command stores it
        // again.
        debug!("{}: the file stored before is no longer there", job.remote);
        upload = UploadRecord { id: new_id()?, slave: None, sent: 0, ..upload };
        is_old = false;
        handle.write(TransferTask::Put(upload))?;
    };
    shell.session.prefer(None);
    // The entry stays only if a retry could resume the upload.
    if result.as_ref().map_or_else(|error| !error.can_resume_upload(), |_| true) {
        handle.finish();
    }
    drop(lock);
    let stored = result.map_err(|error| upload_failure(shell, error, job, handle.is_logged()))?;
    Ok(sent(job, begun, &stored, resumed_from))
}

/// Prefers a slave that holds a partial upload to this host according to the `.log`: that of `job`,
/// or any.
pub fn prefer_holder(shell: &mut Shell, job: Option<&UploadJob>) {
    if !shell.resume {
        return;
    }
    let host = host_key(&shell.session.settings.host);
    let is_wanted = |entry: &&TransferEntry| {
        entry.origin.host == host
            && job.is_none_or(|job| entry.remote == job.remote && entry.local == job.log_name)
    };
    let slave_of = |entry: &TransferEntry| match entry.task {
        TransferTask::Put(UploadRecord { slave, .. }) => slave,
        _ => None,
    };
    // Errors of the `.log` are reported when an entry is written or resumed.
    let entries = read_log(shell.local.home()).unwrap_or_default().entries;
    if let Some(slave) = entries.iter().filter(is_wanted).find_map(slave_of) {
        shell.session.prefer(Some(slave));
    }
}

/// Sends the content of `file`, which is standard input outside of tests, to `remote`.
///
/// # Errors
/// See [`Failure`]; the upload cannot be resumed.
pub fn send_stream(
    shell: &mut Shell,
    file: impl AsFd,
    remote: &TreePath,
    expect: Expect,
) -> Result<TransferredFile> {
    let begun = Instant::now();
    shell.session.connect()?;
    let target =
        UploadTarget { id: new_id()?, is_old: false, path: remote, expect, copies: shell.copies };
    let bar = TransferBar::of_file(&shell.notices, remote);
    let mut progress = TransferProgress::new(shell, remote, None, bar);
    let mut input = InterruptibleInput { file, interrupt: shell.interrupt.clone() };
    let result = put_stream(&mut shell.session, &mut input, &target, &mut progress);
    drop(progress);
    let job = UploadJob::new(PathBuf::from("-"), remote.clone(), String::new());
    let stored = result.map_err(|error| match error {
        // The code is never `cut`, because that code promises that the upload can be resumed.
        TransferError::Unreachable(why) => failure!(
            Local,
            "the transfer was cut: {why}; \
             standard input cannot be read again, so it cannot be resumed"
        ),
        TransferError::Local { error, .. } => {
            failure!(Local, "standard input: {}", plain(&error))
        }
        error => upload_failure(shell, error, &job, false),
    })?;
    Ok(sent(&job, begun, &stored, Some(0)))
}

fn sent(
    job: &UploadJob,
    begun: Instant,
    stored: &CompletedUpload,
    resumed_from: Option<u64>,
) -> TransferredFile {
    let resumed_from =
        resumed_from.map_or(stored.resumed_from, |first| first.min(stored.resumed_from));
    let (remote, local) = (job.remote.to_string(), job.shown());
    TransferredFile {
        stored: Some(StoredFile { version: stored.version, copies: stored.copies }),
        ..TransferredFile::new(remote, local, stored.size, begun, &stored.servers, resumed_from)
    }
}

/// The failure for a file that fewer disks hold than demanded; the change stands.
pub fn too_few_copies(message: &str) -> Failure {
    let end = if message.contains("stands") { "" } else { "; the change stands" };
    failure!(TooFewCopies, "{message}{end}")
}

/// Converts the error of an upload into a failure for the user.
///
/// `in_log` says whether the same command can resume it.
fn upload_failure(shell: &Shell, error: TransferError, job: &UploadJob, in_log: bool) -> Failure {
    let failure = match error {
        TransferError::Refused(refusal) if refusal.code == ErrorCode::Changed && job.resumed => {
            failure!(
                Changed,
                "{}: the remote file was changed since this put began; \
                 run the same put again to replace it",
                job.remote
            )
        }
        TransferError::Refused(refusal) if refusal.code == ErrorCode::TooFewCopies => {
            too_few_copies(&refusal.message)
        }
        TransferError::Refused(refusal) if refusal.code == ErrorCode::NoChanges => {
            Failure::new(refusal.code, shell.session.why_no_changes(&refusal.message))
        }
        TransferError::Interrupted if in_log => {
            failure!(Interrupted, "interrupted; the same put, or the next prompt, resumes it")
        }
        TransferError::Local { error, .. } => {
            failure!(Local, "{}: {}", job.shown(), plain(&error))
        }
        TransferError::SourceChanged => {
            failure!(Local, "{} was changed while it was sent; nothing was stored", job.shown())
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
    with_path(&job.remote, failure)
}

/// A file that is read to its end, or until the user interrupts.
struct InterruptibleInput<F> {
    file: F,
    interrupt: Interrupt,
}

impl<F: AsFd> Read for InterruptibleInput<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wait = Timespec::try_from(POLL_INTERVAL).map_err(io::Error::other)?;
        loop {
            if self.interrupt.is_raised() {
                return Err(io::Error::other("interrupted"));
            }
            match poll(&mut [PollFd::new(&self.file, PollFlags::IN)], Some(&wait)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return rustix::io::read(&self.file, buffer).map_err(io::Error::from),
                Err(e) => return Err(e.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn input_ends_at_eof_or_interruption() {
        let (reader, mut writer) = io::pipe().unwrap();
        let interrupt = Interrupt::default();
        let mut input = InterruptibleInput { file: reader, interrupt: interrupt.clone() };
        writer.write_all(b"abc").unwrap();
        let mut buffer = [0; 8];
        assert_eq!((input.read(&mut buffer).unwrap(), &buffer[..3]), (3, &b"abc"[..]));
        let raised = std::thread::spawn(move || interrupt.raise());
        assert_eq!(input.read(&mut buffer).unwrap_err().to_string(), "interrupted");
        raised.join().unwrap();
        drop(writer);
        let mut input = InterruptibleInput { interrupt: Interrupt::default(), ..input };
        assert_eq!(input.read(&mut buffer).unwrap(), 0);
    }
}
