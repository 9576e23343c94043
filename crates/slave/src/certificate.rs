//! The certificate with which a slave encrypts its connections, and how it is renewed.
//!
//! The replicator keeps the certificate and its private key in one file in the folder. The workers
//! read that file, and check regularly whether it has changed. The certificate has one of three
//! sources. A slave of a cluster asks its master for it, on the link that both sides have proved:
//! on each new link, and again before it expires. A standalone slave has an authority of its own.
//! An operator may also name certificate files.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use log::{info, warn};
use parking_lot::Mutex;
use relais_auth::{Authority, RenewalTimer, ServerKey};
use relais_net::tls::{MASTER_NAME, ServerCertificate, TlsOptions, expiry_s, read_pem};
use relais_proto::LinkMessage;
use relais_storage::MetadataFolder;
use relais_tree::MetaKind;
use thiserror::Error;

use crate::scoreboard::Scoreboard;

/// Name of the certificate's file in the slave's own folder.
const FILE: &str = "certificate.pem";
/// How long the certificate of a standalone slave is valid.
const LIFETIME: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// Time between two checks of the operator's certificate files.
const FILE_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Pause before a failed renewal is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// A slave's certificate and its source.
pub struct Certificate {
    own: MetadataFolder,
    source: CertificateSource,
    state: Mutex<RenewalState>,
    /// Where the end of the validity is shown.
    scoreboard: Arc<Scoreboard>,
}

/// The authority that signs the certificate.
enum CertificateSource {
    /// The cluster's authority, which the master has.
    Master,
    /// The authority of this standalone slave.
    Own(Box<Authority>),
    /// Certificate files of the operator.
    Files(Vec<PathBuf>),
}

#[derive(Default)]
struct RenewalState {
    /// Until when the certificate needs no renewal or check; none before the first one.
    validity: Option<RenewalTimer>,
    /// The key that the master was last asked to certify.
    requested_key: Option<ServerKey>,
    /// What was last read from the operator's files.
    file_pem: Vec<u8>,
}

impl RenewalState {
    fn is_current(&self) -> bool {
        self.validity.is_some_and(|validity| !validity.is_due(Instant::now(), SystemTime::now()))
    }

    fn set_next_check(&mut self, time: Duration) {
        self.validity = Some(RenewalTimer::new(Instant::now(), SystemTime::now(), time));
    }
}

/// The reason why a certificate is not renewed.
#[derive(Debug, Error)]
enum RenewalError {
    /// The source has no usable certificate.
    #[error("{0}")]
    Source(String),
    /// The certificate cannot be stored, for example on a full disk.
    #[error("{0}")]
    Write(String),
}

/// Logs a failed renewal, and schedules the next attempt.
fn keep_former(state: &mut RenewalState, why: &str) {
    warn!("{why}; the former certificate stays in use");
    state.set_next_check(RETRY_PAUSE);
}

/// Returns the file in which workers find the certificate.
#[must_use]
pub fn file_in(own: &MetadataFolder) -> PathBuf {
    own.path(FILE)
}

impl Certificate {
    /// Opens the certificate, and issues or reads it unless it comes from the master.
    ///
    /// # Errors
    /// The reason why the slave has no certificate.
    pub fn open(
        own: &MetadataFolder,
        options: &TlsOptions,
        is_standalone: bool,
        scoreboard: &Arc<Scoreboard>,
    ) -> Result<Self, String> {
        let source = match (options.files.is_empty(), is_standalone) {
            (false, _) => CertificateSource::Files(options.files.clone()),
            (true, true) => CertificateSource::Own(Box::new(
                Authority::load_or_create(&own.path(".")).map_err(|e| e.to_string())?,
            )),
            (true, false) => CertificateSource::Master,
        };
        // Only this slave writes these files, and it makes no links: a link comes from another
        // program.
        for name in [FILE, "authority.key", "authority.pem"] {
            if own.folder().stat_part(name.as_bytes()).is_ok_and(|meta| meta.kind == MetaKind::Link)
            {
                let shown = relais_os::display_path(&own.path(name));
                return Err(format!("{} is a link; remove it", shown.display()));
            }
        }
        let (state, scoreboard) = (Mutex::default(), scoreboard.clone());
        let this = Self { own: own.clone(), source, state, scoreboard };
        this.renew_at_start()?;
        if let Ok(pem) = std::fs::read(file_in(own)) {
            this.show_expiry(&pem);
        }
        Ok(this)
    }

    /// Renews the certificate, or keeps that of the last start if the disk takes no other.
    fn renew_at_start(&self) -> Result<(), String> {
        let mut state = self.state.lock();
        match self.renew(&mut state) {
            Err(RenewalError::Write(e)) if self.has_usable_file() => {
                keep_former(&mut state, &e);
                Ok(())
            }
            other => other.map_err(|e| e.to_string()),
        }
    }

    /// Returns whether the file has a key and a certificate from this source.
    fn has_usable_file(&self) -> bool {
        let Ok(pem) = std::fs::read(file_in(&self.own)) else { return false };
        let is_from_source = match &self.source {
            CertificateSource::Own(authority) => pem.ends_with(authority.pem().as_bytes()),
            CertificateSource::Master | CertificateSource::Files(_) => true,
        };
        is_from_source && ServerCertificate::empty().set(&pem).is_ok()
    }

    /// Renews the certificate if that is due. Call it every second.
    pub fn tick(&self) {
        let mut state = self.state.lock();
        if state.is_current() {
            return;
        }
        if let Err(e) = self.renew(&mut state) {
            keep_former(&mut state, &e.to_string());
        }
    }

    fn renew(&self, state: &mut RenewalState) -> Result<(), RenewalError> {
        match &self.source {
            CertificateSource::Master => {}
            CertificateSource::Own(authority) => {
                let pem = authority
                    .issue(MASTER_NAME, SystemTime::now(), LIFETIME)
                    .map_err(|e| RenewalError::Source(e.to_string()))?;
                self.write(pem.as_bytes()).map_err(RenewalError::Write)?;
                state.set_next_check(LIFETIME * 2 / 3);
            }
            CertificateSource::Files(files) => {
                state.set_next_check(FILE_CHECK_INTERVAL);
                let pem = read_pem(files).map_err(RenewalError::Source)?;
                if pem != state.file_pem {
                    ServerCertificate::check_files(files, &pem).map_err(RenewalError::Source)?;
                    self.write(&pem).map_err(RenewalError::Write)?;
                    state.file_pem = pem;
                }
            }
        }
        Ok(())
    }

    fn write(&self, pem: &[u8]) -> Result<(), String> {
        let file = file_in(&self.own);
        relais_os::write_atomically(&file, pem).map_err(|e| {
            let shown = relais_os::display_path(&file);
            format!("cannot write the certificate to {}: {e}", shown.display())
        })?;
        self.show_expiry(pem);
        Ok(())
    }

    fn show_expiry(&self, pem: &[u8]) {
        match expiry_s(pem) {
            Ok(expiry) => self.scoreboard.certificate_expiry.store(expiry, Ordering::Relaxed),
            Err(e) => warn!("cannot read the end of the certificate's validity: {e}"),
        }
    }

    /// Has the next request ask the master, because there is a new link.
    pub fn request_on_new_link(&self) {
        self.state.lock().validity = None;
    }

    /// Returns the request for the master, if the certificate has to be renewed now.
    pub fn next_request(&self) -> Option<LinkMessage> {
        let CertificateSource::Master = self.source else { return None };
        let mut state = self.state.lock();
        if state.is_current() {
            return None;
        }
        state.set_next_check(RETRY_PAUSE);
        let key = ServerKey::generate()
            .inspect_err(|e| warn!("cannot generate a key for the certificate: {e}"))
            .ok()?;
        let point = key.public_point();
        state.requested_key = Some(key);
        Some(LinkMessage::AskCertificate { point })
    }

    /// Installs the certificate that the master has issued; it is to be renewed after `renew_s` s.
    pub fn install(&self, chain: &str, renew_s: u64) {
        let mut state = self.state.lock();
        let Some(key) = state.requested_key.take() else {
            return warn!("the master sent a certificate without a request; it is ignored");
        };
        let pem = key.pem() + chain;
        let checked = ServerCertificate::empty()
            .set(pem.as_bytes())
            .map_err(|e| format!("the master's certificate cannot be used: {e}"));
        match checked.and_then(|()| self.write(pem.as_bytes())) {
            Ok(()) => {
                info!("the master has certified this slave");
                state.set_next_check(Duration::from_secs(renew_s));
            }
            Err(e) => warn!("{e}"),
        }
    }
}
