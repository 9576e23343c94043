//! The `.log`: the unfinished transfers of a local folder, from which a later run resumes.
//!
//! The file has one text line for each unfinished command or large file of a command. It is parsed
//! as untrusted input: a line that is not valid is reported and ignored. A line of another version
//! is reported and kept.
//!
//! Each change writes the whole file to a temporary name and renames it, under a lock on the
//! folder. The file is removed with its last line. This module opens files through a pinned folder
//! only and never follows a link. It does not decide what is resumed.

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

/// An unfinished command, or one large file of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferEntry {
    /// The remote file or folder.
    pub remote: TreePath,
    /// The local name: relative to the folder of the `.log`, or absolute.
    pub local: String,
    /// Host, authority and cluster of the remote tree.
    pub origin: Origin,
    /// Start time, in seconds since 1970.
    pub since: u64,
    /// The kind of the transfer and its progress.
    pub task: TransferTask,
}

/// The kind of a transfer and its progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransferTask {
    /// A file is fetched, with the state of the part file; none before a server has sent anything.
    Get(Option<Resume>),
    /// A file is sent.
    Put(UploadRecord),
    /// A folder is fetched recursively.
    GetTree,
    /// A folder is sent recursively.
    PutTree,
}

/// The state that an upload needs to resume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadRecord {
    /// Id of the change; the server makes a change with the same id only once.
    pub id: ChangeId,
    /// The slave that holds the partial upload; none before a server has answered.
    pub slave: Option<SlaveId>,
    /// Size of the local file in bytes.
    pub size: u64,
    /// Identity of the local file; an upload of another file restarts.
    pub identity: Identity,
    /// The remote version that the upload replaces.
    pub expect: Expect,
    /// Bytes sent according to the last note; the server may have fewer.
    pub sent: u64,
}

impl TransferTask {
    /// Returns the command's name in the file.
    pub fn command(&self) -> &'static str {
        match self {
            Self::Get(_) => "get",
            Self::Put(_) => "put",
            Self::GetTree => "get-r",
            Self::PutTree => "put-r",
        }
    }
}

/// The key of an entry; it is unique in the file.
type EntryKey<'a> = (&'static str, &'a str, Option<(&'a TreePath, &'a Origin)>);

impl TransferEntry {
    /// Whether both entries have the same command and names.
    pub fn is_same(&self, other: &Self) -> bool {
        self.key() == other.key() && (&self.remote, &self.origin) == (&other.remote, &other.origin)
    }

    /// Returns the key of the entry.
    ///
    /// A local name can be fetched once only, because both downloads would use the same part file.
    /// The same file may be sent to several destinations.
    fn key(&self) -> EntryKey<'_> {
        let place = match self.task {
            TransferTask::Get(_) | TransferTask::GetTree => None,
            TransferTask::Put(_) | TransferTask::PutTree => Some((&self.remote, &self.origin)),
        };
        (self.task.command(), &self.local, place)
    }
}

/// A line that was ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// Line number, from 1.
    pub number: usize,
    /// Why the line is ignored.
    pub why: LineError,
}

/// The parsed content of a `.log`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogContents {
    /// The valid entries, in order.
    pub entries: Vec<TransferEntry>,
    /// All other lines.
    pub bad: Vec<BadLine>,
    /// Lines of other versions of this program, which are kept unchanged.
    pub unknown: Vec<String>,
}

/// Why the `.log` cannot be used. A transfer still works, but cannot be resumed later.
#[derive(Debug, Error)]
pub enum LogError {
    /// The name belongs to a link, folder or device, which is left unchanged.
    #[error("something that is not a file of its own has the name .log: {0}")]
    NotAFile(TreeError),
    /// Another process holds the lock on the folder.
    #[error("another program keeps the folder locked")]
    Locked,
    /// The file would hold too many unfinished transfers.
    #[error("there are too many unfinished transfers")]
    Full,
    /// A system call failed.
    #[error("{0}")]
    Folder(TreeError),
}
