//! A connection of the pool: of a proxy that names its client first, or in its login.

use std::time::Instant;

use crate::login_handler::LoginHandler;
use crate::pre_auth::PreAuthConnection;
use crate::proxied::ProxyHeaderReader;
use crate::stream::Stream;

/// A connection of the pool.
pub(crate) enum Arrival<G: LoginHandler> {
    /// A trusted proxy tells the client's address first.
    Proxied(ProxiedConnection),
    LogIn(PreAuthConnection<G>),
}

/// A connection of a trusted proxy whose header is incomplete.
pub(crate) struct ProxiedConnection {
    pub stream: Stream,
    pub deadline: Instant,
    pub header: ProxyHeaderReader,
    /// Index of the listener that has accepted it.
    pub listener: usize,
}

impl<G: LoginHandler> Arrival<G> {
    pub fn stream(&self) -> &Stream {
        match self {
            Self::Proxied(proxied) => &proxied.stream,
            Self::LogIn(connection) => &connection.stream,
        }
    }

    pub fn deadline(&self) -> Instant {
        match self {
            Self::Proxied(proxied) => proxied.deadline,
            Self::LogIn(connection) => connection.deadline,
        }
    }

    pub fn is_delayed(&self) -> bool {
        matches!(self, Self::LogIn(connection) if connection.is_delayed())
    }
}
