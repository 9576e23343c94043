//! The cluster as pure state machines: events in, answers out.
//!
//! Owns the registry of slaves, whose turn it is, which of a slave's
//! addresses a client can use, whether a change fits the tree, and both parts in changes: the master's
//! ([`Order`]) and the slave's ([`replica`]). It opens no socket and no file and reads no
//! clock: whoever calls passes the time as what has gone by since a start of
//! its own choice, so that tests drive hours in a moment.

mod address;
mod chain;
mod check;
mod message;
mod order;
pub mod record;
mod registry;
pub mod replica;
mod round_robin;
mod sequence;
mod slave;
pub mod timeline;
mod tree;

pub use address::{Place, Viewpoint, endpoints_for, same_host};
pub use chain::{Chain, next as next_chain};
pub use check::{Node, View, check};
pub use message::{CommittedEntry, LARGE, PAGE, ReplicaPosition, Room, ToMaster, ToSlave};
pub use order::{
    Action, Event, Halt, Holders, IDS, MasterState, Order, REMOVALS, REMOVALS_PER_ACCOUNT, Reach,
    Removed, TAIL, TAIL_BYTES,
};
pub use registry::{
    Conflict, JoinRequest, KNOWN_MAX, KnownSlave, NoSlave, Registered, Registry, SlaveStateChange,
};
pub use round_robin::Balance;
pub use sequence::{ChangeRequest, Sequencer, Verdict};
pub use slave::LinkId;
pub use tree::{Content, Effects, Entry, Known, Tree};
