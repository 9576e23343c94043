//! The three programs, started for real, killed, cut off, lied to.
//!
//! One program for all of it, because linking takes longer than most tests.
//! Each module owns one promise; `harness` starts and watches the programs.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod harness;

pub mod accounts;
mod addresses;
mod changes;
mod cluster;
mod commands;
mod confined;
mod docs;
mod failover;
mod fairness;
mod get;
mod hostile;
mod lifecycle;
mod lines;
mod listing;
mod make;
mod resume;
mod skips;
mod standalone;
mod tls;
mod transfers;
mod turn;
