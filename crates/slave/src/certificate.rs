//! Where the certificate comes from with which a slave's connections are encrypted, and how it is renewed.
//!
//! The replicator keeps it, with its private key, in one file in the folder; the workers read that file, and look now and then whether it
//! is another one. A slave of a cluster asks its master for it on the link that both have proved, each time that there is a new one and
//! again in time; one that stands alone has an authority of its own; and somebody may have brought one.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use log::{info, warn};
use relais_net::tls::{MASTER_NAME, ServerCertificate, TlsOptions, read_pem};
use relais_proto::LinkMessage;
use relais_state::{Authority, Certified, ServerKey, Validity};
use relais_tree::MetaKind;

use crate::catalogue::MetadataFolder;

/// Its name in the slave's own folder.
const FILE: &str = "certificate.pem";
/// How long the certificate of a slave that stands alone is good.
const LIFETIME: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// Time between two looks at files that somebody has brought.
const FILE_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Pause before something that failed is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// A slave's certificate.
pub struct Certificate {
    own: MetadataFolder,
    source: CertificateSource,
    state: Mutex<RenewalState>,
}

enum CertificateSource {
    /// The master's authority.
    Master,
    /// This slave's own.
    Own(Box<Authority>),
    /// Somebody who has brought it.
    Files(Vec<PathBuf>),
}

#[derive(Default)]
struct RenewalState {
    /// Until when there is nothing to be done; none: nothing was done yet.
    validity: Option<Validity>,
    /// The key that the master was asked to certify.
    requested_key: Option<ServerKey>,
    /// What was written last, where somebody has brought it.
    file_pem: Vec<u8>,
}

impl RenewalState {
    fn is_current(&self) -> bool {
        self.validity.is_some_and(|validity| !validity.is_over(Instant::now(), SystemTime::now()))
    }

    fn set_next_check(&mut self, time: Duration) {
        self.validity = Some(Validity::new(Instant::now(), SystemTime::now(), time));
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("own", &self.own).finish_non_exhaustive()
    }
}

/// Where workers find the certificate.
#[must_use]
pub fn file_in(own: &MetadataFolder) -> PathBuf {
    own.path(FILE)
}

impl Certificate {
    /// Finds out where the certificate comes from, and has it ready where nobody has to be asked.
    ///
    /// # Errors
    /// Why there is none.
    pub fn open(own: &MetadataFolder, options: &TlsOptions, alone: bool) -> Result<Self, String> {
        let source = match (options.files.is_empty(), alone) {
            (false, _) => CertificateSource::Files(options.files.clone()),
            (true, true) => CertificateSource::Own(Box::new(
                Authority::load_or_create(&own.path(".")).map_err(|e| e.to_string())?,
            )),
            (true, false) => CertificateSource::Master,
        };
        // Only this slave writes these files, and it makes no links.
        for name in [FILE, "authority.key", "authority.pem"] {
            if own.folder().stat_part(name.as_bytes()).is_ok_and(|meta| meta.kind == MetaKind::Link)
            {
                let shown = relais_state::shown_path(&own.path(name));
                return Err(format!("{} is a link; remove it", shown.display()));
            }
        }
        let this = Self { own: own.clone(), source, state: Mutex::default() };
        this.renew(&mut this.state())?;
        Ok(this)
    }

    fn state(&self) -> MutexGuard<'_, RenewalState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what is due. To be called each second.
    pub fn tick(&self) {
        let mut state = self.state();
        if state.is_current() {
            return;
        }
        if let Err(e) = self.renew(&mut state) {
            warn!("{e}; the former certificate counts");
            state.set_next_check(RETRY_PAUSE);
        }
    }

    fn renew(&self, state: &mut RenewalState) -> Result<(), String> {
        match &self.source {
            CertificateSource::Master => {}
            CertificateSource::Own(authority) => {
                let key = ServerKey::generate().map_err(|e| e.to_string())?;
                let chain = authority
                    .certify(Certified(MASTER_NAME), &key.point(), SystemTime::now(), LIFETIME)
                    .map_err(|e| e.to_string())?;
                self.write((key.pem() + &chain).as_bytes())?;
                state.set_next_check(LIFETIME * 2 / 3);
            }
            CertificateSource::Files(files) => {
                state.set_next_check(FILE_CHECK_INTERVAL);
                let pem = read_pem(files)?;
                if pem != state.file_pem {
                    ServerCertificate::empty().show(&pem).map_err(|e| {
                        format!("the certificate that was brought cannot be used: {e}")
                    })?;
                    self.write(&pem)?;
                    state.file_pem = pem;
                }
            }
        }
        Ok(())
    }

    fn write(&self, pem: &[u8]) -> Result<(), String> {
        let file = file_in(&self.own);
        relais_state::replace_file(&file, pem).map_err(|e| {
            let shown = relais_state::shown_path(&file);
            format!("the certificate cannot be written to {}: {e}", shown.display())
        })
    }

    /// There is a new link: the master is asked whatever was before.
    pub fn request_on_new_link(&self) {
        self.state().validity = None;
    }

    /// What to ask the master now, where it is to be asked.
    pub fn next_request(&self) -> Option<LinkMessage> {
        let CertificateSource::Master = self.source else { return None };
        let mut state = self.state();
        if state.is_current() {
            return None;
        }
        state.set_next_check(RETRY_PAUSE);
        match ServerKey::generate() {
            Ok(key) => {
                let point = key.point();
                state.requested_key = Some(key);
                Some(LinkMessage::AskCertificate { point })
            }
            Err(e) => {
                warn!("there is no key for a certificate: {e}");
                None
            }
        }
    }

    /// The master has certified the key.
    pub fn install(&self, chain: &str, renew_s: u64) {
        let mut state = self.state();
        let Some(key) = state.requested_key.take() else {
            return warn!("the master sent a certificate that it was not asked for");
        };
        let pem = key.pem() + chain;
        let taken = ServerCertificate::empty()
            .show(pem.as_bytes())
            .map_err(|e| format!("the master's certificate cannot be used: {e}"));
        match taken.and_then(|()| self.write(pem.as_bytes())) {
            Ok(()) => {
                info!("the master has certified this slave");
                state.set_next_check(Duration::from_secs(renew_s));
            }
            Err(e) => warn!("{e}"),
        }
    }
}
