//! Why there is no data connection, or why one has ended.

use std::io;

use relais_ftp::Reply;
use thiserror::Error;

/// Why the control connection ends a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Interruption {
    /// The client has sent ABOR.
    #[error("the transfer was aborted")]
    Aborted,
    /// The control connection has ended or was reset.
    #[error("the control connection has ended")]
    ControlEnded,
}

/// Errors of a data connection, apart from those of the content.
#[derive(Debug, Error)]
pub enum DataError {
    /// No command has said how to connect.
    #[error("use PASV, EPSV, PORT or EPRT first")]
    NoAddress,
    /// All ports of `--ftp-passive` are in use.
    #[error("no port for a data connection is free; try again")]
    NoFreePort,
    /// The server cannot listen.
    #[error("cannot listen for a data connection: {0}")]
    NoListener(io::Error),
    /// The address is not the client's.
    #[error("the data address must be that of the control connection")]
    ForeignAddress,
    /// The port is reserved for services.
    #[error("the data port must be 1024 or higher")]
    LowPort,
    /// No permitted peer has connected in time.
    #[error("no data connection was opened in time")]
    NotConnected,
    /// The client does not accept the connection.
    #[error("cannot connect to the data port: {0}")]
    Refused(io::Error),
    /// This server has no TLS.
    #[error("this server does not offer TLS")]
    NoTls,
    /// The handshake failed.
    #[error("the TLS handshake of the data connection failed: {0}")]
    Handshake(io::Error),
    /// The TLS session is not the one of the control connection.
    #[error("the data connection must resume the TLS session of the control connection")]
    NotResumed,
    /// The connection was reset, or its peer is too slow.
    #[error("the data connection was lost: {0}")]
    Lost(io::Error),
    /// An encrypted upload has ended without the closing alert, so it may be incomplete.
    #[error("the data connection ended without close_notify, so the data may be incomplete")]
    NoCloseNotify,
    /// The control connection ended the transfer.
    #[error(transparent)]
    Interrupted(#[from] Interruption),
}

impl DataError {
    /// Returns the last reply to the command that needed the data connection.
    ///
    /// RFC 959 section 4.2 has 425 and 426. RFC 2577 section 3 suggests 504 for low ports. vsftpd
    /// sends 522 if the TLS session is not resumed.
    #[must_use]
    pub fn reply(&self) -> Reply {
        let code = match self {
            Self::NoAddress
            | Self::NoFreePort
            | Self::NoListener(_)
            | Self::NotConnected
            | Self::Refused(_)
            | Self::NoTls
            | Self::Handshake(_) => 425,
            Self::NotResumed => 522,
            Self::ForeignAddress => 501,
            Self::LowPort => 504,
            Self::Lost(_) | Self::NoCloseNotify | Self::Interrupted(_) => 426,
        };
        Reply::new(code, self.to_string())
    }
}
