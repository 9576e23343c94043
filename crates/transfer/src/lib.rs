//! Transfers of content: blocks, downloads, uploads, pipelines, resume and failover.
//!
//! Works over `relais-proto`, `relais-net` and `relais-tree`, for the client and for a slave that
//! fetches from another. It opens no connection, names no file and prints nothing. Callers pass
//! open files and sessions, and receive progress events.

pub mod download;
pub mod pipeline;
mod ranges;
mod retry;
mod send;
pub mod upload;

pub use ranges::{MOST_RANGES, Ranges, RangesError};
pub use send::{BlockRange, ByteObserver, SENDFILE_FROM, SendOutcome, send_blocks};
