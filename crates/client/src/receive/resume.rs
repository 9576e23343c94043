//! What an earlier run left unfinished is resumed at the start of a prompt, as the `.log` tells.
//!
//! The `.log` may have been changed by anybody: a line is followed only where its local name
//! lies in the folder of `-d`, without a link on the way. Everything is told on standard error.

use log::info;
use relais_proto::{ErrorCode, TreePath};
use relais_tree::{Folder, TreeError};

use super::{DownloadJob, check_free, claim, is_gone, local_failure};
use crate::Failure;
use crate::interrupt::Activity;
use crate::local::{LocalTarget, parts_inside};
use crate::output::text;
use crate::shell::Shell;
use crate::transfer_log::{TransferTask, is_reserved, read_log};

impl Shell {
    /// Resumes all that belongs to the servers that are connected. The result is 0, 5 where
    /// something is left, or 130 where the user interrupted.
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
            self.notices.say(&format!(".log, line {}: left out: {}", bad.number, bad.why));
        }
        let origin = self.session.origin().cloned();
        let (trees, files): (Vec<_>, Vec<_>) = contents
            .entries
            .into_iter()
            .filter(|entry| Some(&entry.origin) == origin.as_ref())
            .partition(|entry| matches!(entry.task, TransferTask::GetTree | TransferTask::PutTree));
        let mut status = 0;
        // The large files of a tree have lines of their own: the tree finds them finished then.
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
                    "{log_name} is not carried on by itself: {why}; typing the command again does it"
                ));
                return 0;
            }
        };
        let remote = job.remote.clone();
        let part = check_free(&folder, &job.target.name).and_then(|()| claim(&folder, &job));
        if matches!(part, Err(TreeError::InUse)) {
            info!("{remote} is left to the client that is fetching it");
            return 0;
        }
        self.notices.say(&format!("carrying on {remote}"));
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
        let end = if gone { "; it is dropped" } else { "" };
        self.notices.say(&format!("carrying on {remote}: {failure}{end}"));
        match failure.code {
            _ if gone => 0,
            ErrorCode::Interrupted => 130,
            _ => 5,
        }
    }

    /// The job of a line, and the folder it goes into.
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

    /// The folder of a logged name, reached from the folder of `-d` without following a link,
    /// and the name in it.
    ///
    /// # Errors
    /// That it leads elsewhere, or is not there.
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

/// A logged name that is not followed.
fn refused(why: &str) -> TreeError {
    TreeError::Io("follow the line", std::io::Error::other(why.to_owned()))
}
