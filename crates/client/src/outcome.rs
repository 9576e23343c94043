//! What commands come to. A command returns one of these or a [`Failure`]; only `output`
//! turns them into text or JSON.

use std::time::Duration;

use relais_net::tls::Fingerprint;
use relais_proto::{ClusterId, Digest, Entry, ErrorCode, FileTime, Kind, Lsn, Mode, ServerRole};

use crate::Failure;
use crate::session::StatusReport;

/// A file that was fetched whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    /// The remote path, with `/` in front.
    pub remote: String,
    /// The local name as the user knows it.
    pub local: String,
    /// Bytes of the file.
    pub bytes: u64,
    /// From the start of the command to the file under its name.
    pub time: Duration,
    /// Who sent some of it, in order.
    pub slaves: Vec<String>,
    /// How many of the bytes were there before.
    pub resumed_from: u64,
}

/// A file that is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    /// The remote path, with `/` in front.
    pub remote: String,
    /// The local name as the user knows it; `-` for standard input.
    pub local: String,
    /// Bytes of the file.
    pub bytes: u64,
    /// From the start of the command to the answer that it is stored.
    pub time: Duration,
    /// Who took some of it, in order.
    pub slaves: Vec<String>,
    /// How many of the bytes a server had before.
    pub resumed_from: u64,
    /// The number of the change.
    pub version: Lsn,
    /// How many slaves' disks hold it.
    pub copies: u16,
}

/// Changes to the tree that are no transfers: `mkdir`, `rm`, `mv`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// The number of the last one; none where nothing had to be changed.
    pub version: Option<Lsn>,
    /// Whether there were several names; then what failed is told in a list.
    pub several: bool,
    /// The names that failed.
    pub failed: Vec<FailedName>,
}

/// A transfer that is unfinished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedTransfer {
    /// Whether it goes to the server.
    pub is_put: bool,
    /// Whether it is a folder with all that is in it.
    pub is_tree: bool,
    /// The remote path, with `/` in front.
    pub remote: String,
    /// The local name as the `.log` has it.
    pub local: String,
    /// The host as the user typed it.
    pub host: String,
    /// Bytes that were transferred, as far as that was noted; none for a folder.
    pub bytes: Option<u64>,
    /// Bytes of the whole; none where that is not known.
    pub size: Option<u64>,
    /// When it was begun, in seconds since 1970.
    pub since: u64,
}

/// The transfers that are unfinished, or that were dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedTransfers {
    /// In the order of the `.log`.
    pub transfers: Vec<UnfinishedTransfer>,
    /// Whether they were dropped.
    pub dropped: bool,
}

/// A name that failed among several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedName {
    /// The remote path, or what the user gave where that is none.
    pub remote: String,
    /// Why.
    pub failure: Failure,
}

/// Several files fetched or sent by one command.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BatchSummary {
    /// How many are there whole.
    pub files: u64,
    /// How many folders were made or found.
    pub folders: u64,
    /// The bytes of the files.
    pub bytes: u64,
    /// For all of them.
    pub time: Duration,
    /// Who sent or took some of them.
    pub slaves: Vec<String>,
    /// What is neither file nor folder, or has no name that can be used.
    pub skipped: Vec<String>,
    /// The others.
    pub failed: Vec<FailedName>,
}

impl BatchSummary {
    /// One more was fetched.
    pub fn add(&mut self, file: &Received) {
        self.count(file.bytes, &file.slaves);
    }

    /// One more is stored.
    pub fn add_sent(&mut self, file: &Sent) {
        self.count(file.bytes, &file.slaves);
    }

    /// Takes in all of `other`; what took time one behind the other adds up.
    pub fn merge(&mut self, other: Self) {
        self.files += other.files;
        self.folders += other.folders;
        self.time = self.time.saturating_add(other.time);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.served_by(&other.slaves);
        self.skipped.extend(other.skipped);
        self.failed.extend(other.failed);
    }

    /// Notes who had a part in it.
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

/// A folder that was made equal to another, or what would be done for it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MirrorResult {
    /// What was transferred, or would be.
    pub summary: BatchSummary,
    /// How many names were removed, or would be.
    pub deleted: u64,
    /// What would be done, in order; none where it was done.
    pub planned: Option<Vec<MirrorStep>>,
}

impl MirrorResult {
    /// Whether both folders were equal, as far as they could be compared.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        let BatchSummary { files, folders, failed, .. } = &self.summary;
        (*files, *folders, self.deleted) == (0, 0, 0) && failed.is_empty()
    }
}

/// One step that would be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorStep {
    /// `make`, `get`, `put` or `delete`.
    pub action: &'static str,
    /// Below the folder that is mirrored; in full for that folder itself.
    pub path: String,
}

/// One name for `ls`, `lls`, `stat` and `hash`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedEntry {
    /// The last part of the path; `/` for the top.
    pub name: String,
    /// The whole path, where several folders are looked into.
    pub path: Option<String>,
    /// File, folder, or something else that is only found locally.
    pub kind: ListedKind,
    /// Permission bits.
    pub mode: Mode,
    /// Bytes of content.
    pub size: u64,
    /// Last modification.
    pub mtime: FileTime,
    /// The last change to its path.
    pub version: Option<Lsn>,
    /// Digest and holders, where the command asks for them.
    pub content: Option<EntryContent>,
}

/// What `stat` and `hash` add to an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryContent {
    /// Where it is a file and the digest is known.
    pub digest: Option<Digest>,
    /// Who has it; `stat` alone.
    pub holders: Option<Vec<String>>,
}

/// What a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListedKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A link, device or similar in a local folder.
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

/// The server in use and what it says of itself.
#[derive(Debug, Clone)]
pub struct ServerStatus {
    /// What the user connected to.
    pub host: String,
    /// The server in use.
    pub server: String,
    /// A cluster's slave, or one that stands alone.
    pub role: ServerRole,
    /// Its cluster.
    pub cluster: Option<ClusterId>,
    /// By which authority the server is certified; none where the line is in the clear.
    pub authority: Option<Fingerprint>,
    /// What it answered.
    pub report: StatusReport,
}

/// What a command comes to when it does not fail as a whole.
#[derive(Debug)]
pub enum CommandOutcome {
    /// Where the user is.
    Folder(String),
    /// Where the user is from now on; people see it in the prompt.
    FolderChanged(String),
    /// Text for the user.
    Text(String),
    /// Entries, put out one by one already; some names may have failed.
    Entries(Vec<FailedName>),
    /// One file.
    Received(Received),
    /// One file that is stored.
    Sent(Sent),
    /// Several files.
    Batch(BatchSummary),
    /// A folder was made equal to another.
    Mirrored(MirrorResult),
    /// The tree was changed.
    Changes(Changes),
    /// A local command ran and ended well.
    Ran,
    /// What is unfinished.
    Transfers(UnfinishedTransfers),
    /// A server's state.
    Status(Box<ServerStatus>),
    /// The user wants to leave.
    Leave,
}

impl CommandOutcome {
    /// The failure that stands for all of those inside; none where all went well.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        match self {
            Self::Entries(failed) | Self::Changes(Changes { failed, .. }) => summary(failed),
            Self::Batch(several) => transfers(&several.failed),
            Self::Mirrored(mirrored) => transfers(&mirrored.summary.failed),
            _ => None,
        }
    }
}

/// An interruption stands for all, then what can be carried on, then that no server was reached, then whatever came first.
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

/// As [`summary`], of transfers: of those that no server was reached for, the rest can be carried on.
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
    fn times_add_up() {
        let one = |millis| BatchSummary {
            time: Duration::from_millis(millis),
            ..BatchSummary::default()
        };
        let mut all = one(200);
        all.merge(one(300));
        assert_eq!(all.time, Duration::from_millis(500));
    }

    #[test]
    fn the_gravest_failure_stands_for_all() {
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
