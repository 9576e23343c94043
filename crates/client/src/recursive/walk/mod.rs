//! Complete listings of local and remote subtrees, without changes or messages.
//!
//! A listing has one record for each name, and records what could not be read.

mod local;
mod remote;

pub use local::local;
pub use remote::remote;
