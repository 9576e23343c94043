//! HTTP on slaves with a plain client.

mod archives;
mod client;
mod conditions;
mod files;
mod hostile;
mod kept;
mod listeners;
mod login;
mod replicas;
mod store;
mod uploads;

use std::net::SocketAddr;

pub use client::{HttpAnswer, HttpTestClient};

use crate::ftp::ftp_address;
use crate::harness::Standalone;

/// Starts a standalone slave that also serves HTTP; returns it and its HTTP address.
#[track_caller]
pub fn start_http(args: &[&str], files: &[(&str, &[u8])]) -> (Standalone, SocketAddr) {
    let args = [&["--http", "127.0.0.1:0"], args].concat();
    let slave = Standalone::start(&args, files);
    files.iter().for_each(|(name, _)| slave.wait_listed(name, true));
    let addr = ftp_address(&slave.program, "http");
    (slave, addr)
}
