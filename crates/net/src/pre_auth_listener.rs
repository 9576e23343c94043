//! A listener of the pre-authentication pool, with the rules for its connections.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use crate::proxied::TrustedProxies;
use crate::tls::TlsServer;

/// When the connections of a listener are encrypted.
#[derive(Debug)]
pub enum TlsRule {
    /// The first byte decides; the peer speaks first.
    Detect(TlsServer),
    /// Not at first. The login handler may begin TLS with
    /// [`LoginStep::StartTls`](crate::LoginStep::StartTls) if there is a configuration.
    Explicit(Option<TlsServer>),
    /// From the first byte.
    Implicit(TlsServer),
}

impl TlsRule {
    pub(crate) fn server(&self) -> Option<&TlsServer> {
        match self {
            Self::Detect(tls) | Self::Implicit(tls) => Some(tls),
            Self::Explicit(tls) => tls.as_ref(),
        }
    }
}

/// A socket that listens, and the rules for its connections.
#[derive(Debug)]
pub struct PreAuthListener {
    pub(crate) socket: TcpListener,
    pub(crate) tls: Arc<TlsRule>,
    pub(crate) proxies: TrustedProxies,
}

impl PreAuthListener {
    /// Makes a listener without trusted proxies.
    #[must_use]
    pub fn new(socket: TcpListener, tls: TlsRule) -> Self {
        Self { socket, tls: Arc::new(tls), proxies: TrustedProxies::default() }
    }

    /// Sets the proxies whose connections name the client.
    #[must_use]
    pub fn behind(self, proxies: TrustedProxies) -> Self {
        Self { proxies, ..self }
    }
}

/// A new connection, for which a login handler is made.
#[derive(Debug, Clone, Copy)]
pub struct NewConnection {
    /// Index of the listener that has accepted it.
    pub listener: usize,
    /// The client's address, also behind a trusted proxy.
    pub peer: SocketAddr,
    /// The local address.
    pub local: SocketAddr,
}
