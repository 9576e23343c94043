//! One replica on a disk: the catalogue of a folder, its scans, staged uploads and their limits.
//!
//! This crate owns `.relais/catalogue.db`, `.relais/staging`, `.relais/removed`, the ids and the
//! writer lock of a folder. It returns data or typed errors. It starts no process and opens no
//! network connection; the caller decides which thread writes. Only `sys` is unsafe.

mod catalogue;
mod clock;
mod error;
mod identity;
mod metadata_folder;
mod proposal;
mod scan;
mod staging;
mod sys;
#[cfg(test)]
mod tests;
pub mod upload_table;
mod writer_lock;

pub use catalogue::path_listing::PathListing;
pub use catalogue::reader::{CatalogReader, EntryFacts, ListOutcome};
pub use catalogue::row::{CatalogRow, FileIdentity, OnDisk, RetainedContent, UnhashedFile};
pub use catalogue::skipped::SkipReason;
pub use catalogue::store::CatalogStore;
pub use catalogue::unapplied::UnappliedPath;
pub use clock::monotonic_ms;
pub use error::CatalogError;
pub use identity::{SlaveIdentity, StartParameters, discard_ids};
pub use metadata_folder::{FOLDER, MetadataFolder, open_or_create};
pub use proposal::{
    Commit, CommitReceipt, Proposal, ProposalResult, changes_unavailable, changes_unavailable_at,
};
pub use scan::debounce::{Debounce, QUIET};
pub use scan::mounts::{MountChanges, MountWatcher};
pub use scan::scanner::{DetectedChanges, Scanner};
pub use scan::watcher::{FolderEvent, FolderWatcher, WatchMode};
pub use staging::{StagedName, Staging, UnfinishedUpload};
pub use sys::lease::ignore_sigio;
pub use writer_lock::WriterLock;
