//! Issues the cluster's certificates: the master's own, renewed in time, and those of the slaves.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use log::{info, warn};
use parking_lot::Mutex;
use relais_auth::{Authority, RenewalTimer};
use relais_net::tls::{
    Fingerprint, MASTER_NAME, SLAVE_NAME, ServerCertificate, TicketSecret, TlsMode, TlsOptions,
    TlsServer, read_pem,
};
use relais_proto::{LinkMessage, limits};

/// Pause after a failed renewal.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The cluster's authority with the master's own certificate.
pub struct Certifier {
    authority: Authority,
    encrypt: TlsMode,
    certificate: Arc<ServerCertificate>,
    /// Lifetime of a certificate.
    life: Duration,
    /// When the master's own certificate is due for renewal; none if an operator has provided it
    /// (`--tls-cert`).
    term: Mutex<Option<RenewalTimer>>,
}

impl Certifier {
    /// Loads or issues the master's certificate.
    ///
    /// # Errors
    /// The certificate is invalid or cannot be issued.
    pub fn new(authority: Authority, options: &TlsOptions, life: Duration) -> Result<Self, String> {
        let is_provided = !options.files.is_empty();
        if is_provided {
            // A bad certificate is an error at the start of the master.
            ServerCertificate::check_files(&options.files, &read_pem(&options.files)?)?;
        }
        let this = Self {
            authority,
            encrypt: options.encrypt,
            certificate: Arc::new(ServerCertificate::from_files(options.files.clone())),
            life,
            term: Mutex::default(),
        };
        if !is_provided {
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

    /// The TLS configuration of the master's listener for HTTP clients.
    ///
    /// # Errors
    /// The TLS library cannot be set up.
    pub fn http_server(&self) -> std::io::Result<TlsServer> {
        TlsServer::for_http(self.certificate.clone(), TicketSecret::generate()?)
    }

    /// Reloads a provided certificate at once.
    pub fn reload(&self) {
        self.certificate.reload();
    }

    /// Renews the master's certificate if that is due. Called each second.
    pub fn tick(&self) {
        let term = *self.term.lock();
        if !term.is_some_and(|term| term.is_due(Instant::now(), SystemTime::now())) {
            return;
        }
        if let Err(e) = self.renew() {
            warn!("cannot renew the master's certificate: {e}; the present one stays in force");
            self.begin(RETRY_AFTER);
        }
    }

    /// Returns when the master's certificate ends, in seconds since 1970.
    pub(crate) fn expiry_s(&self) -> Option<u64> {
        self.certificate.expiry_s()
    }

    fn begin(&self, time: Duration) {
        let term = RenewalTimer::new(Instant::now(), SystemTime::now(), time);
        *self.term.lock() = Some(term);
    }

    fn renew(&self) -> Result<(), String> {
        let pem = self.authority.issue(MASTER_NAME, SystemTime::now(), self.life);
        self.certificate.set(pem.map_err(|e| e.to_string())?.as_bytes())?;
        self.begin(self.life * 2 / 3);
        Ok(())
    }

    /// Issues the certificate of a slave that has proved the cluster key.
    ///
    /// It names the role slave only, so a holder of the cluster key cannot collect passwords.
    pub fn for_slave(&self, point: &[u8; limits::POINT]) -> Option<LinkMessage> {
        match self.authority.certify(SLAVE_NAME, point, SystemTime::now(), self.life) {
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
