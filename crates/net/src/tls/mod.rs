//! TLS 1.3 around connections, for the side that listens and for the side that connects.
//!
//! A connection that stands is carried by a thread of its own (`pump`), which keeps the encrypted socket; everybody else has
//! the near end of a local pair of sockets, and need not know: it can be waited for, shut down, sent to by `sendfile`, and
//! handed to another process, as a TCP socket can.

mod client;
mod pump;
mod server;
mod trust;

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

pub use client::{DialError, Dialer, TlsInfo};
pub use pump::wait_until_delivered;
pub(crate) use server::Encrypted;
pub use server::{ServerCertificate, TlsServer, read_pem};
pub use trust::{
    Fingerprint, MASTER_NAME, SLAVE_NAME, TrustError, TrustPolicy, TrustedAuthorities,
};

use relais_proto::{quote, sanitize};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem;

/// The name of what is spoken inside.
const PROTOCOL: &[u8] = b"relais";
/// What two ends of one encrypted line have in common and nobody else has: RFC 9266, `tls-exporter`.
const BINDING: &[u8] = b"EXPORTER-Channel-ChannelBinding";

/// What ties a proof to the encrypted line on which it is given.
pub type ChannelBinding = [u8; 32];

/// Which connections are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsMode {
    /// All.
    Always,
    /// All but those inside one machine.
    #[default]
    Remote,
    /// None.
    Never,
}

impl TlsMode {
    /// How people name them.
    pub const NAMES: [&'static str; 3] = ["always", "remote", "never"];

    /// Whether a connection to or from this address has to be encrypted.
    #[must_use]
    pub fn applies(self, other: IpAddr) -> bool {
        match self {
            Self::Always => true,
            Self::Remote => !other.to_canonical().is_loopback(),
            Self::Never => false,
        }
    }
}

/// How a server encrypts, as its command line says it.
#[derive(Debug, Clone, Default)]
pub struct TlsOptions {
    /// Which connections.
    pub encrypt: TlsMode,
    /// Where the certificate and its key are that somebody has brought; empty: it is the cluster's own.
    pub files: Vec<PathBuf>,
}

impl FromStr for TlsMode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "always" => Ok(Self::Always),
            "remote" => Ok(Self::Remote),
            "never" => Ok(Self::Never),
            _ => Err("must be always, remote or never"),
        }
    }
}

/// The cryptography, one for all.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn other(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Most bytes of a file with certificates: ten times what systems keep of public authorities.
const FILE: u64 = 4 << 20;

/// All that a file has, which others may have put there.
fn read_bounded(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE {
        Err(io::Error::other("it has more than 4 MiB"))
    } else {
        Ok(bytes)
    }
}

/// What is wrong with a text in PEM, for people.
fn shown(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { end_marker } => {
            format!("a section has no line {}", sanitize(&String::from_utf8_lossy(end_marker)))
        }
        pem::Error::IllegalSectionStart { line } => {
            format!("a section begins with {}", quote(&String::from_utf8_lossy(line)))
        }
        other => other.to_string(),
    }
}

/// What the ends of this connection have in common.
fn binding(
    export: impl FnOnce(
        ChannelBinding,
        &'static [u8],
        Option<&'static [u8]>,
    ) -> Result<ChannelBinding, rustls::Error>,
) -> Result<ChannelBinding, rustls::Error> {
    export([0; 32], BINDING, Some(&[]))
}
