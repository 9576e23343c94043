//! Uploads that an earlier run left unfinished are resumed at the start of a prompt, as the `.log` tells.
//!
//! The `.log` may have been changed by anybody, and what is sent leaves this host: a line is
//! followed only where its local name lies in the folder of `-d`, without a link on the way.

use log::info;
use relais_proto::{ErrorCode, Expect};
use relais_tree::{OpenFile, TreeError};

use super::{UploadJob, UploadLock, open};
use crate::Failure;
use crate::origin::host_key;
use crate::output::text;
use crate::shell::Shell;
use crate::transfer_log::{LogHandle, TransferEntry, TransferTask, UploadRecord, read_log};

impl Shell {
    /// The first connection should be with a slave that has something to be carried on.
    pub fn prefer_holder(&mut self) {
        if !self.resume {
            return;
        }
        // What is wrong with the `.log` is told when it is carried on.
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

    /// Carries on one upload of the cluster that is connected. The result is 0, 5 where
    /// something is left, or 130 where the user interrupted.
    pub fn resume_put(&mut self, entry: TransferEntry) -> u8 {
        let (job, local) = match self.local_inside(&entry) {
            Ok(inside) => inside,
            Err(TreeError::NotFound) => return self.drop_upload(entry),
            Err(why) => {
                self.notices.say(&format!(
                    "{} is not carried on by itself: {why}; typing the command again does it",
                    entry.local
                ));
                return 0;
            }
        };
        let lock = match self.lock_upload(&job, &entry.origin) {
            Err(TreeError::InUse) => {
                info!("{} is left to the client that is sending it", job.remote);
                return 0;
            }
            other => other.unwrap_or_else(|e| {
                info!("no lock for {}: {e}", job.shown);
                None
            }),
        };
        self.notices.say(&format!("carrying on {} -> {}", job.shown, job.remote));
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
            false => Err(Failure::new(ErrorCode::Unreachable, "another cluster answers there now")),
        });
        match result {
            Ok(sent) => {
                self.notices.say(&text::sent(&sent));
                0
            }
            Err(failure) => {
                // A line that is of no use any more was removed by then.
                let gone = !self.is_logged(entry);
                let end = if gone { "; it is dropped" } else { "" };
                self.notices.say(&format!("carrying on {}: {failure}{end}", job.remote));
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

    /// The local file is gone: there is nothing that could be sent.
    fn drop_upload(&self, entry: TransferEntry) -> u8 {
        self.notices.say(&format!(
            "carrying on {}: {} is not there any more; it is dropped",
            entry.remote, entry.local
        ));
        if let Err(failure) =
            LogHandle::open(self.local.home(), entry).and_then(|mut handle| handle.finish())
        {
            self.notices.say(&failure.to_string());
        }
        0
    }

    /// The job of a line, and its file, reached from the folder of `-d` without following a link.
    fn local_inside(&self, entry: &TransferEntry) -> Result<(UploadJob, OpenFile), TreeError> {
        let (folder, target) = self.folder_inside(&entry.local)?;
        let local = open::regular(&folder, &target.name)?;
        // The content may be another one by now; what was there when it began still counts.
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
