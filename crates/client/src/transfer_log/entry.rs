//! What one line of the `.log` says.

use relais_proto::{ChangeId, Expect, Identity, SlaveId, TreePath};
use relais_transfer::Resume;

use crate::origin::Origin;

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
    /// Whether a whole folder is transferred.
    pub fn is_tree(&self) -> bool {
        matches!(self, Self::GetTree | Self::PutTree)
    }

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

impl TransferEntry {
    /// Creates the entry of a transfer that begins now.
    pub fn new(remote: &TreePath, local: &str, origin: &Origin, task: TransferTask) -> Self {
        let (remote, local, origin) = (remote.clone(), local.to_owned(), origin.clone());
        // A clock before 1970 counts as 1970.
        let since = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
        Self { remote, local, origin, since, task }
    }

    /// Whether both entries have the same command and names.
    pub fn is_same(&self, other: &Self) -> bool {
        self.key() == other.key() && (&self.remote, &self.origin) == (&other.remote, &other.origin)
    }

    /// Returns the key of the entry, which is unique in the file.
    ///
    /// A local name can be fetched once only, because both downloads would use the same part file.
    /// The same file may be sent to several destinations.
    pub fn key(&self) -> (&'static str, &str, Option<(&TreePath, &Origin)>) {
        let place = match self.task {
            TransferTask::Get(_) | TransferTask::GetTree => None,
            TransferTask::Put(_) | TransferTask::PutTree => Some((&self.remote, &self.origin)),
        };
        (self.task.command(), &self.local, place)
    }
}
