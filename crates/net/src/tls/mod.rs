//! TLS 1.3 around connections, for the listening and the connecting side.
//!
//! Each open connection has a thread (`pump`) that owns the encrypted socket. All other code uses
//! the near end of a local socket pair as it would use a TCP socket: it can be polled, shut down
//! and filled by `sendfile`.

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

/// The ALPN protocol name.
const PROTOCOL: &[u8] = b"relais";
/// The exporter label of the channel binding, after `tls-exporter` of RFC 9266.
const BINDING: &[u8] = b"EXPORTER-Channel-ChannelBinding";

/// A value that the two ends of one TLS session share; it ties a proof to that session.
pub type ChannelBinding = [u8; 32];

/// The connections that are encrypted (`--tls`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsMode {
    /// All connections.
    Always,
    /// All connections but those inside one machine.
    #[default]
    Remote,
    /// No connections.
    Never,
}

impl TlsMode {
    /// The names of the modes as option values.
    pub const NAMES: [&'static str; 3] = ["always", "remote", "never"];

    /// Whether a connection to or from this address must be encrypted.
    #[must_use]
    pub fn applies(self, other: IpAddr) -> bool {
        match self {
            Self::Always => true,
            Self::Remote => !other.to_canonical().is_loopback(),
            Self::Never => false,
        }
    }
}

/// The TLS options of a server's command line.
#[derive(Debug, Clone, Default)]
pub struct TlsOptions {
    /// The connections that are encrypted.
    pub encrypt: TlsMode,
    /// Files with the operator's certificate and key; empty for a certificate of the cluster.
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

/// The cryptographic provider of all TLS configurations.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn other(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Cap on a file of certificates: ten times the size of a system's list of public authorities.
const MAX_FILE: u64 = 4 << 20;

/// Reads a file up to the cap; its content may come from another user.
fn read_bounded(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        Err(io::Error::other("it has more than 4 MiB"))
    } else {
        Ok(bytes)
    }
}

/// Describes an error in a PEM text for users.
fn describe(error: &pem::Error) -> String {
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

/// Computes the channel binding of a connection.
fn binding(
    export: impl FnOnce(
        ChannelBinding,
        &'static [u8],
        Option<&'static [u8]>,
    ) -> Result<ChannelBinding, rustls::Error>,
) -> Result<ChannelBinding, rustls::Error> {
    export([0; 32], BINDING, Some(&[]))
}
