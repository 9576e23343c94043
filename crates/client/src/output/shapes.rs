//! The JSON objects, field by field: a contract with scripts. Nothing is written here.

use relais_proto::{Lsn, ServerRole};
use serde::Serialize;

use super::text::{rfc3339, seconds};
use crate::Failure;
use crate::outcome::{
    BatchSummary, Changes, FailedName, ListedEntry, ListedKind, MirrorResult, Received, Sent,
    ServerStatus, UnfinishedTransfer, UnfinishedTransfers,
};

#[derive(Serialize)]
pub(super) struct JsonError<'a> {
    pub code: &'static str,
    pub message: &'a str,
}

impl<'a> From<&'a Failure> for JsonError<'a> {
    fn from(failure: &'a Failure) -> Self {
        Self { code: failure.code.text(), message: &failure.message }
    }
}

#[derive(Serialize)]
pub(super) struct JsonFailed<'a> {
    pub remote: &'a str,
    pub error: JsonError<'a>,
}

#[derive(Serialize)]
pub(super) struct JsonObject<'a, T: Serialize> {
    pub command: &'a str,
    pub ok: bool,
    #[serde(flatten)]
    pub rest: T,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<JsonError<'a>>,
}

#[derive(Serialize)]
pub(super) struct JsonEmpty {}

#[derive(Serialize)]
pub(super) struct JsonPath<'a> {
    pub path: &'a str,
}

#[derive(Serialize)]
pub(super) struct JsonText<'a> {
    pub text: &'a str,
}

#[derive(Serialize)]
pub(super) struct JsonReceived<'a> {
    pub remote: &'a str,
    pub local: &'a str,
    pub bytes: u64,
    pub seconds: f64,
    pub slaves: &'a [String],
    pub resumed_from: u64,
    pub verified: bool,
}

#[derive(Serialize)]
pub(super) struct JsonSent<'a> {
    #[serde(flatten)]
    pub moved: JsonReceived<'a>,
    pub version: String,
    pub copies: u16,
}

#[derive(Serialize)]
pub(super) struct JsonChanges<'a> {
    pub version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<Vec<JsonFailed<'a>>>,
}

#[derive(Serialize)]
pub(super) struct JsonSeveral<'a> {
    pub files: u64,
    pub folders: u64,
    pub bytes: u64,
    pub seconds: f64,
    pub slaves: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub skipped: &'a [String],
    pub failed: Vec<JsonFailed<'a>>,
}

#[derive(Serialize)]
pub(super) struct JsonMirrored<'a> {
    pub files: u64,
    pub folders: u64,
    pub bytes: u64,
    pub seconds: f64,
    pub slaves: &'a [String],
    pub deleted: u64,
    pub skipped: &'a [String],
    pub failed: Vec<JsonFailed<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planned: Option<Vec<JsonStep<'a>>>,
}

#[derive(Serialize)]
pub(super) struct JsonStep<'a> {
    pub action: &'static str,
    pub path: &'a str,
}

#[derive(Serialize)]
pub(super) struct JsonTransfers<'a> {
    pub transfers: Vec<JsonTransfer<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped: Option<usize>,
}

#[derive(Serialize)]
pub(super) struct JsonTransfer<'a> {
    pub direction: &'static str,
    pub recursive: bool,
    pub remote: &'a str,
    pub local: &'a str,
    pub bytes: Option<u64>,
    pub size: Option<u64>,
    pub since: Option<String>,
    pub host: &'a str,
}

impl<'a> From<&'a UnfinishedTransfers> for JsonTransfers<'a> {
    fn from(transfers: &'a UnfinishedTransfers) -> Self {
        let transfer = |transfer: &'a UnfinishedTransfer| JsonTransfer {
            direction: if transfer.is_put { "put" } else { "get" },
            recursive: transfer.is_tree,
            remote: &transfer.remote,
            local: &transfer.local,
            bytes: transfer.bytes,
            size: transfer.size,
            since: rfc3339(seconds(transfer.since)),
            host: &transfer.host,
        };
        Self {
            transfers: transfers.transfers.iter().map(transfer).collect(),
            dropped: transfers.dropped.then_some(transfers.transfers.len()),
        }
    }
}

#[derive(Serialize)]
pub(super) struct JsonEntry<'a> {
    pub name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<&'a str>,
    pub kind: &'static str,
    pub mode: String,
    pub size: u64,
    pub mtime: Option<String>,
    pub version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holders: Option<&'a [String]>,
}

#[derive(Serialize)]
pub(super) struct JsonSkipped {
    pub total: u64,
    pub links: u64,
    pub special: u64,
    pub mounts: u64,
    pub names: u64,
    pub unreadable: u64,
}

#[derive(Serialize)]
pub(super) struct JsonStatus<'a> {
    pub host: &'a str,
    pub server: &'a str,
    pub role: &'static str,
    pub slave: String,
    pub cluster: Option<String>,
    /// Whether the connection is encrypted.
    pub encrypted: bool,
    /// Authority of the server's certificate.
    pub authority: Option<String>,
    pub number: String,
    pub files: u64,
    pub folders: u64,
    pub bytes: u64,
    pub unhashed: u64,
    pub skipped: JsonSkipped,
    pub rescans: u64,
    /// Number of unfinished uploads, and below their bytes.
    pub uploads: u64,
    pub upload_bytes: u64,
    /// Number of paths at which the server's disk differs from the tree.
    pub unapplied: u64,
    pub sessions: u32,
    pub waiting: u32,
    pub workers: u32,
    /// Mechanisms that confine all workers.
    pub confined: Vec<&'static str>,
    pub last_error: Option<&'a str>,
}

impl<'a> From<&'a Received> for JsonReceived<'a> {
    fn from(file: &'a Received) -> Self {
        let Received { remote, local, bytes, time, slaves, resumed_from } = file;
        Self {
            remote,
            local,
            bytes: *bytes,
            seconds: time.as_secs_f64(),
            slaves,
            resumed_from: *resumed_from,
            verified: true,
        }
    }
}

impl<'a> From<&'a Sent> for JsonSent<'a> {
    fn from(file: &'a Sent) -> Self {
        let Sent { remote, local, bytes, time, slaves, resumed_from, version, copies } = file;
        let moved = JsonReceived {
            remote,
            local,
            bytes: *bytes,
            seconds: time.as_secs_f64(),
            slaves,
            resumed_from: *resumed_from,
            verified: true,
        };
        Self { moved, version: version.to_string(), copies: *copies }
    }
}

impl<'a> From<&'a Changes> for JsonChanges<'a> {
    fn from(changes: &'a Changes) -> Self {
        let Changes { version, several, failed } = changes;
        Self {
            version: version.map(|version| version.to_string()),
            failed: several.then(|| failures(failed)),
        }
    }
}

impl<'a> From<&'a BatchSummary> for JsonSeveral<'a> {
    fn from(several: &'a BatchSummary) -> Self {
        let BatchSummary { files, folders, bytes, time, slaves, skipped, failed } = several;
        Self {
            files: *files,
            folders: *folders,
            bytes: *bytes,
            seconds: time.as_secs_f64(),
            slaves,
            skipped,
            failed: failures(failed),
        }
    }
}

impl<'a> From<&'a MirrorResult> for JsonMirrored<'a> {
    fn from(mirrored: &'a MirrorResult) -> Self {
        let MirrorResult {
            summary: BatchSummary { files, folders, bytes, time, slaves, skipped, failed },
            deleted,
            planned,
        } = mirrored;
        Self {
            files: *files,
            folders: *folders,
            bytes: *bytes,
            seconds: time.as_secs_f64(),
            slaves,
            deleted: *deleted,
            skipped,
            failed: failures(failed),
            planned: planned.as_ref().map(|steps| {
                steps
                    .iter()
                    .map(|step| JsonStep { action: step.action, path: &step.path })
                    .collect()
            }),
        }
    }
}

impl<'a> From<&'a ListedEntry> for JsonEntry<'a> {
    fn from(shown: &'a ListedEntry) -> Self {
        let content = shown.content.as_ref();
        Self {
            name: &shown.name,
            path: shown.path.as_deref(),
            mode: shown.mode.to_string(),
            kind: match shown.kind {
                ListedKind::File => "file",
                ListedKind::Folder => "folder",
                ListedKind::Other => "other",
            },
            size: shown.size,
            mtime: rfc3339(shown.mtime),
            version: shown.version.as_ref().map(Lsn::to_string),
            digest: content.map(|c| c.digest.map(|d| d.to_string())),
            holders: content.and_then(|c| c.holders.as_deref()),
        }
    }
}

/// Converts names that failed.
pub(super) fn failures(failed: &[FailedName]) -> Vec<JsonFailed<'_>> {
    failed.iter().map(|f| JsonFailed { remote: &f.remote, error: (&f.failure).into() }).collect()
}

impl<'a> From<&'a ServerStatus> for JsonStatus<'a> {
    fn from(state: &'a ServerStatus) -> Self {
        let (report, counters) = (&state.report, &state.report.counters);
        Self {
            host: &state.host,
            server: &state.server,
            role: match state.role {
                ServerRole::Standalone => "standalone",
                ServerRole::Slave => "slave",
                ServerRole::Master => "master",
            },
            slave: report.slave.to_string(),
            cluster: state.cluster.map(|c| c.to_string()),
            encrypted: state.authority.is_some(),
            authority: state.authority.map(|authority| authority.to_string()),
            number: report.lsn.to_string(),
            files: counters.files,
            folders: counters.folders,
            bytes: counters.bytes,
            unhashed: counters.unhashed,
            skipped: JsonSkipped {
                total: counters.skipped(),
                links: counters.skipped_links,
                special: counters.skipped_special,
                mounts: counters.skipped_mounts,
                names: counters.skipped_names,
                unreadable: counters.skipped_unreadable,
            },
            rescans: counters.rescans,
            uploads: counters.uploads,
            upload_bytes: counters.upload_bytes,
            unapplied: counters.unapplied,
            sessions: counters.sessions,
            waiting: counters.waiting,
            workers: counters.workers,
            confined: counters.confinement.names(),
            last_error: (!report.last_error.is_empty()).then_some(report.last_error.as_str()),
        }
    }
}
