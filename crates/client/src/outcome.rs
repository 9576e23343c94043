//! The outcomes of commands.
//!
//! A command returns an outcome or a [`Failure`]. Only `output` turns them into text or JSON.

use std::time::Duration;

use relais_net::tls::Fingerprint;
use relais_proto::{ClusterId, Digest, Entry, ErrorCode, FileTime, Kind, Lsn, Mode, ServerRole};

use crate::Failure;
use crate::session::StatusReport;

/// A file that was fetched completely.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    /// Remote path with a leading `/`.
    pub remote: String,
    /// Local name for messages.
    pub local: String,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// Time from the start of the command until the file has its name.
    pub time: Duration,
    /// Slaves that sent parts of the file, in order.
    pub slaves: Vec<String>,
    /// Bytes that an earlier run had fetched.
    pub resumed_from: u64,
}

/// A file that was stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    /// Remote path with a leading `/`.
    pub remote: String,
    /// Local name for messages; `-` for standard input.
    pub local: String,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// Time from the start of the command until the server acknowledged the file.
    pub time: Duration,
    /// Slaves that received parts of the file, in order.
    pub slaves: Vec<String>,
    /// Bytes that a server had before.
    pub resumed_from: u64,
    /// LSN of the change.
    pub version: Lsn,
    /// Number of slaves whose disks hold the file.
    pub copies: u16,
}

/// Changes to the tree other than transfers: `mkdir`, `rm`, `mv`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// LSN of the last change; none if nothing had to be changed.
    pub version: Option<Lsn>,
    /// Whether the command had several names; then failed names are listed.
    pub several: bool,
    /// Names that failed.
    pub failed: Vec<FailedName>,
}

/// A transfer that is unfinished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedTransfer {
    /// Whether the transfer is an upload.
    pub is_put: bool,
    /// Whether the transfer is recursive.
    pub is_tree: bool,
    /// Remote path with a leading `/`.
    pub remote: String,
    /// Local name as the `.log` has it.
    pub local: String,
    /// Host as the user typed it.
    pub host: String,
    /// Bytes transferred according to the last note; none for a folder.
    pub bytes: Option<u64>,
    /// Total size in bytes; none if it is unknown.
    pub size: Option<u64>,
    /// Start time, in seconds since 1970.
    pub since: u64,
}

/// Unfinished transfers, listed or dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedTransfers {
    /// Transfers in the order of the `.log`.
    pub transfers: Vec<UnfinishedTransfer>,
    /// Whether the transfers were dropped.
    pub dropped: bool,
}

/// A failed name of a command with several names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedName {
    /// Remote path, or the user's text if it is not a path.
    pub remote: String,
    /// Reason of the failure.
    pub failure: Failure,
}

/// Totals of a command that transferred several files.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BatchSummary {
    /// Number of completed files.
    pub files: u64,
    /// Number of folders that were made or existed.
    pub folders: u64,
    /// Total size of the files in bytes.
    pub bytes: u64,
    /// Duration of the command.
    pub time: Duration,
    /// Slaves that sent or received files.
    pub slaves: Vec<String>,
    /// Names that cannot be transferred: special files, links, and invalid names.
    pub skipped: Vec<String>,
    /// Names that failed.
    pub failed: Vec<FailedName>,
}

impl BatchSummary {
    /// Counts a fetched file.
    pub fn add(&mut self, file: &Received) {
        self.count(file.bytes, &file.slaves);
    }

    /// Counts a stored file.
    pub fn add_sent(&mut self, file: &Sent) {
        self.count(file.bytes, &file.slaves);
    }

    /// Adds all counts of `other`; its time is added because the commands ran one after the other.
    pub fn merge(&mut self, other: Self) {
        self.files += other.files;
        self.folders += other.folders;
        self.time = self.time.saturating_add(other.time);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.served_by(&other.slaves);
        self.skipped.extend(other.skipped);
        self.failed.extend(other.failed);
    }

    /// Records the slaves that took part.
    pub fn served_by(&mut self, slaves: &[String]) {
        for slave in slaves {
            if !self.slaves.contains(slave) {
                self.slaves.push(slave.clone());
            }
        }
    }

    fn count(&mut self, bytes: u64, slaves: &[String]) {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        self.served_by(slaves);
    }
}

/// The result of a mirror, or of its dry run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MirrorResult {
    /// What was transferred, or would be.
    pub summary: BatchSummary,
    /// Number of names that were removed, or would be.
    pub deleted: u64,
    /// Planned steps in order; none unless it was a dry run.
    pub planned: Option<Vec<MirrorStep>>,
}

impl MirrorResult {
    /// Whether the source and target were equal, as far as they could be compared.
    pub fn is_unchanged(&self) -> bool {
        let BatchSummary { files, folders, failed, .. } = &self.summary;
        (*files, *folders, self.deleted) == (0, 0, 0) && failed.is_empty()
    }
}

/// One step of a dry run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorStep {
    /// `make`, `get`, `put` or `delete`.
    pub action: &'static str,
    /// Path below the mirrored folder; the full path for that folder itself.
    pub path: String,
}

/// An entry as `ls`, `lls`, `stat` and `hash` show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedEntry {
    /// Last part of the path; `/` for the root.
    pub name: String,
    /// Full path, if the command has several folders.
    pub path: Option<String>,
    /// Kind of the entry; other kinds exist only locally.
    pub kind: ListedKind,
    /// Permission bits.
    pub mode: Mode,
    /// Size of the content in bytes.
    pub size: u64,
    /// Time of the last modification.
    pub mtime: FileTime,
    /// LSN of the last change to the path.
    pub version: Option<Lsn>,
    /// Digest and holders, if the command shows them.
    pub content: Option<EntryContent>,
}

/// The details that `stat` and `hash` add to an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryContent {
    /// Digest of a file; none if it is unknown.
    pub digest: Option<Digest>,
    /// Slaves that hold the content; `stat` only.
    pub holders: Option<Vec<String>>,
}

/// The kind of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListedKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A link, a device or another special file in a local folder.
    Other,
}

impl From<Kind> for ListedKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::File => Self::File,
            Kind::Folder => Self::Folder,
        }
    }
}

impl From<Entry> for ListedEntry {
    fn from(entry: Entry) -> Self {
        Self {
            name: if entry.name.is_empty() { "/".to_owned() } else { entry.name },
            path: None,
            kind: entry.kind.into(),
            mode: entry.mode,
            size: entry.size,
            mtime: entry.mtime,
            version: entry.version,
            content: None,
        }
    }
}

/// The current server and its reported state.
#[derive(Debug, Clone)]
pub struct ServerStatus {
    /// Host that the user named.
    pub host: String,
    /// Address of the current server.
    pub server: String,
    /// Slave of a cluster, or standalone slave.
    pub role: ServerRole,
    /// Cluster of the server.
    pub cluster: Option<ClusterId>,
    /// Authority of the server; none without encryption.
    pub authority: Option<Fingerprint>,
    /// State that the server reported.
    pub report: StatusReport,
}

/// The outcome of a command that did not fail as a whole.
#[derive(Debug)]
pub enum CommandOutcome {
    /// The current folder.
    Folder(String),
    /// The new current folder, which the prompt shows.
    FolderChanged(String),
    /// Text for the user.
    Text(String),
    /// Entries that were printed one by one, and the names that failed.
    Entries(Vec<FailedName>),
    /// One file was fetched.
    Received(Received),
    /// One file was stored.
    Sent(Sent),
    /// Several files were transferred.
    Batch(BatchSummary),
    /// A folder was mirrored.
    Mirrored(MirrorResult),
    /// The tree was changed.
    Changes(Changes),
    /// A local command succeeded.
    Ran,
    /// Unfinished transfers.
    Transfers(UnfinishedTransfers),
    /// The state of a server.
    Status(Box<ServerStatus>),
    /// The user wants to leave.
    Leave,
}

impl CommandOutcome {
    /// Returns the failure that represents all failures inside; none if all succeeded.
    pub fn failure(&self) -> Option<Failure> {
        match self {
            Self::Entries(failed) | Self::Changes(Changes { failed, .. }) => summary(failed),
            Self::Batch(several) => transfers(&several.failed),
            Self::Mirrored(mirrored) => transfers(&mirrored.summary.failed),
            _ => None,
        }
    }
}

/// Picks the gravest failure: interrupted, then resumable, then unreachable, then the first.
fn summary(failed: &[FailedName]) -> Option<Failure> {
    let has = |status| failed.iter().find(|f| f.failure.status() == status);
    let code =
        has(130).or_else(|| has(5)).or_else(|| has(3)).or_else(|| failed.first())?.failure.code;
    let message = match failed {
        [FailedName { failure, .. }] => failure.message.clone(),
        several => format!("{} names failed", several.len()),
    };
    Some(Failure { code, message })
}

/// As [`summary`], for transfers: if no server was reached, the rest can be resumed.
fn transfers(failed: &[FailedName]) -> Option<Failure> {
    let failure = summary(failed)?;
    Some(if failure.code == ErrorCode::Unreachable {
        Failure { code: ErrorCode::Cut, ..failure }
    } else {
        failure
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_times_are_added() {
        let one = |millis| BatchSummary {
            time: Duration::from_millis(millis),
            ..BatchSummary::default()
        };
        let mut all = one(200);
        all.merge(one(300));
        assert_eq!(all.time, Duration::from_millis(500));
    }

    #[test]
    fn gravest_failure_decides_the_status() {
        let failed = |codes: &[ErrorCode]| {
            let failed = codes
                .iter()
                .map(|code| FailedName { remote: "x".into(), failure: Failure::new(*code, "why") })
                .collect();
            CommandOutcome::Entries(failed).failure().map(|f| f.status())
        };
        assert_eq!(failed(&[]), None);
        assert_eq!(failed(&[ErrorCode::NotFound]), Some(1));
        assert_eq!(failed(&[ErrorCode::NotFound, ErrorCode::Cut]), Some(5));
        assert_eq!(
            failed(&[ErrorCode::NotFound, ErrorCode::Cut, ErrorCode::Interrupted]),
            Some(130)
        );
        assert_eq!(failed(&[ErrorCode::NotFound, ErrorCode::Unreachable]), Some(3));
        let failure = Failure::new(ErrorCode::Unreachable, "why");
        let several = BatchSummary {
            failed: vec![FailedName { remote: "x".into(), failure }],
            ..BatchSummary::default()
        };
        assert_eq!(CommandOutcome::Batch(several).failure().map(|f| f.status()), Some(5));
    }
}
