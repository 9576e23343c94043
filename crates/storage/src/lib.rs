//! One replica on a disk: a folder, its catalogue, staged uploads, local edits and replication.
//!
//! This crate owns `.relais/catalogue.db`, `.relais/staging`, `.relais/removed`,
//! `.relais/conflicts`, the ids and the writer lock of a folder. It returns data or typed errors.
//! Messages go in and out as values. It starts no process, opens no network connection, and has no
//! thread that outlives a call; the caller decides which thread writes. Only `sys` is unsafe.

mod apply;
mod catalogue;
mod clock;
mod error;
mod identity;
mod metadata_folder;
mod parallel;
mod progress;
mod proposal;
mod quarantine;
mod refusal;
mod replication;
mod scan;
mod staging;
mod sys;
#[cfg(test)]
mod tests;
mod upload_base;
pub mod upload_table;
mod writer_lock;

pub use catalogue::events::{EventPage, EventPosition};
pub use catalogue::path_listing::PathListing;
pub use catalogue::reader::{CatalogReader, ListOutcome};
pub use catalogue::row::{CatalogRow, EntryFacts, FileIdentity, RetainedContent, UnhashedFile};
pub use catalogue::skipped::SkipReason;
pub use catalogue::store::CatalogStore;
pub use catalogue::unapplied::UnappliedPath;
pub use clock::monotonic_ms;
pub use error::CatalogError;
pub use identity::{SlaveIdentity, StartParameters, discard_ids};
pub use metadata_folder::{FOLDER, MetadataFolder, open_or_create};
pub use progress::ReplicaProgress;
pub use proposal::{Commit, CommitReceipt, Proposal, ProposalResult};
pub use refusal::{changes_unavailable, changes_unavailable_at, log_failure, refuse};
pub use replication::driver::{ReplicaDriver, ReplicaDriverConfig};
pub use replication::messages::{
    FetchFailure, FetchResult, FetchedFile, LinkEvent, Output, SessionRequests,
};
pub use replication::proposals::BATCH;
pub use scan::debounce::{Debounce, QUIET};
pub use scan::mounts::{MountChanges, MountWatcher};
pub use scan::scanner::{DetectedChanges, Scanner};
pub use scan::watcher::{FolderEvent, FolderWatcher, WatchMode};
pub use staging::{StagedName, Staging, UnfinishedUpload};
pub use sys::lease::ignore_sigio;
pub use upload_base::UploadBase;
pub use writer_lock::WriterLock;
