//! FTP sessions with a plain client.

mod before_login;
mod client;
mod cluster_login;
mod commands;
mod hostile;
mod listeners;
mod login;
mod proxied;
mod recorded;
mod replicas;
mod states;
mod tls;
mod transfers;

use std::net::SocketAddr;

pub use client::{FtpReply, FtpTestClient, reset};

use crate::harness::{Program, SOON, Standalone};

/// Starts a standalone slave that also serves FTP; returns it and its FTP address.
#[track_caller]
pub fn start_ftp(args: &[&str], files: &[(&str, &[u8])]) -> (Standalone, SocketAddr) {
    let args = [&["--ftp", "127.0.0.1:0"], args].concat();
    let slave = Standalone::start(&args, files);
    let addr = ftp_address(&slave.program, "ftp");
    (slave, addr)
}

/// Returns the address in the ready line of a protocol: `ftp` or `ftps`.
#[track_caller]
pub fn ftp_address(program: &Program, protocol: &str) -> SocketAddr {
    let wanted = format!("protocol={protocol}");
    program.stdout.wait_for(SOON, "the ready line of FTP", |text| {
        let (complete, _) = text.rsplit_once('\n')?;
        let line = complete.lines().find(|line| line.split(' ').any(|field| field == wanted))?;
        line.split(' ').find_map(|field| field.strip_prefix("addr="))?.parse().ok()
    })
}
