//! The side that listens: which certificate it shows, and the handshake of one connection, which never waits.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::{debug, warn};
use relais_proto::limits;
use rustix::fs::OFlags;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection};
use socket2::Socket;

use super::{ChannelBinding, TlsMode, pump};

/// Time between two looks at a file.
const LOOK: Duration = Duration::from_secs(1);

/// The certificate that a server shows. It can be another one tomorrow.
#[derive(Debug)]
pub struct ServerCertificate {
    files: Vec<PathBuf>,
    shown: Mutex<Shown>,
}

#[derive(Default)]
struct Shown {
    key: Option<Arc<CertifiedKey>>,
    /// Of the files as they were read last: device, inode, and when that changed.
    stamps: Vec<(u64, u64, i64, i64)>,
    looked: Option<Instant>,
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.key.is_some() { "a certificate" } else { "nothing" })
    }
}

impl ServerCertificate {
    /// Shows nothing yet.
    #[must_use]
    pub fn empty() -> Self {
        Self { files: Vec::new(), shown: Mutex::default() }
    }

    /// Shows what these files together have, read again where one has changed: a private key and certificates in PEM, the
    /// server's own first, its authority's last.
    #[must_use]
    pub fn from_files(files: Vec<PathBuf>) -> Self {
        Self { files, shown: Mutex::default() }
    }

    /// Shows this from now on: a private key and certificates in PEM, as in [`Self::from_files`].
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn set(&self, pem: &[u8]) -> Result<(), String> {
        let key = parse(pem)?;
        self.lock().key = Some(Arc::new(key));
        Ok(())
    }

    /// Reads its files again at once where they have changed.
    pub fn reload(&self) {
        if !self.files.is_empty() {
            self.look(&mut self.lock());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> Option<Arc<CertifiedKey>> {
        let mut shown = self.lock();
        if !self.files.is_empty() && shown.looked.is_none_or(|at| at.elapsed() >= LOOK) {
            self.look(&mut shown);
        }
        shown.key.clone()
    }
}

impl ServerCertificate {
    /// Takes up what the files have now. Files that are no good leave what is shown as it was.
    fn look(&self, shown: &mut Shown) {
        let stamp = |file: &PathBuf| {
            file.metadata()
                .ok()
                .map(|meta| (meta.dev(), meta.ino(), meta.ctime(), meta.ctime_nsec()))
        };
        // Where there is none yet the next one who asks looks again.
        let Some(stamps) = self.files.iter().map(stamp).collect::<Option<Vec<_>>>() else { return };
        shown.looked = Some(Instant::now());
        if stamps == shown.stamps {
            return;
        }
        match read_pem(&self.files).and_then(|pem| parse(&pem)) {
            Ok(key) => (shown.key, shown.stamps) = (Some(Arc::new(key)), stamps),
            Err(e) => warn!("the certificate cannot be used: {e}"),
        }
    }
}

/// What these files have, one behind the other, each with a line end.
///
/// # Errors
/// Which one cannot be read, and why: they are regular files of at most 4 MiB, and one with a private key is not for everybody.
pub fn read_pem(files: &[PathBuf]) -> Result<Vec<u8>, String> {
    let mut all = Vec::new();
    for path in files {
        let at = |e: io::Error| format!("{}: {e}", path.display());
        // Without NONBLOCK a pipe in this place would hold the server for ever.
        let file = File::options()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(path)
            .map_err(at)?;
        let meta = file.metadata().map_err(at)?;
        if !meta.is_file() {
            return Err(format!("{} is not a regular file", path.display()));
        }
        let pem = super::read_bounded(file).map_err(at)?;
        let mode = meta.mode() & 0o7777;
        if mode & 0o007 != 0 && PrivateKeyDer::from_pem_slice(&pem).is_ok() {
            return Err(format!(
                "everybody can use the private key in {} (mode {mode:04o}); change the mode to 0600",
                path.display()
            ));
        }
        all.extend(pem);
        all.push(b'\n');
    }
    Ok(all)
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let key = self.current();
        if key.is_none() {
            debug!("there is no certificate to show yet");
        }
        key
    }
}

fn parse(pem: &[u8]) -> Result<CertifiedKey, String> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|e| format!("bad certificate: {}", super::shown(&e)))?;
    if chain.is_empty() {
        return Err("there is no certificate in it".to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|e| match e {
        pem::Error::NoItemsFound => {
            "there is no private key in it that is not encrypted".to_owned()
        }
        e => format!("bad private key: {}", super::shown(&e)),
    })?;
    let key = CertifiedKey::from_der(chain, key, &super::provider()).map_err(|e| e.to_string())?;
    // A key that cannot tell its public half would be found out by the first who connects.
    key.keys_match().map_err(|e| format!("the private key is not that of the certificate: {e}"))?;
    Ok(key)
}

/// What a listener needs to encrypt.
#[derive(Debug, Clone)]
pub struct TlsServer {
    encrypt: TlsMode,
    config: Arc<ServerConfig>,
}

impl TlsServer {
    /// Encrypts what `encrypt` says and shows what is in `certificate`.
    ///
    /// # Errors
    /// Where the cryptography cannot be set up.
    pub fn new(encrypt: TlsMode, certificate: Arc<ServerCertificate>) -> io::Result<Self> {
        let mut config = ServerConfig::builder_with_provider(super::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(super::other)?
            .with_no_client_auth()
            .with_cert_resolver(certificate);
        // A session that is taken up again would be one in another process as often as not.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = vec![super::PROTOCOL.to_vec()];
        Ok(Self { encrypt, config: Arc::new(config) })
    }

    /// Whether somebody at this address may speak in the clear.
    pub(crate) fn may_be_clear(&self, peer: IpAddr) -> bool {
        !self.encrypt.applies(peer)
    }

    /// Whether this server encrypts at all.
    pub(crate) fn encrypts(&self) -> bool {
        self.encrypt != TlsMode::Never
    }

    /// Begins the handshake of a connection.
    pub(crate) fn begin(&self) -> io::Result<Encrypted> {
        let tls = ServerConnection::new(self.config.clone()).map_err(super::other)?;
        Ok(Encrypted { tls: Box::new(tls), bound: false, came: 0 })
    }
}

/// A connection whose handshake has begun, over a socket that does not block.
#[derive(Debug)]
pub(crate) struct Encrypted {
    tls: Box<ServerConnection>,
    bound: bool,
    /// Bytes of the handshake that came.
    came: usize,
}

impl Encrypted {
    /// Reads what is decrypted, as from a socket that does not block.
    pub fn read(&mut self, stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.tls.reader().read(buffer) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                other => return other,
            }
            self.flush(stream)?;
            let came = self.tls.read_tls(stream)?;
            if came == 0 {
                return Ok(0);
            }
            if self.tls.is_handshaking() {
                // What is not whole yet is kept, and thousands of strangers can each send some.
                self.came += came;
                if self.came > limits::HANDSHAKE {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "a handshake is too long",
                    ));
                }
            }
            let processed = self.tls.process_new_packets();
            if let Err(e) = processed {
                // Told why, where that fits into the socket.
                let _ = self.tls.write_tls(stream);
                return Err(super::other(e));
            }
        }
    }

    /// Takes bytes to be sent.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.tls.writer().write(bytes)
    }

    /// Sends what was taken.
    pub fn flush(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        while self.tls.wants_write() {
            self.tls.write_tls(stream)?;
        }
        Ok(())
    }

    /// Whether something waits until it can be sent.
    pub fn is_sending(&self) -> bool {
        self.tls.wants_write()
    }

    /// Says that nothing more will be sent.
    pub fn close(&mut self) {
        self.tls.send_close_notify();
    }

    /// What the ends of the line have in common, once, right after the handshake.
    pub fn newly_bound(&mut self) -> io::Result<Option<ChannelBinding>> {
        if self.bound || self.tls.is_handshaking() {
            return Ok(None);
        }
        self.bound = true;
        super::binding(|to, label, context| self.tls.export_keying_material(to, label, context))
            .map(Some)
            .map_err(super::other)
    }

    /// Goes on in a thread of its own; the near end. Where there is no thread the peer is told `last_words`.
    pub fn carry(
        self,
        stream: TcpStream,
        last_words: impl FnOnce() -> Vec<u8>,
    ) -> io::Result<Socket> {
        pump::start(rustls::Connection::Server(*self.tls), stream, last_words)
    }
}
