//! The cluster as pure state machines: events in, answers out.
//!
//! Owns the registry of slaves, whose turn it is, and which of a slave's
//! addresses a client can use. It opens no socket and no file and reads no
//! clock: whoever calls passes the time as what has gone by since a start of
//! its own choice, so that tests drive hours in a moment. Called by the master
//! alone.

mod address;
mod registry;
mod slave;
mod turn;

pub use address::{Place, Viewpoint, endpoints_for, same_host};
pub use registry::{Conflict, Joining, KNOWN_MAX, NoSlave, Notice, Registered, Registry};
pub use slave::LinkId;
pub use turn::Balance;
