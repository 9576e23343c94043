//! HTTP on slaves and at the master with a plain client.

mod archives;
mod client;
mod conditions;
mod faults;
mod files;
mod heads;
mod hostile;
mod kept;
mod listeners;
mod log_outs;
mod login;
mod many_clients;
mod metrics;
mod operating;
mod proxies;
mod redirector;
mod replicas;
mod signed_urls;
mod status_page;
mod store;
mod uploads;

use std::net::SocketAddr;

pub use client::{HttpAnswer, HttpTestClient};

use crate::ftp::ftp_address;
use crate::harness::{SOON, Standalone, eventually};

/// Starts a standalone slave that also serves HTTP; returns it and its HTTP address.
#[track_caller]
pub fn start_http(args: &[&str], files: &[(&str, &[u8])]) -> (Standalone, SocketAddr) {
    let args = [&["--http", "127.0.0.1:0"], args].concat();
    let slave = Standalone::start(&args, files);
    let addr = ftp_address(&slave.program, "http");
    wait_published(addr, files.len());
    (slave, addr)
}

/// Waits until the root has so many entries, and all of them have a version.
#[track_caller]
pub fn wait_published(addr: SocketAddr, number: usize) {
    let fields = ["Accept: application/json", "Connection: close"];
    eventually(SOON, "the files are published", || {
        let answer = HttpTestClient::connect(addr).request("GET /", &fields, b"");
        let json: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
        let entries = json["entries"].as_array()?;
        let is_published = |entry: &serde_json::Value| !entry["version"].is_null();
        (entries.len() == number && entries.iter().all(is_published)).then_some(())
    });
}
