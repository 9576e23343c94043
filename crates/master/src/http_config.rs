//! The settings of HTTP: listeners, names, where passwords are accepted, the token of the metrics.

use std::net::{IpAddr, TcpListener};

use relais_auth::MetricsToken;

/// A bound listener for HTTP clients.
#[derive(Debug)]
pub struct HttpListener {
    /// The socket.
    pub socket: TcpListener,
    /// Whether its connections are encrypted.
    pub encrypted: bool,
}

/// Where HTTP clients may send passwords without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClearPasswords {
    /// From this host alone.
    #[default]
    Local,
    /// From everywhere.
    Always,
}

impl ClearPasswords {
    /// Whether a client may send its password in the clear.
    pub(crate) fn allows(self, client: IpAddr) -> bool {
        self == Self::Always || client.to_canonical().is_loopback()
    }
}

/// How a master serves HTTP.
#[derive(Debug, Clone, Default)]
pub struct HttpConfig {
    /// Host names by which clients may reach the master, beside addresses and `localhost`.
    pub hosts: Vec<String>,
    /// Where passwords may be sent in the clear.
    pub clear_passwords: ClearPasswords,
    /// The token for the metrics; without it only clients on this host get them.
    pub metrics_token: Option<MetricsToken>,
}
