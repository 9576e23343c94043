//! Finding all that a subtree holds, there and here. Nothing is changed and nothing is told.
//!
//! A listing keeps one record for each name, and says what of it could not be had.

mod local;
mod remote;

pub use local::local;
pub use remote::remote;
