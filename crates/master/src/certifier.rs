//! Issues the cluster's certificates: the master's own, renewed in time, and those of the slaves.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use log::{info, warn};
use relais_auth::{Authority, CertificateName, RenewalTimer, ServerKey};
use relais_net::tls::{
    Fingerprint, MASTER_NAME, SLAVE_NAME, ServerCertificate, TlsMode, TlsOptions, TlsServer,
};
use relais_proto::{LinkMessage, limits};

/// Pause after a failed renewal.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The cluster's authority with the master's own certificate.
pub struct Certifier {
    authority: Authority,
    encrypt: TlsMode,
    certificate: Arc<ServerCertificate>,
    /// Whether an operator has provided the master's certificate (`--tls-cert`).
    is_provided: bool,
    /// Lifetime of a certificate.
    life: Duration,
    /// When the master's own certificate is due for renewal.
    term: Mutex<RenewalTimer>,
}

impl Certifier {
    /// Loads or issues the master's certificate.
    ///
    /// # Errors
    /// The certificate is invalid or cannot be issued.
    pub fn new(authority: Authority, options: &TlsOptions, life: Duration) -> Result<Self, String> {
        let is_provided = !options.files.is_empty();
        let certificate = if is_provided {
            open_provided(options.files.clone())?
        } else {
            ServerCertificate::empty()
        };
        let term = Mutex::new(RenewalTimer::new(Instant::now(), SystemTime::now(), Duration::ZERO));
        let this = Self {
            authority,
            encrypt: options.encrypt,
            certificate: Arc::new(certificate),
            is_provided,
            life,
            term,
        };
        if !this.is_provided {
            this.renew()?;
            let print = Fingerprint::of_pem(this.authority.pem().as_bytes())?;
            info!("the cluster's authority is {print}");
        }
        Ok(this)
    }

    /// The TLS configuration of the master's listener.
    ///
    /// # Errors
    /// The TLS library cannot be set up.
    pub fn server(&self) -> std::io::Result<TlsServer> {
        TlsServer::new(self.encrypt, self.certificate.clone())
    }

    /// Reloads a provided certificate at once.
    pub fn reload(&self) {
        self.certificate.reload();
    }

    /// Renews the master's certificate if that is due. Called each second.
    pub fn tick(&self) {
        if self.is_provided || !self.term().is_due(Instant::now(), SystemTime::now()) {
            return;
        }
        if let Err(e) = self.renew() {
            warn!("cannot renew the master's certificate: {e}; the present one stays in force");
            self.begin(RETRY_AFTER);
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

    /// Issues the certificate of a slave that has proved the cluster key.
    ///
    /// It names the role slave only, so a holder of the cluster key cannot collect passwords.
    pub fn for_slave(&self, point: &[u8; limits::POINT]) -> Option<LinkMessage> {
        match self.certify(SLAVE_NAME, point) {
            Ok(chain) => {
                Some(LinkMessage::Certificate { chain, renew_s: (self.life * 2 / 3).as_secs() })
            }
            Err(e) => {
                warn!("cannot certify a slave: {e}");
                None
            }
        }
    }
}

fn open_provided(files: Vec<PathBuf>) -> Result<ServerCertificate, String> {
    // A bad certificate is an error at the start of the master.
    let pem = relais_net::tls::read_pem(&files)?;
    ServerCertificate::empty().set(&pem).map_err(|e| {
        let names: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
        format!("{}: {e}", names.join(", "))
    })?;
    Ok(ServerCertificate::from_files(files))
}
