//! The listening side of TLS: the server's certificate, and its configuration.

use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{debug, warn};
use parking_lot::Mutex;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{HandshakeKind, ServerConfig, ServerConnection, SupportedProtocolVersion};

use super::info;
use super::mode::TlsMode;
use super::pem::{describe, read_pem};
use super::session::TlsSession;
use super::tickets::{ConnectionTickets, TicketSecret};
use crate::stream::Stream;

/// Time between two checks of the files.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// The certificate of a server, which can be replaced while the server runs.
#[derive(Debug)]
pub struct ServerCertificate {
    files: Vec<PathBuf>,
    state: Mutex<CertificateState>,
}

#[derive(Debug, Default)]
struct CertificateState {
    key: Option<Arc<CertifiedKey>>,
    /// Device, inode and ctime of each file when it was last read.
    stamps: Vec<(u64, u64, i64, i64)>,
    checked: Option<Instant>,
}

impl ServerCertificate {
    /// Makes a holder without a certificate.
    #[must_use]
    pub fn empty() -> Self {
        Self { files: Vec::new(), state: Mutex::default() }
    }

    /// Makes a holder that loads its certificate from files, again after each change.
    ///
    /// The files together hold a private key and certificates in PEM: the server's own first, its
    /// authority's last.
    #[must_use]
    pub fn from_files(files: Vec<PathBuf>) -> Self {
        Self { files, state: Mutex::default() }
    }

    /// Sets the private key and the certificates, in PEM as for [`Self::from_files`].
    ///
    /// # Errors
    /// Describes the defect in the PEM text.
    pub fn set(&self, pem: &[u8]) -> Result<(), String> {
        let key = parse(pem)?;
        self.state.lock().key = Some(Arc::new(key));
        Ok(())
    }

    /// Checks the PEM text of files that an operator has named.
    ///
    /// # Errors
    /// Names the files and the defect.
    pub fn check_files(files: &[PathBuf], pem: &[u8]) -> Result<(), String> {
        parse(pem).map(drop).map_err(|e| {
            let names: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
            format!("{}: {e}", names.join(", "))
        })
    }

    /// Loads the files again at once if they have changed.
    pub fn reload(&self) {
        if !self.files.is_empty() {
            self.check(&mut self.state.lock());
        }
    }

    fn current(&self) -> Option<Arc<CertifiedKey>> {
        let mut state = self.state.lock();
        if !self.files.is_empty() && state.checked.is_none_or(|at| at.elapsed() >= CHECK_EVERY) {
            self.check(&mut state);
        }
        state.key.clone()
    }

    /// Loads changed files. Invalid files leave the present certificate in force.
    fn check(&self, state: &mut CertificateState) {
        let stamp = |file: &PathBuf| {
            file.metadata()
                .ok()
                .map(|meta| (meta.dev(), meta.ino(), meta.ctime(), meta.ctime_nsec()))
        };
        // If a file does not exist yet, the next handshake checks again.
        let Some(stamps) = self.files.iter().map(stamp).collect::<Option<Vec<_>>>() else { return };
        state.checked = Some(Instant::now());
        if stamps == state.stamps {
            return;
        }
        match read_pem(&self.files).and_then(|pem| parse(&pem)) {
            Ok(key) => (state.key, state.stamps) = (Some(Arc::new(key)), stamps),
            Err(e) => warn!("cannot use the changed certificate: {e}"),
        }
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let key = self.current();
        if key.is_none() {
            debug!("handshake refused: this server has no certificate yet");
        }
        key
    }
}

fn parse(pem: &[u8]) -> Result<CertifiedKey, String> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|e| format!("bad certificate: {}", describe(&e)))?;
    if chain.is_empty() {
        return Err("there is no certificate in it".to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|e| match e {
        pem::Error::NoItemsFound => {
            "there is no private key in it that is not encrypted".to_owned()
        }
        e => format!("bad private key: {}", describe(&e)),
    })?;
    let key = CertifiedKey::from_der(chain, key, &info::provider()).map_err(|e| e.to_string())?;
    // Without this check the first handshake would find the mismatch.
    key.keys_match().map_err(|e| format!("the private key is not that of the certificate: {e}"))?;
    Ok(key)
}

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
        let config = config(rustls::ALL_VERSIONS, certificate.clone())?;
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

    /// Encrypts a data connection, as [`Self::accept`]; returns whether it resumes `control`.
    ///
    /// Only the client of the control connection can resume that connection's session, and no other
    /// session is resumed.
    ///
    /// # Errors
    /// The handshake failed or took too long.
    pub fn accept_data(
        &self,
        stream: &mut Stream,
        control: &Stream,
        timeout: Duration,
    ) -> io::Result<bool> {
        let Some(secret) = self.tickets.clone() else {
            return self.accept(stream, timeout).map(|()| false);
        };
        let tickets = ConnectionTickets::data(secret, control.tickets());
        stream.encrypt(self.begin_with(Some(Arc::new(tickets)))?);
        let tls = stream.shake_hands(Instant::now() + timeout)?;
        Ok(tls.handshake_kind() == Some(HandshakeKind::Resumed))
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
        let tickets = self.tickets.clone().map(ConnectionTickets::control).transpose()?;
        self.begin_with(tickets.map(Arc::new))
    }

    fn begin_with(&self, tickets: Option<Arc<ConnectionTickets>>) -> io::Result<TlsSession> {
        let mut config = self.config.clone();
        if let Some(tickets) = &tickets {
            Arc::make_mut(&mut config).ticketer = tickets.clone();
        }
        let tls = ServerConnection::new(config).map_err(info::other)?;
        Ok(TlsSession::new(tls.into(), tickets))
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
    Ok(config)
}
