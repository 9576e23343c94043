//! One tree on every slave: what is put on one is on all of them, whatever dies, hangs or is cut off meanwhile, and nobody sees less
//! than was acknowledged.

mod branches;
pub mod catching_up;
mod cloned;
mod copies;
mod crashes;
pub mod cuts;
mod disks;
mod endurance;
pub mod failover;
mod freshness;
mod halfway;
mod identity;
mod in_place;
mod killed;
mod lab;
mod load;
mod lost_state;
mod memory;
mod modes;
mod operators;
mod places;
mod recorded;
mod recovery;
mod renamed;
pub mod replication;
mod same;
mod shared_folder;
mod storm;
mod table;
mod unapplied;
mod watch;
pub mod without;
