//! The `.log`: what is unfinished in a local folder, so that a later run can resume it.
//!
//! One text line for each unfinished command, or large file of one. The file is read as if an enemy
//! had written it: what is not exactly a line of ours is reported and left out. What another version
//! wrote is reported and kept. The file is written whole to a temporary name and renamed, under a
//! lock on the folder, and removed when nothing is left. It opens files through a pinned folder
//! alone, never follows a link, and decides nothing about what is carried on.

mod file;
mod handle;
mod line;
mod names;
#[cfg(test)]
mod tests;

use relais_proto::{ChangeId, Expect, Identity, SlaveId, TreePath};
use relais_transfer::download::Resume;
use relais_tree::TreeError;
use thiserror::Error;

use crate::origin::Origin;
pub use file::TransferLog;
pub use handle::{LogHandle, forget_entries, read_log};
pub use line::LineError;
pub use names::{is_part, is_reserved, lock_name, part_name};

/// A command that is not finished, or one large file of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferEntry {
    /// The remote file or folder.
    pub remote: TreePath,
    /// The local name: relative to the folder that the `.log` lies in, or absolute.
    pub local: String,
    /// Whose tree it is.
    pub origin: Origin,
    /// When it was begun, in seconds since 1970.
    pub since: u64,
    /// What is to be done, and how far it is.
    pub task: TransferTask,
}

/// What a line is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransferTask {
    /// A file is fetched. What is in the part file; none before a server has sent anything.
    Get(Option<Resume>),
    /// A file is sent.
    Put(UploadRecord),
    /// A folder is fetched with all that is below it.
    GetTree,
    /// A folder is sent with all that is below it.
    PutTree,
}

/// What is needed to go on with an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadRecord {
    /// The change; asked again with it, it is not made twice.
    pub id: ChangeId,
    /// Who has the bytes that were sent; none before a server has answered.
    pub slave: Option<SlaveId>,
    /// Bytes of the local file.
    pub size: u64,
    /// The local file by where it lies and when it was changed: another one begins again.
    pub identity: Identity,
    /// What was at the path when it began.
    pub expect: Expect,
    /// Bytes that went out, as far as that was noted; a server may have less.
    pub sent: u64,
}

impl TransferTask {
    /// The word for it in the file.
    #[must_use]
    pub fn command(&self) -> &'static str {
        match self {
            Self::Get(_) => "get",
            Self::Put(_) => "put",
            Self::GetTree => "get-r",
            Self::PutTree => "put-r",
        }
    }
}

/// What no two lines have in common.
type EntryKey<'a> = (&'static str, &'a str, Option<(&'a TreePath, &'a Origin)>);

impl TransferEntry {
    /// Whether both are lines of the same command with the same names.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.key() == other.key() && (&self.remote, &self.origin) == (&other.remote, &other.origin)
    }

    /// Of what is fetched there is one line for a local name: both would be about the same part
    /// file. The same file may be sent to several places.
    fn key(&self) -> EntryKey<'_> {
        let place = match self.task {
            TransferTask::Get(_) | TransferTask::GetTree => None,
            TransferTask::Put(_) | TransferTask::PutTree => Some((&self.remote, &self.origin)),
        };
        (self.task.command(), &self.local, place)
    }
}

/// A line that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// Its number in the file, from 1.
    pub number: usize,
    /// What is wrong with it.
    pub why: LineError,
}

/// What was read from a `.log`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogContents {
    /// The good lines, in order.
    pub entries: Vec<TransferEntry>,
    /// The others.
    pub bad: Vec<BadLine>,
    /// Those of the others that another version of this program wrote, as they are: they stay.
    pub unknown: Vec<String>,
}

/// Why the `.log` could not be used. A transfer can go on without it, and cannot be carried on later.
#[derive(Debug, Error)]
pub enum LogError {
    /// Something else has the name: a link, a folder, a device. It is left alone.
    #[error("something that is not a file of its own has the name .log: {0}")]
    NotAFile(TreeError),
    /// Another process keeps the lock on the folder.
    #[error("another program keeps the folder locked")]
    Locked,
    /// There are more unfinished transfers than the file may hold.
    #[error("there are too many unfinished transfers")]
    Full,
    /// The system refused.
    #[error("{0}")]
    Folder(TreeError),
}
