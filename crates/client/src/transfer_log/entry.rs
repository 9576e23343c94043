//! What one line of the `.log` says.

use std::mem::{Discriminant, discriminant};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use relais_proto::{ChangeId, Digest, Expect, FileTime, Identity, Lsn, SlaveId, TreePath};
use relais_transfer::{MOST_RANGES, Ranges, Resume};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::as_text;
use crate::origin::Origin;

/// An unfinished command, or one large file of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferEntry {
    /// The remote file or folder.
    #[serde(serialize_with = "as_text::serialize", deserialize_with = "remote_path")]
    pub remote: TreePath,
    /// The local name: relative to the folder of the `.log`, or absolute.
    pub local: String,
    /// Host, authority and cluster of the remote tree.
    pub origin: Origin,
    /// Start time, in seconds since 1970.
    pub since: u64,
    /// The kind of the transfer and its progress.
    pub task: TransferTask,
    /// Proof that a client of this user wrote the entry; only for an absolute local name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

/// The kind of a transfer and its progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TransferTask {
    /// A file is fetched, with the state of the part file; none before a server has sent anything.
    Get(Option<DownloadRecord>),
    /// A file is sent.
    Put(UploadRecord),
    /// A folder is fetched recursively.
    #[serde(rename = "get-r")]
    GetTree,
    /// A folder is sent recursively.
    #[serde(rename = "put-r")]
    PutTree,
}

/// The state that a download needs to resume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownloadRecord(#[serde(with = "ResumeFields")] pub Resume);

#[derive(Serialize, Deserialize)]
#[serde(remote = "Resume")]
struct ResumeFields {
    size: u64,
    #[serde(with = "TimeFields")]
    mtime: FileTime,
    #[serde(with = "as_text::optional")]
    digest: Option<Digest>,
    #[serde(with = "as_text::optional")]
    identity: Option<Identity>,
    #[serde(with = "as_text::optional")]
    version: Option<Lsn>,
    #[serde(serialize_with = "first_ranges", deserialize_with = "as_text::deserialize")]
    good: Ranges,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "FileTime")]
struct TimeFields {
    seconds: i64,
    nanos: u32,
}

/// The state that an upload needs to resume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadRecord {
    /// Id of the change; the server makes a change with the same id only once.
    #[serde(with = "as_text")]
    pub id: ChangeId,
    /// The slave that holds the partial upload; none before a server has answered.
    #[serde(with = "as_text::optional")]
    pub slave: Option<SlaveId>,
    /// Size of the local file in bytes.
    pub size: u64,
    /// Identity of the local file; an upload of another file restarts.
    #[serde(with = "as_text")]
    pub identity: Identity,
    /// The remote version that the upload replaces.
    #[serde(with = "ExpectFields")]
    pub expect: Expect,
    /// Bytes sent according to the last note; the server may have fewer.
    pub sent: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Expect", rename_all = "kebab-case")]
enum ExpectFields {
    Any,
    Absent,
    Unnumbered,
    #[serde(with = "as_text")]
    Lsn(Lsn),
}

fn remote_path<'de, D: Deserializer<'de>>(from: D) -> Result<TreePath, D::Error> {
    let text = String::deserialize(from)?;
    let path =
        text.strip_prefix('/').ok_or_else(|| D::Error::custom("a remote path begins with /"))?;
    TreePath::new(path).map_err(D::Error::custom)
}

/// Writes the ranges that a line may have: it may claim fewer bytes than there are, never more.
fn first_ranges<S: Serializer>(good: &Ranges, to: S) -> Result<S::Ok, S::Error> {
    let mut good = good.clone();
    good.keep_first(MOST_RANGES);
    as_text::serialize(&good, to)
}

impl TransferTask {
    /// Whether a whole folder is transferred.
    pub fn is_tree(&self) -> bool {
        matches!(self, Self::GetTree | Self::PutTree)
    }
}

impl TransferEntry {
    /// Whether the local name leads out of the folder of the `.log`.
    pub fn is_outside(&self) -> bool {
        self.local.starts_with('/')
    }

    /// Computes the signature of the entry in the `.log` of the folder `home`.
    ///
    /// It covers all that decides which file moves where.
    pub fn signature(&self, key: &[u8; 32], home: &Path) -> String {
        let kind = match self.task {
            TransferTask::Get(_) => "get",
            TransferTask::Put(_) => "put",
            TransferTask::GetTree => "get-r",
            TransferTask::PutTree => "put-r",
        };
        let mut hasher = blake3::Hasher::new_keyed(key);
        let origin = self.origin.hash();
        let texts = [kind, &self.local, self.remote.as_str(), &origin].map(str::as_bytes);
        for text in texts.into_iter().chain([home.as_os_str().as_bytes()]) {
            // No name contains a NUL, so the bytes are unambiguous.
            hasher.update(text).update(&[0]);
        }
        hasher.finalize().to_hex()[..32].to_owned()
    }

    /// Whether both entries have the same command and names.
    pub fn is_same(&self, other: &Self) -> bool {
        self.key() == other.key() && (&self.remote, &self.origin) == (&other.remote, &other.origin)
    }

    /// Returns the key of the entry, which is unique in the file.
    ///
    /// A local name can be fetched once only, because both downloads would use the same part file.
    /// The same file may be sent to several destinations.
    pub fn key(&self) -> (Discriminant<TransferTask>, &str, Option<(&TreePath, &Origin)>) {
        let place = match self.task {
            TransferTask::Get(_) | TransferTask::GetTree => None,
            TransferTask::Put(_) | TransferTask::PutTree => Some((&self.remote, &self.origin)),
        };
        (discriminant(&self.task), &self.local, place)
    }
}
