//! Transfers of content: blocks, downloads, uploads, pipelines, resume and failover.
//!
//! Works over `relais-proto`, `relais-net` and `relais-tree`, for the client and for a slave that
//! fetches from another. It opens no connection, names no file and prints nothing. Callers pass
//! open files and sessions, and receive progress events.

mod action;
pub mod download;
mod error;
pub mod exchange;
mod failover;
pub mod pipeline;
mod progress;
mod ranges;
mod send;
mod sessions;
#[cfg(test)]
mod tests;
pub mod upload;

pub use action::{Action, Purpose, action};
pub use error::{Fault, TransferError};
pub use failover::{Failover, Try};
pub use progress::{Progress, Resume};
pub use ranges::{MOST_RANGES, Ranges};
pub use send::{
    BlockRange, ByteObserver, SENDFILE_FROM, SendOutcome, is_of_the_file, read_full, send_blocks,
};
pub use sessions::{Sessions, StreamSource};
