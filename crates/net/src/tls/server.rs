//! The listening side of TLS: its configuration.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::server::NoServerSessionStorage;
use rustls::{ServerConfig, ServerConnection, SupportedProtocolVersion};

use super::certificate::ServerCertificate;
use super::info;
use super::mode::TlsMode;
use super::resumption::{DataDirection, Resumption};
use super::session::TlsSession;
use super::tickets::TicketSecret;
use crate::stream::Stream;

/// Tickets that a control connection of FTP issues with TLS 1.3.
///
/// Some clients use each ticket once, and get no new one in time if they only upload. Clients of
/// rustls keep 8.
const CONTROL_TICKETS: usize = 8;
/// Tickets that a data connection issues with TLS 1.3.
const DATA_TICKETS: usize = 2;

/// The TLS configuration of a listener.
#[derive(Debug, Clone)]
pub struct TlsServer {
    encrypt: TlsMode,
    config: Arc<ServerConfig>,
    certificate: Arc<ServerCertificate>,
    /// The secret of the session tickets; none without resumption.
    tickets: Option<TicketSecret>,
}

impl TlsServer {
    /// Makes the configuration of a listener for Relais peers.
    ///
    /// # Errors
    /// The TLS library cannot be set up.
    pub fn new(encrypt: TlsMode, certificate: Arc<ServerCertificate>) -> io::Result<Self> {
        Self::with_protocols(encrypt, certificate, &[info::PROTOCOL])
    }

    /// Makes the configuration of a listener for peers that speak one of `protocols` (ALPN).
    ///
    /// With an empty list peers may name any protocol.
    ///
    /// # Errors
    /// The TLS library cannot be set up.
    pub fn with_protocols(
        encrypt: TlsMode,
        certificate: Arc<ServerCertificate>,
        protocols: &[&[u8]],
    ) -> io::Result<Self> {
        let mut config = config(&[&rustls::version::TLS13], certificate.clone())?;
        // No session resumption: the next connection often reaches another process.
        config.send_tls13_tickets = 0;
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(Self { encrypt, config: Arc::new(config), certificate, tickets: None })
    }

    /// Makes the configuration for FTP (RFC 4217): TLS 1.2 and 1.3, and sessions can be resumed.
    ///
    /// All processes that have the secret accept each other's session tickets.
    ///
    /// # Errors
    /// The TLS library cannot be set up.
    pub fn for_ftp(certificate: Arc<ServerCertificate>, secret: TicketSecret) -> io::Result<Self> {
        let mut config = config(rustls::ALL_VERSIONS, certificate.clone())?;
        config.send_tls13_tickets = CONTROL_TICKETS;
        let tickets = Some(secret);
        Ok(Self { encrypt: TlsMode::Always, config: Arc::new(config), certificate, tickets })
    }

    /// Makes the configuration for HTTP/1.1 (RFC 9110, section 4.2.2): TLS 1.2 and 1.3.
    ///
    /// Tickets are as for FTP. A client that offers protocols in its handshake has to offer
    /// `http/1.1` or `http/1.0` (RFC 7301). In a [`TlsRule::Detect`](crate::TlsRule::Detect) a peer
    /// that does not encrypt gets an answer that says so.
    ///
    /// # Errors
    /// The TLS library cannot be set up.
    pub fn for_http(certificate: Arc<ServerCertificate>, secret: TicketSecret) -> io::Result<Self> {
        let mut config = config(rustls::ALL_VERSIONS, certificate.clone())?;
        config.alpn_protocols = vec![b"http/1.1".to_vec(), b"http/1.0".to_vec()];
        let tickets = Some(secret);
        Ok(Self { encrypt: TlsMode::Always, config: Arc::new(config), certificate, tickets })
    }

    /// Whether there is a certificate, so that a handshake can succeed.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.certificate.current().is_some()
    }

    /// Encrypts an open stream from here on, for example in the middle of a connection.
    ///
    /// It runs the handshake of the server's side, which may take `timeout`. Bytes that the caller
    /// has received before are not encrypted and must not be trusted.
    ///
    /// # Errors
    /// The handshake failed or took too long.
    pub fn accept(&self, stream: &mut Stream, timeout: Duration) -> io::Result<()> {
        stream.encrypt(self.begin()?);
        stream.shake_hands(Instant::now() + timeout).map(drop)
    }

    /// Begins to encrypt a data connection; [`Stream::continue_handshake`] runs the handshake.
    ///
    /// Only the client of the control connection can resume that connection's session, and no other
    /// session is resumed: see [`Stream::is_resumed`].
    ///
    /// # Errors
    /// The TLS library cannot be set up.
    pub fn begin_data(
        &self,
        stream: &mut Stream,
        control: &Stream,
        direction: DataDirection,
    ) -> io::Result<()> {
        stream.socket().set_tcp_nodelay(true)?;
        let resumption = self
            .tickets
            .clone()
            .map(|secret| Arc::new(Resumption::of_data(secret, control.resumption(), direction)));
        stream.encrypt(self.begin_with(resumption)?);
        Ok(())
    }

    /// Whether a peer at this address may connect without encryption.
    pub(crate) fn may_be_clear(&self, peer: IpAddr) -> bool {
        !self.encrypt.applies(peer)
    }

    /// Whether this server encrypts at all.
    pub(crate) fn encrypts(&self) -> bool {
        self.encrypt != TlsMode::Never
    }

    /// Makes the TLS state of a new connection.
    pub(crate) fn begin(&self) -> io::Result<TlsSession> {
        let resumption = self.tickets.clone().map(Resumption::of_control).transpose()?;
        self.begin_with(resumption.map(Arc::new))
    }

    fn begin_with(&self, resumption: Option<Arc<Resumption>>) -> io::Result<TlsSession> {
        let mut config = self.config.clone();
        if let Some(resumption) = &resumption {
            let config = Arc::make_mut(&mut config);
            config.ticketer = resumption.clone();
            if !resumption.is_control() {
                config.send_tls13_tickets = DATA_TICKETS;
            }
            config.session_storage = resumption.clone();
        }
        let tls = ServerConnection::new(config).map_err(info::other)?;
        Ok(TlsSession::new(tls.into(), resumption))
    }
}

/// Makes a configuration for these versions, without stored sessions.
fn config(
    versions: &[&'static SupportedProtocolVersion],
    certificate: Arc<ServerCertificate>,
) -> io::Result<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(info::provider())
        .with_protocol_versions(versions)
        .map_err(info::other)?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // Most clients name AES-256 first, by habit, and both sides would pay for it.
    config.ignore_client_order = true;
    Ok(config)
}
