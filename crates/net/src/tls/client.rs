//! The connecting side of TLS: the handshake and the check of the server's certificate.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use relais_proto::limits;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme,
};
use thiserror::Error;

use super::info::{self, TlsInfo};
use super::mode::TlsMode;
use super::session::TlsSession;
use super::trust::{self, TrustError, TrustPolicy};
use crate::connection::{self, Connection};
use crate::stream::Stream;

/// The reason why a connection was not opened.
#[derive(Debug, Error)]
pub enum DialError {
    /// The server cannot be reached, or the handshake failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The server does not speak TLS.
    #[error("it does not encrypt connections (no TLS)")]
    NotEncrypted,
    /// The server's certificate is not trusted.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

impl From<DialError> for io::Error {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Io(e) => e,
            other => Self::new(io::ErrorKind::InvalidData, other),
        }
    }
}

/// Opens connections to servers, encrypted as its mode demands.
#[derive(Debug, Clone)]
pub struct Dialer {
    encrypt: TlsMode,
    config: Arc<ClientConfig>,
}

impl Dialer {
    /// Makes a dialer that encrypts the connections that `encrypt` demands.
    ///
    /// # Errors
    /// The TLS library cannot be set up.
    pub fn new(encrypt: TlsMode) -> io::Result<Self> {
        let provider = info::provider();
        let mut config = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(info::other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(KeyPossessionVerifier(provider)))
            .with_no_client_auth();
        config.alpn_protocols = vec![info::PROTOCOL.to_vec()];
        config.resumption = Resumption::disabled();
        // Host names are not disclosed on the network.
        config.enable_sni = false;
        Ok(Self { encrypt, config: Arc::new(config) })
    }

    /// Connects to `addr`, encrypted if the mode demands that for this address.
    ///
    /// The connect may take `timeout`, and the handshake as long again. `host` is the name or
    /// address of the server, for certificates that an operator has provided.
    ///
    /// # Errors
    /// The server is unreachable, does not encrypt, or is not trusted.
    pub fn connect(
        &self,
        addr: SocketAddr,
        timeout: Duration,
        trust: &TrustPolicy,
        host: &str,
    ) -> Result<Connection, DialError> {
        if !self.encrypt.applies(addr.ip()) {
            return Ok(Connection::connect(addr, timeout)?);
        }
        self.connect_encrypted(addr, timeout, trust, host)
    }

    /// Connects to the first address of `server` (`HOST:PORT`) that can be reached.
    ///
    /// Any certificate is trusted: both sides prove the cluster key on the connection, and the
    /// proof covers its channel.
    ///
    /// # Errors
    /// As [`Self::connect`], for the last address tried.
    pub fn connect_for_proof(&self, server: &str) -> Result<Connection, DialError> {
        let none = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        let mut last = DialError::Io(none);
        for addr in server.to_socket_addrs()?.take(limits::ADDRESSES) {
            match self.connect(addr, limits::CONNECT_TIME, &TrustPolicy::Anyone, server) {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Connects as [`Self::connect`] does, but always encrypts.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub fn connect_encrypted(
        &self,
        addr: SocketAddr,
        timeout: Duration,
        trust: &TrustPolicy,
        host: &str,
    ) -> Result<Connection, DialError> {
        let begun = Instant::now();
        let mut stream = Stream::tcp(connection::connect(addr, timeout)?)?;
        let round_trip = begun.elapsed();
        // No name is sent (SNI is off), and the verifier needs none.
        let name = ServerName::IpAddress(addr.ip().into());
        let tls = ClientConnection::new(self.config.clone(), name).map_err(info::other)?;
        stream.encrypt(TlsSession::new(tls.into(), None));
        let tls = stream.shake_hands(Instant::now() + timeout).map_err(handshake_error)?;
        let binding = info::binding(tls)?;
        let chain = tls.peer_certificates().unwrap_or_default();
        let identity = trust::check(chain, trust, host, UnixTime::now())?;
        let mut connection = Connection::from_stream(stream, connection::READ_AHEAD)?;
        connection.secure(TlsInfo { binding, identity });
        connection.round_trip = round_trip;
        Ok(connection)
    }
}

/// Recognizes a server without TLS: it answers with a protocol_version alert or a plain frame.
fn handshake_error(error: io::Error) -> DialError {
    match error.get_ref().and_then(|e| e.downcast_ref()) {
        Some(
            rustls::Error::InvalidMessage(_)
            | rustls::Error::AlertReceived(AlertDescription::ProtocolVersion),
        ) => DialError::NotEncrypted,
        _ => error.into(),
    }
}

/// Checks that the server has the private key of its certificate, and nothing else.
///
/// [`trust::check`] checks the certificate itself, before anything is sent to the server.
#[derive(Debug)]
struct KeyPossessionVerifier(Arc<CryptoProvider>);

impl ServerCertVerifier for KeyPossessionVerifier {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
