//! One transfer's line in the `.log`: found, written at save points, removed at the end.

use std::path::Path;

use relais_proto::{ClusterId, ErrorCode, TreePath};
use relais_transfer::fetch::Resume;
use relais_tree::Folder;

use super::{Job, local_failure};
use crate::Failure;
use crate::log::{self, Entry, Log};

/// The line of one transfer.
pub struct Ledger {
    log: Log,
    remote: TreePath,
    logged: String,
    cluster: ClusterId,
}

impl Ledger {
    /// The line of `job` in the `.log` of `home`.
    ///
    /// # Errors
    /// That the `.log` cannot be used.
    pub fn open(home: &Path, job: &Job, cluster: ClusterId) -> Result<Self, Failure> {
        Ok(Self { log: open(home)?, remote: job.remote.clone(), logged: job.logged.clone(), cluster })
    }

    /// Notes that the transfer has begun. The result is from where it goes on, where it may
    /// and the line is there already.
    ///
    /// # Errors
    /// That the `.log` cannot be written.
    pub fn begin(&mut self, may_resume: bool) -> Result<Option<Resume>, Failure> {
        let known = self.log.entries().map_err(failure)?.into_iter().find(|entry| self.is_mine(entry)).and_then(|entry| entry.state);
        let resume = known.filter(|_| may_resume);
        self.put(resume.clone()).map_err(failure)?;
        Ok(resume)
    }

    /// Writes save points into the line.
    pub fn saver(&mut self) -> impl FnMut(&Resume) -> Result<(), String> + Send {
        |state| self.put(Some(state.clone())).map_err(|e| e.to_string())
    }

    /// Nothing is left to do.
    ///
    /// # Errors
    /// That the `.log` cannot be written.
    pub fn finish(&mut self) -> Result<(), Failure> {
        self.log.remove(&self.remote, &self.logged, self.cluster).map_err(failure)
    }

    fn is_mine(&self, entry: &Entry) -> bool {
        entry.remote == self.remote && entry.local == self.logged && entry.cluster == self.cluster
    }

    fn put(&mut self, state: Option<Resume>) -> Result<(), String> {
        self.log.put(Entry { remote: self.remote.clone(), local: self.logged.clone(), cluster: self.cluster, state })
    }
}

/// What the `.log` of `home` has of this cluster: remote and local names.
///
/// # Errors
/// That it cannot be read.
pub fn unfinished(home: &Path, cluster: Option<ClusterId>) -> Result<Vec<(TreePath, String)>, Failure> {
    let entries = open(home)?.entries().map_err(failure)?;
    Ok(entries.into_iter().filter(|entry| Some(entry.cluster) == cluster).map(|entry| (entry.remote, entry.local)).collect())
}

fn open(home: &Path) -> Result<Log, Failure> {
    let folder = Folder::open(home).map_err(|e| local_failure(&home.display().to_string(), &e))?;
    Log::open(folder).map_err(failure)
}

fn failure(error: impl std::fmt::Display) -> Failure {
    Failure::new(ErrorCode::Local, format!(".log: {error}"))
}

/// The temporary name of a file.
pub fn part_name(name: &str) -> String {
    log::part_name(name)
}

/// Whether the client uses this name itself.
pub fn is_ours(name: &str) -> bool {
    log::is_ours(name)
}
