//! One transfer's line in the `.log`: found, written at save points, removed at the end.

use std::path::Path;

use relais_proto::{ClusterId, ErrorCode, TreePath};
use relais_transfer::fetch::Resume;
use relais_tree::Folder;

use super::{Job, local_failure};
use crate::Failure;
use crate::log::{Contents, Entry, Log, LogError};

pub use crate::log::{is_ours, part_name};

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
    /// That the `.log` cannot be read or written.
    pub fn begin(&mut self, may_resume: bool) -> Result<Option<Resume>, Failure> {
        let known = self.log.entries().map_err(failure)?.into_iter().find(|entry| self.is_mine(entry)).and_then(|entry| entry.state);
        let resume = known.filter(|_| may_resume);
        self.put(resume.clone()).map_err(failure)?;
        Ok(resume)
    }

    /// Writes a save point into the line.
    ///
    /// # Errors
    /// That the `.log` cannot be written.
    pub fn save(&mut self, state: &Resume) -> Result<(), Failure> {
        self.put(Some(state.clone())).map_err(failure)
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

    fn put(&mut self, state: Option<Resume>) -> Result<(), LogError> {
        self.log.put(Entry { remote: self.remote.clone(), local: self.logged.clone(), cluster: self.cluster, state })
    }
}

/// All that the `.log` of `home` has, and what in it is not understood.
///
/// # Errors
/// That it cannot be read.
pub fn contents(home: &Path) -> Result<Contents, Failure> {
    open(home)?.read().map_err(failure)
}

fn open(home: &Path) -> Result<Log, Failure> {
    let folder = Folder::open(home).map_err(|e| local_failure(&home.display().to_string(), &e))?;
    Log::open(folder).map_err(failure)
}

#[allow(clippy::needless_pass_by_value, reason = "fits map_err")]
fn failure(error: LogError) -> Failure {
    Failure::new(ErrorCode::Local, format!(".log: {error}"))
}
