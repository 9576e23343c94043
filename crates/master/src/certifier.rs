//! The certificates of the cluster: the master's own, which it renews in time, and those that slaves ask for.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use log::{info, warn};
use relais_net::tls::{
    Fingerprint, MASTER_NAME, SLAVE_NAME, ServerCertificate, TlsMode, TlsOptions, TlsServer,
};
use relais_proto::{LinkMessage, limits};
use relais_state::{Authority, CertificateName, RenewalTimer, ServerKey};

/// Pause before a renewal that failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Has the cluster's authority.
pub struct Certifier {
    authority: Authority,
    encrypt: TlsMode,
    certificate: Arc<ServerCertificate>,
    /// Whether somebody has brought the master's certificate.
    brought: bool,
    /// How long a certificate is good.
    life: Duration,
    /// Until when the master's own needs no look.
    term: Mutex<RenewalTimer>,
}

impl Certifier {
    /// Has a certificate for the master at once.
    ///
    /// # Errors
    /// Why there is none.
    pub fn new(authority: Authority, options: &TlsOptions, life: Duration) -> Result<Self, String> {
        let brought = !options.files.is_empty();
        let certificate =
            if brought { open_brought(options.files.clone())? } else { ServerCertificate::empty() };
        let term = Mutex::new(RenewalTimer::new(Instant::now(), SystemTime::now(), Duration::ZERO));
        let this = Self {
            authority,
            encrypt: options.encrypt,
            certificate: Arc::new(certificate),
            brought,
            life,
            term,
        };
        if !this.brought {
            this.renew()?;
            let print = Fingerprint::of_pem(this.authority.pem().as_bytes())?;
            info!("the cluster's authority is {print}");
        }
        Ok(this)
    }

    /// How connections to the master are encrypted.
    ///
    /// # Errors
    /// Where the cryptography cannot be set up.
    pub fn server(&self) -> std::io::Result<TlsServer> {
        TlsServer::new(self.encrypt, self.certificate.clone())
    }

    /// Reads certificates again at once that somebody has brought.
    pub fn look(&self) {
        self.certificate.reload();
    }

    /// Does what is due. To be called each second.
    pub fn tick(&self) {
        if self.brought || !self.term().is_due(Instant::now(), SystemTime::now()) {
            return;
        }
        if let Err(e) = self.renew() {
            warn!("the master's certificate cannot be renewed, the former one counts: {e}");
            self.begin(AGAIN);
        }
    }

    fn term(&self) -> std::sync::MutexGuard<'_, RenewalTimer> {
        self.term.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, time: Duration) {
        *self.term() = RenewalTimer::new(Instant::now(), SystemTime::now(), time);
    }

    fn renew(&self) -> Result<(), String> {
        let key = ServerKey::generate().map_err(|e| e.to_string())?;
        let chain = self.certify(MASTER_NAME, &key.public_point())?;
        self.certificate.set((key.pem() + &chain).as_bytes())?;
        self.begin(self.life * 2 / 3);
        Ok(())
    }

    fn certify(&self, name: &'static str, point: &[u8; limits::POINT]) -> Result<String, String> {
        self.authority
            .certify(CertificateName(name), point, SystemTime::now(), self.life)
            .map_err(|e| e.to_string())
    }

    /// The certificate of a slave that has proved the cluster key. It says slave, and nothing else: who has that key is not told passwords.
    pub fn for_slave(&self, point: &[u8; limits::POINT]) -> Option<LinkMessage> {
        match self.certify(SLAVE_NAME, point) {
            Ok(chain) => {
                Some(LinkMessage::Certificate { chain, renew_s: (self.life * 2 / 3).as_secs() })
            }
            Err(e) => {
                warn!("a slave cannot be certified: {e}");
                None
            }
        }
    }
}

fn open_brought(files: Vec<PathBuf>) -> Result<ServerCertificate, String> {
    // Whoever starts a master with a bad certificate learns it at once.
    let pem = relais_net::tls::read_pem(&files)?;
    ServerCertificate::empty().set(&pem).map_err(|e| {
        let names: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
        format!("{}: {e}", names.join(", "))
    })?;
    Ok(ServerCertificate::from_files(files))
}
