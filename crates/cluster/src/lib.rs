//! The cluster as pure state machines: events in, answers out.
//!
//! Owns the registry of slaves, whose turn it is, which of a slave's
//! addresses a client can use, whether a change fits the tree, and both parts in changes: the master's
//! ([`Coordinator`]) and the slave's ([`replica`]). It opens no socket and no file and reads no
//! clock: whoever calls passes the time as what has gone by since a start of
//! its own choice, so that tests drive hours in a moment.

mod check;
mod coordinator;
mod history_hash;
mod message_budget;
pub mod record;
mod registry;
pub mod replica;
mod round_robin;
mod sequence;
mod slave;
mod slave_addresses;
pub mod timeline;
mod tree;

pub use check::{TreeNode, TreeView, check};
pub use coordinator::{
    Action, Coordinator, Event, HaltReason, HistoryRelation, Holders, IDS, MasterState, REMOVALS,
    REMOVALS_PER_ACCOUNT, RemovalRecords, TAIL, TAIL_BYTES,
};
pub use history_hash::{HistoryHash, next as next_history_hash};
pub use message_budget::{
    CommittedEntry, LARGE, MessageBudget, PAGE, ReplicaPosition, ToMaster, ToSlave,
};
pub use registry::{
    Conflict, JoinRequest, KNOWN_MAX, KnownSlave, NoSlave, Registered, Registry, SlaveStateChange,
};
pub use round_robin::Balance;
pub use sequence::{ChangeRequest, SequenceResult, Sequencer};
pub use slave::LinkId;
pub use slave_addresses::{ConnectionAddrs, SlaveAddresses, endpoints_for, same_host};
pub use tree::{Effects, Entry, FileContent, Tree, TreeState};
