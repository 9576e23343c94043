//! The outcomes of commands, with their shapes in JSON.
//!
//! A command returns an outcome or a [`Failure`]. Only `output` prints them. The names of the
//! fields and their order are a contract with scripts.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use relais_proto::{Digest, Entry, ErrorCode, FileTime, Kind, Lsn, Metrics, Mode, ServerRole};
use serde::{Serialize, Serializer};

use crate::as_text;
use crate::{Failure, Result};

/// A file that was transferred completely.
#[derive(Debug, Serialize)]
pub struct TransferredFile {
    /// Remote path with a leading `/`.
    pub remote: String,
    /// Local name for messages; `-` for standard input and output.
    pub local: String,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// Time from the start of the command until the file has its name.
    #[serde(rename = "seconds", serialize_with = "in_seconds")]
    pub time: Duration,
    /// Slaves that sent or received parts of the file, in order.
    pub slaves: Vec<String>,
    /// Bytes that the receiver had before.
    pub resumed_from: u64,
    /// Always true: without the right digest the command fails.
    pub verified: bool,
    /// The change that stored the file; none for a fetched file.
    #[serde(flatten)]
    pub stored: Option<StoredFile>,
}

/// The change that stored a file.
#[derive(Debug, Serialize)]
pub struct StoredFile {
    #[serde(serialize_with = "as_text::serialize")]
    pub version: Lsn,
    /// Number of slaves whose disks hold the file.
    pub copies: u16,
}

impl TransferredFile {
    /// Describes a file whose transfer began at `begun` and has just ended.
    pub fn new(
        remote: String,
        local: String,
        bytes: u64,
        begun: Instant,
        servers: &[SocketAddr],
        resumed_from: u64,
    ) -> Self {
        let (time, slaves) = (begun.elapsed(), servers.iter().map(ToString::to_string).collect());
        Self { remote, local, bytes, time, slaves, resumed_from, verified: true, stored: None }
    }
}

/// An unfinished transfer in the `.log`.
#[derive(Debug, Serialize)]
pub struct UnfinishedTransfer {
    /// `get` or `put`.
    pub direction: &'static str,
    /// Whether it is a whole folder.
    pub recursive: bool,
    /// Remote path with a leading `/`.
    pub remote: String,
    /// Local name as in the `.log`.
    pub local: String,
    /// Transferred bytes; none for a folder.
    pub bytes: Option<u64>,
    /// Size of the file; none if it is unknown.
    pub size: Option<u64>,
    /// Start time.
    #[serde(serialize_with = "as_time")]
    pub since: FileTime,
    /// Host of the transfer.
    pub host: String,
}

/// A name of a command that failed.
#[derive(Debug, Serialize)]
pub struct FailedName {
    /// Remote path if one is known, else the name as it was given.
    pub remote: String,
    #[serde(rename = "error")]
    pub failure: Failure,
}

/// The totals of a command over several files.
#[derive(Debug, Default, Serialize)]
pub struct BatchSummary {
    /// Transferred files.
    pub files: u64,
    /// Folders that exist now on the target side.
    pub folders: u64,
    /// Total size of the files in bytes.
    pub bytes: u64,
    /// Duration of the command.
    #[serde(rename = "seconds", serialize_with = "in_seconds")]
    pub time: Duration,
    /// All slaves that took part, in order.
    pub slaves: Vec<String>,
    /// Names that `mirror` removed from the target; none for other commands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted: Option<u64>,
    /// Names that were skipped without being a failure; none of other commands than `mirror` that
    /// skipped nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<Vec<String>>,
    /// Names that failed.
    pub failed: Vec<FailedName>,
    /// The steps of `mirror --dry-run`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planned: Option<Vec<MirrorStep>>,
}

impl BatchSummary {
    /// Adds a file.
    pub fn add(&mut self, file: &TransferredFile) {
        self.count(file.bytes);
        self.served_by(&file.slaves);
    }

    /// Adds a file of this size.
    pub fn count(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Adds skipped names.
    pub fn skip(&mut self, names: impl IntoIterator<Item = String>) {
        let mut names = names.into_iter().peekable();
        if names.peek().is_some() {
            self.skipped.get_or_insert_default().extend(names);
        }
    }

    /// Adds the totals of another command.
    pub fn merge(&mut self, other: Self) {
        self.files += other.files;
        self.folders += other.folders;
        self.time = self.time.saturating_add(other.time);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.served_by(&other.slaves);
        self.skip(other.skipped.unwrap_or_default());
        self.failed.extend(other.failed);
    }

    /// Adds the slaves that are not known yet.
    pub fn served_by(&mut self, slaves: &[String]) {
        for slave in slaves {
            if !self.slaves.contains(slave) {
                self.slaves.push(slave.clone());
            }
        }
    }
}

/// A step of `mirror --dry-run`.
#[derive(Debug, Serialize)]
pub struct MirrorStep {
    /// `make`, `get`, `put` or `delete`.
    pub action: &'static str,
    /// Path below the target, or the name of the target itself.
    pub path: String,
}

/// One line of a listing.
#[derive(Debug, Serialize)]
pub struct ListedEntry {
    pub name: String,
    /// Full remote path, if the command shows single paths.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    pub kind: ListedKind,
    #[serde(serialize_with = "as_text::serialize")]
    pub mode: Mode,
    /// Size in bytes; 0 for a folder.
    pub size: u64,
    #[serde(serialize_with = "as_time")]
    pub mtime: FileTime,
    #[serde(serialize_with = "as_text::optional::serialize")]
    pub version: Option<Lsn>,
    /// Digest and holders, if the command asked for them.
    #[serde(flatten)]
    pub content: Option<EntryContent>,
}

/// What is known of an entry's content.
#[derive(Debug, Serialize)]
pub struct EntryContent {
    /// None if the digest is unknown.
    #[serde(serialize_with = "as_text::optional::serialize")]
    pub digest: Option<Digest>,
    /// Slaves with the content, if the command asked for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holders: Option<Vec<String>>,
}

/// The kind of a listed entry; a local folder may hold others than files and folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ListedKind {
    File,
    Folder,
    Other,
}

impl From<Entry> for ListedEntry {
    fn from(entry: Entry) -> Self {
        Self {
            // The root has no name of its own.
            name: if entry.name.is_empty() { "/".to_owned() } else { entry.name },
            path: None,
            kind: match entry.kind {
                Kind::File => ListedKind::File,
                Kind::Folder => ListedKind::Folder,
            },
            mode: entry.mode,
            size: entry.size,
            mtime: entry.mtime,
            version: entry.version,
            content: None,
        }
    }
}

/// The state of the current server.
#[derive(Debug, Serialize)]
pub struct ServerStatus {
    /// The server that the user named.
    pub host: String,
    /// Address of the current server.
    pub server: String,
    #[serde(serialize_with = "as_role")]
    pub role: ServerRole,
    pub slave: String,
    pub cluster: Option<String>,
    pub encrypted: bool,
    /// Authority of the server's certificate; none without encryption.
    pub authority: Option<String>,
    /// LSN of the latest change that the slave has.
    pub number: String,
    #[serde(flatten, serialize_with = "as_fields")]
    pub metrics: Metrics,
    /// The names that the slave does not serve, by reason.
    #[serde(serialize_with = "as_map")]
    pub skipped: [(&'static str, u64); 6],
    /// Sandbox measures of the workers.
    pub confined: Vec<&'static str>,
    pub last_error: Option<String>,
}

fn as_fields<S: Serializer>(metrics: &Metrics, to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(metrics.fields())
}

fn as_map<S: Serializer>(counts: &[(&'static str, u64)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(counts.iter().copied())
}

/// What a command achieved.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum CommandOutcome {
    /// The current folder.
    Folder { path: String },
    /// The new current folder, which text output does not show.
    FolderChanged { path: String },
    /// A text.
    Text { text: String },
    /// Entries were listed; some of several names may have failed.
    Entries { failed: Vec<FailedName> },
    /// One file was transferred.
    File(TransferredFile),
    /// Several files were transferred.
    Batch(BatchSummary),
    /// The tree was changed otherwise than by transfers.
    Changes {
        /// LSN of the last change; none if nothing had to be changed.
        #[serde(serialize_with = "as_text::optional::serialize")]
        version: Option<Lsn>,
        /// Names that failed; none if the command had one name.
        #[serde(skip_serializing_if = "Option::is_none")]
        failed: Option<Vec<FailedName>>,
    },
    /// The unfinished transfers, or those that were dropped.
    Transfers {
        transfers: Vec<UnfinishedTransfer>,
        /// Number of dropped transfers, if the command drops them.
        #[serde(skip_serializing_if = "Option::is_none")]
        dropped: Option<usize>,
    },
    /// The state of the current server.
    Status(Box<ServerStatus>),
    /// A local program ended successfully.
    Ran {},
    /// The user leaves the program.
    Leave {},
}

/// Returns the failure of a command, or the one that sums up its failed names.
pub fn failure_of(result: &Result<CommandOutcome>) -> Option<Failure> {
    match result {
        Err(failure) => Some(failure.clone()),
        Ok(
            CommandOutcome::Entries { failed }
            | CommandOutcome::Changes { failed: Some(failed), .. },
        ) => summary(failed),
        Ok(CommandOutcome::Batch(several)) => {
            summary(&several.failed).map(|failure| match failure.code {
                // A transfer that found no server can be resumed.
                ErrorCode::Unreachable => Failure { code: ErrorCode::Cut, ..failure },
                _ => failure,
            })
        }
        Ok(_) => None,
    }
}

/// Sums up failed names: an interruption comes first, then what can be resumed.
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

/// Returns a time for printing; none if it is too far away.
pub fn timestamp(time: FileTime) -> Option<jiff::Timestamp> {
    jiff::Timestamp::new(time.seconds, i32::try_from(time.nanos).ok()?).ok()
}

fn in_seconds<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(time.as_secs_f64())
}

fn as_time<S: Serializer>(time: &FileTime, to: S) -> Result<S::Ok, S::Error> {
    as_text::optional::serialize(&timestamp(*time), to)
}

fn as_role<S: Serializer>(role: &ServerRole, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(match role {
        ServerRole::Standalone => "standalone",
        ServerRole::Slave => "slave",
        ServerRole::Master => "master",
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
            failure_of(&Ok(CommandOutcome::Entries { failed })).map(|f| f.status())
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
        assert_eq!(failure_of(&Ok(CommandOutcome::Batch(several))).map(|f| f.status()), Some(5));
    }
}
