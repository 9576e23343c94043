//! The settings of FTP.

use std::net::IpAddr;
use std::ops::RangeInclusive;

/// Whether FTP clients encrypt their connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FtpTls {
    /// They cannot.
    Off,
    /// They can.
    Offered,
    /// They must.
    Required,
}

/// What the end of an encrypted upload without a closing alert means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsEof {
    /// The upload was cut.
    Strict,
    /// The upload is complete.
    Lenient,
}

/// How a slave serves FTP.
#[derive(Debug, Clone)]
pub struct FtpConfig {
    /// Address in the replies to PASV; none: the one that the client has reached.
    pub public: Option<IpAddr>,
    /// Ports of passive data connections; none: any.
    pub passive: Option<RangeInclusive<u16>>,
    /// Whether connections are encrypted.
    pub tls: FtpTls,
    /// Whether an encrypted data connection has to resume the TLS session of its control
    /// connection.
    pub tls_reuse_required: bool,
    /// What the end of an encrypted upload without a closing alert means.
    pub tls_eof: TlsEof,
}
