//! Replication: applies committed changes to the disk, and proposes those of sessions and users.

mod apply_batch;
mod apply_error;
mod blocking_entries;
mod disk_transaction;
pub mod driver;
mod known_entry;
mod local_changes;
mod local_edits;
pub mod messages;
mod pending_answers;
pub mod proposals;
mod publish;
mod resync;
mod retry;
mod scrub;
mod unapplied;
