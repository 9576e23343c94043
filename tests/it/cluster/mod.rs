//! Cluster tests: one tree on every slave, whatever fails, and no client sees less than was
//! acknowledged.

mod annotations;
mod branches;
mod bulk_crashes;
pub mod catching_up;
mod cloned_disk;
mod copies;
mod crashes;
mod endurance;
pub mod failover;
mod freshness;
mod full_disks;
pub mod helpers;
mod identity;
mod in_place_edits;
mod interrupted_changes;
mod kills_under_load;
mod load;
mod lost_state;
pub mod master_outages;
mod memory;
mod modes;
mod operators;
mod other_history;
pub mod partitions;
mod recordings;
mod recovery;
mod renamed_root;
pub mod replication;
mod shared_folder;
mod storm;
mod table;
mod tree_equality;
mod unapplied;
mod watch;
mod watching;
mod worker_slots;
