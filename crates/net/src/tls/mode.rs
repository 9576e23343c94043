//! The option that says which connections are encrypted.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

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
