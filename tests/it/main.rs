//! Integration tests: the three real programs, killed, disconnected and lied to.
//!
//! All tests are one program, because linking takes longer than most tests. Each module covers one
//! promise; `harness` starts and watches the programs.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod harness;

pub mod accounts;
mod changes;
mod cluster;
mod commands;
mod dav;
mod docs;
mod document_commands;
mod failover;
mod fairness;
mod frame_cuts;
mod ftp;
mod get;
mod hostile;
mod http;
mod lifecycle;
mod listing;
mod make_targets;
mod proxy;
mod requests;
mod resume;
mod round_robin;
mod sandbox;
mod sessions_per_address;
mod skips;
mod standalone;
mod streams;
mod tls;
mod transfer_log;
