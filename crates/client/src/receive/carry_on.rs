//! What an earlier run left unfinished is carried on at the start, as the `.log` tells.
//!
//! The `.log` may have been changed by anybody: a line is followed only where its local name
//! lies in the folder of `-d`, without a link on the way. Everything is told on standard error.

use log::info;
use relais_proto::{ErrorCode, TreePath};
use relais_tree::{Folder, TreeError};

use super::{Finished, Job, check_free, claim, is_gone, ledger, local_failure};
use crate::Failure;
use crate::interrupt::Doing;
use crate::local::{Target, parts_inside};
use crate::output::text;
use crate::shell::Shell;

impl Shell {
    /// Carries on what belongs to the cluster that is connected. The result is 0, 5 where
    /// something is left, or 130 where the user interrupted.
    pub fn carry_on(&mut self) -> u8 {
        if !self.resume {
            return 0;
        }
        self.interrupt.enter(Doing::Command);
        let contents = match ledger::contents(self.local.home()) {
            Ok(contents) => contents,
            Err(failure) => {
                self.notices.say(&format!("ftpclient: {failure}"));
                return 0;
            }
        };
        for bad in contents.bad {
            self.notices.say(&format!(".log, line {}: left out: {}", bad.number, bad.why));
        }
        let cluster = self.session.cluster();
        let unfinished = contents.entries.into_iter().filter(|entry| Some(entry.cluster) == cluster);
        let mut status = 0;
        for entry in unfinished {
            match self.carry_on_one(entry.remote, entry.local) {
                0 => {}
                130 => return 130,
                other => status = other,
            }
        }
        status
    }

    fn carry_on_one(&mut self, remote: TreePath, logged: String) -> u8 {
        let (job, folder) = match self.job_inside(remote, &logged) {
            Ok(inside) => inside,
            Err(why) => {
                info!("{logged} is not carried on by itself: {why}");
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
                self.finished.push(Finished { remote, logged, received });
                0
            }
            Err(failure) => self.not_carried_on(&remote, &failure),
        }
    }

    fn not_carried_on(&mut self, remote: &TreePath, failure: &Failure) -> u8 {
        let gone = is_gone(failure.code);
        let end = if gone { "; it is dropped" } else { "" };
        self.notices.say(&format!("carrying on {remote}: {failure}{end}"));
        match failure.code {
            _ if gone => 0,
            ErrorCode::Interrupted => 130,
            _ => 5,
        }
    }

    /// The job of a line, and the folder it goes into, reached from the folder of `-d` without
    /// following a link.
    fn job_inside(&self, remote: TreePath, logged: &str) -> Result<(Job, Folder), String> {
        let mut parts = parts_inside(logged).ok_or("it leads out of the local folder")?;
        let name = parts.pop().ok_or("it has no name")?.to_owned();
        if ledger::is_ours(&name) {
            return Err("ftpclient uses that name itself".to_owned());
        }
        let below = TreePath::new(parts.join("/")).map_err(|e| e.to_string())?;
        let home = Folder::open(self.local.home()).map_err(|e| e.to_string())?;
        let folder = if below.is_root() { home } else { home.open_folder(&below).map_err(|e| e.to_string())? };
        let target = Target { folder: self.local.home_shown().join(below.as_str()), name };
        Ok((Job { remote, target, logged: logged.to_owned() }, folder))
    }
}
