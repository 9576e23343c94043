//! Cluster logic as pure state machines: events in, actions out.
//!
//! The crate owns the registry of slaves, the selection of a slave for a client, the addresses in
//! redirects, and the check of changes against the tree. It also owns both sides of replication:
//! [`Coordinator`] in the master and [`replica`] in the slave.
//!
//! It opens no socket and no file and reads no clock. The caller passes the time since a start of
//! its own choice, so tests run hours in a moment.

mod annotation_tables;
mod check;
mod check_annotations;
mod check_locks;
mod content_hashes;
mod coordinator;
pub mod freshness;
mod history_hash;
mod http_addresses;
mod locks;
mod message_budget;
mod packed_map;
mod properties;
pub mod reconnect;
pub mod record;
mod registry;
pub mod replica;
mod round_robin;
mod sequence;
mod slave;
mod slave_addresses;
pub mod timeline;
mod tree;
mod tree_view;

pub use check::{RequestContext, check};
pub use content_hashes::ContentHashTable;
pub use coordinator::{
    AnnotationTransfer, Coordinator, CoordinatorAction, CoordinatorEvent, HaltReason,
    HistoryRelation, Holders, IDS, LocatedEntry, MasterState, REMOVALS, REMOVALS_PER_ACCOUNT,
    RemovalRecords, TAIL, TAIL_BYTES, Trimmed,
};
pub use history_hash::{HistoryHash, first as first_history_hash, next as next_history_hash};
pub use http_addresses::{HttpAddresses, HttpEndpoint, HttpRequester};
pub use locks::LockTable;
pub use message_budget::{
    CommittedEntry, LARGE, MessageBudget, PAGE, PIPELINED, ReplicaPosition, ToMaster, ToSlave,
};
pub use properties::{PathProperties, PropertyTable};
pub use registry::{Conflict, JoinRequest, KNOWN_MAX, NoSlave, Registry, SlaveStateChange};
pub use round_robin::Balance;
pub use sequence::{ChangeRequest, SequenceResult, Sequencer};
pub use slave::{KnownSlave, LinkId};
pub use slave_addresses::{ConnectionAddrs, SlaveAddresses, endpoints_for, same_host};
pub use tree::{Effects, Entry, FileContent, Tree, TreeState};
pub use tree_view::{TreeNode, TreeView};
