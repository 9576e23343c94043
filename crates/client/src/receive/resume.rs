//! Resumes the transfers in the `.log` when a prompt starts.
//!
//! The `.log` is untrusted. A line is resumed only if its local name lies in the folder of `-d`,
//! and no link leads to it. All messages go to standard error.

use log::info;
use relais_proto::{ErrorCode, TreePath};
use relais_tree::{Folder, TreeError};

use super::{DownloadJob, check_free, claim, is_gone, local_failure};
use crate::interrupt::Activity;
use crate::local::{LocalTarget, parts_inside};
use crate::output::text;
use crate::shell::Shell;
use crate::transfer_log::{TransferTask, is_reserved, read_log};
use crate::{Failure, Result};

impl Shell {
    /// Resumes all transfers with the connected servers.
    ///
    /// The result is 0, 5 if something is left, or 130 if the user interrupted.
    pub fn resume_all(&mut self) -> u8 {
        if !self.resume {
            return 0;
        }
        self.interrupt.enter(Activity::Command);
        let contents = match read_log(self.local.home()) {
            Ok(contents) => contents,
            Err(failure) => {
                self.notices.say(&format!("ftpclient: {failure}"));
                return 0;
            }
        };
        for bad in contents.bad {
            self.notices.say(&format!(".log, line {}: ignored: {}", bad.number, bad.why));
        }
        let origin = self.session.origin().cloned();
        let (trees, files): (Vec<_>, Vec<_>) = contents
            .entries
            .into_iter()
            .filter(|entry| Some(&entry.origin) == origin.as_ref())
            .partition(|entry| matches!(entry.task, TransferTask::GetTree | TransferTask::PutTree));
        let mut status = 0;
        // Large files of a tree have their own entries: the tree then finds them complete.
        for entry in files.into_iter().chain(trees) {
            let ended = match entry.task {
                TransferTask::Get(_) => self.resume_get(entry.remote, entry.local),
                TransferTask::Put(_) => self.resume_put(entry),
                TransferTask::GetTree | TransferTask::PutTree => self.resume_tree(entry),
            };
            match ended {
                0 => {}
                130 => {
                    status = 130;
                    break;
                }
                other => status = other,
            }
        }
        self.session.prefer(None);
        status
    }

    fn resume_get(&mut self, remote: TreePath, log_name: String) -> u8 {
        let (job, folder) = match self.job_inside(remote, &log_name) {
            Ok(inside) => inside,
            Err(why) => {
                self.notices.say(&format!(
                    "{log_name} is not resumed automatically: {why}; \
                     run the command again to resume it"
                ));
                return 0;
            }
        };
        let remote = job.remote.clone();
        let part = check_free(&folder, &job.target.name).and_then(|()| claim(&folder, &job));
        if matches!(part, Err(TreeError::InUse)) {
            info!("{remote}: another client is fetching it");
            return 0;
        }
        self.notices.say(&format!("resuming {remote}"));
        let received = match part {
            Ok(part) => self.receive_into(&job, &folder, &part),
            Err(e) => Err(local_failure(&job.target.shown(), &e)),
        };
        match received {
            Ok(received) => {
                self.notices.say(&text::received(&received));
                0
            }
            Err(failure) => self.report_resume_failure(&remote, &failure),
        }
    }

    fn report_resume_failure(&mut self, remote: &TreePath, failure: &Failure) -> u8 {
        let gone = is_gone(failure.code);
        let end = if gone { "; removed from the .log" } else { "" };
        self.notices.say(&format!("resuming {remote}: {failure}{end}"));
        match failure.code {
            _ if gone => 0,
            ErrorCode::Interrupted => 130,
            _ => 5,
        }
    }

    /// Returns the job of a line and the folder of its target.
    fn job_inside(
        &self,
        remote: TreePath,
        log_name: &str,
    ) -> Result<(DownloadJob, Folder), TreeError> {
        let (folder, target) = self.folder_inside(log_name)?;
        if is_reserved(&target.name) {
            return Err(refused("ftpclient uses that name itself"));
        }
        Ok((DownloadJob { remote, target, log_name: log_name.to_owned() }, folder))
    }

    /// Opens the folder of a logged name from the folder of `-d` without following a link.
    ///
    /// Also returns the name in that folder.
    ///
    /// # Errors
    /// The name leads elsewhere, or the folder does not exist.
    pub fn folder_inside(&self, log_name: &str) -> Result<(Folder, LocalTarget), TreeError> {
        let mut parts =
            parts_inside(log_name).ok_or_else(|| refused("it leads out of the local folder"))?;
        let name = parts.pop().ok_or_else(|| refused("it has no name"))?.to_owned();
        let below = TreePath::new(parts.join("/")).map_err(|e| refused(&e.to_string()))?;
        let home = Folder::open(self.local.home())?;
        let folder = if below.is_root() { home } else { home.open_folder(&below)? };
        Ok((folder, LocalTarget { folder: self.local.home_display().join(below.as_str()), name }))
    }
}

/// The error for a logged name that must not be followed.
fn refused(why: &str) -> TreeError {
    TreeError::Io("follow the line", std::io::Error::other(why.to_owned()))
}
