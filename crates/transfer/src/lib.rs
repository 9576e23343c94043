//! Sending and fetching content, pieces, resume, moving to another server.
//!
//! Works over `relais-proto`, `relais-net` and `relais-tree`, for the client and for a slave that
//! fetches from another alike. It opens no connection, names no file and prints nothing: callers
//! hand it open files and sessions, and are told what happens.

pub mod download;
pub mod pipeline;
mod ranges;
mod retry;
mod send;
pub mod upload;

pub use ranges::{MOST_RANGES, Ranges, RangesError};
pub use send::{BlockRange, ByteObserver, SENDFILE_FROM, SendOutcome, send_blocks};
