//! One replica on a disk: the catalogue of a folder, its scans, staged uploads and their limits.
//!
//! This crate owns `.relais/catalogue.db`, `.relais/staging`, `.relais/removed`, the ids and the
//! writer lock of a folder. It returns data or typed errors. It starts no process and opens no
//! network connection; the caller decides which thread writes. Only `sys` is unsafe.

mod catalogue;
mod clock;
mod proposal;
mod staging;
mod sys;
pub mod upload_table;

pub use catalogue::{
    AppliedEntry, CatalogError, CatalogReader, CatalogRow, CatalogStore, Debounce, DetectedChanges,
    EntryFacts, FOLDER, FileIdentity, FolderEvent, FolderWatcher, History, ListOutcome,
    MetadataFolder, MountWatcher, PathListing, QUIET, RetainedContent, Scanner, SkipReason,
    SlaveIdentity, StartParameters, UnappliedPath, UnhashedFile, WatchMode, WriterLock,
    discard_ids, missing_content_of,
};
pub use clock::monotonic_ms;
pub use proposal::{
    Commit, CommitReceipt, Proposal, ProposalResult, changes_unavailable, changes_unavailable_at,
};
pub use staging::{StagedName, Staging, UnfinishedUpload};
pub use sys::lease::ignore_sigio;
