//! The cluster as pure state machines: events in, answers out.
//!
//! Owns the registry of slaves, whose turn it is, which of a slave's
//! addresses a client can use, and whether a change fits the tree. It opens no socket and no file and reads no
//! clock: whoever calls passes the time as what has gone by since a start of
//! its own choice, so that tests drive hours in a moment.

mod address;
mod check;
mod order;
mod registry;
mod sequence;
mod slave;
mod tree;
mod turn;

pub use address::{Place, Viewpoint, endpoints_for, same_host};
pub use check::{Node, View, check};
pub use order::{Action, Event, Holders, Order, TAIL, Told};
pub use registry::{Conflict, Joining, KNOWN_MAX, NoSlave, Notice, Registered, Registry};
pub use sequence::{Asked, Sequencer, Verdict};
pub use slave::LinkId;
pub use tree::{Content, Entry, Known, Tree};
pub use turn::Balance;
