//! WebDAV: locks and properties on all slaves and protocols, and what known clients send.

mod client;
mod locks;
mod methods;
mod properties;
mod recorded;

use std::net::SocketAddr;

pub use client::{DavClient, lock_body};

use crate::ftp::ftp_address;
use crate::harness::{Cluster, Standalone};

/// Starts a standalone slave that serves HTTP.
#[track_caller]
pub fn start(files: &[(&str, &[u8])]) -> (Standalone, DavClient) {
    let slave = Standalone::start(&["--http", "127.0.0.1:0"], files);
    let client = DavClient::new(ftp_address(&slave.program, "http"));
    (slave, client)
}

/// Starts a cluster of two slaves that serve HTTP and FTP; returns it with their HTTP addresses.
#[track_caller]
pub fn start_cluster(files: &[(&str, &[u8])]) -> (Cluster, [DavClient; 2]) {
    let mut builder = Cluster::of(2).slave_args(&["--http", "127.0.0.1:0", "--ftp", "127.0.0.1:0"]);
    for (name, bytes) in files {
        builder = builder.file(name, bytes);
    }
    let cluster = builder.start();
    let clients = [0, 1].map(|n| DavClient::new(http_address(&cluster, n)));
    (cluster, clients)
}

/// Returns the HTTP address of a slave.
#[track_caller]
pub fn http_address(cluster: &Cluster, n: usize) -> SocketAddr {
    ftp_address(&cluster.slaves[n].program, "http")
}
