//! Resumes the uploads in the `.log` when a prompt starts.
//!
//! The `.log` is untrusted, and a sent file leaves this host. A line is resumed only if its local
//! name lies in the folder of `-d`, and no link leads to it.

use log::info;
use relais_proto::{ErrorCode, Expect};
use relais_tree::{OpenFile, TreeError};

use super::{UploadJob, UploadLock, open};
use crate::Result;
use crate::origin::host_key;
use crate::output::text;
use crate::shell::Shell;
use crate::transfer_log::{LogHandle, TransferEntry, TransferTask, UploadRecord, read_log};

impl Shell {
    /// Prefers a slave with a partial upload for the first connection.
    pub fn prefer_holder(&mut self) {
        if !self.resume {
            return;
        }
        // Errors of the `.log` are reported when the uploads are resumed.
        let Ok(contents) = read_log(self.local.home()) else { return };
        let holder = |entry: &TransferEntry| {
            if let TransferTask::Put(UploadRecord { slave, .. }) = entry.task {
                slave
            } else {
                None
            }
        };
        let host = host_key(self.session.host());
        let mut here = contents.entries.iter().filter(|entry| entry.origin.host == host);
        self.session.prefer(here.find_map(holder));
    }

    /// Resumes one upload to the connected cluster.
    ///
    /// The result is 0, 5 if something is left, or 130 if the user interrupted.
    pub fn resume_put(&mut self, entry: TransferEntry) -> u8 {
        let (job, local) = match self.local_inside(&entry) {
            Ok(inside) => inside,
            Err(TreeError::NotFound) => return self.drop_upload(entry),
            Err(why) => {
                self.notices.say(&format!(
                    "{} is not resumed automatically: {why}; run the command again to resume it",
                    entry.local
                ));
                return 0;
            }
        };
        let lock = match self.lock_upload(&job, &entry.origin) {
            Err(TreeError::InUse) => {
                info!("{}: another client is sending it", job.remote);
                return 0;
            }
            other => other.unwrap_or_else(|e| {
                info!("no lock for {}: {e}", job.shown);
                None
            }),
        };
        self.notices.say(&format!("resuming {} -> {}", job.shown, job.remote));
        self.resume_locked(&entry, job, &local, lock)
    }

    fn resume_locked(
        &mut self,
        entry: &TransferEntry,
        job: UploadJob,
        local: &OpenFile,
        lock: Option<UploadLock>,
    ) -> u8 {
        self.prefer_holder_of(&job);
        let result = self.connected().and_then(|origin| match origin == entry.origin {
            true => self.send(&job, local, &origin, lock),
            false => Err(failure!(Unreachable, "another cluster answers at this address now")),
        });
        match result {
            Ok(sent) => {
                self.notices.say(&text::sent(&sent));
                0
            }
            Err(failure) => {
                // A useless entry was removed by then.
                let gone = !self.is_logged(entry);
                let end = if gone { "; removed from the .log" } else { "" };
                self.notices.say(&format!("resuming {}: {failure}{end}", job.remote));
                match failure.code {
                    ErrorCode::Interrupted => 130,
                    _ if gone => 0,
                    _ => 5,
                }
            }
        }
    }

    fn is_logged(&self, entry: &TransferEntry) -> bool {
        read_log(self.local.home())
            .is_ok_and(|contents| contents.entries.iter().any(|other| other.is_same(entry)))
    }

    /// Drops an upload whose local file no longer exists.
    fn drop_upload(&self, entry: TransferEntry) -> u8 {
        self.notices.say(&format!(
            "resuming {}: {} no longer exists; removed from the .log",
            entry.remote, entry.local
        ));
        if let Err(failure) =
            LogHandle::open(self.local.home(), entry).and_then(|mut handle| handle.finish())
        {
            self.notices.say(&failure.to_string());
        }
        0
    }

    /// Returns the job of a line and its file, opened from the folder of `-d` without following
    /// links.
    fn local_inside(&self, entry: &TransferEntry) -> Result<(UploadJob, OpenFile), TreeError> {
        let (folder, target) = self.folder_inside(&entry.local)?;
        let local = open::regular(&folder, &target.name)?;
        // The content may have changed; the remote version at the start still counts.
        let expect = if let TransferTask::Put(UploadRecord { expect, .. }) = entry.task {
            expect
        } else {
            Expect::Any
        };
        let path = target.folder.join(&target.name);
        let job = UploadJob {
            shown: path.display().to_string(),
            local: path,
            remote: entry.remote.clone(),
            log_name: entry.local.clone(),
            expect,
            resumed: true,
        };
        Ok((job, local))
    }
}
