//! The certificate of a server, which can be replaced while the server runs.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{debug, warn};
use parking_lot::Mutex;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::expiry::expiry_of;
use super::info;
use super::pem::{describe, read_pem};

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

    /// Returns when the present certificate ends, in seconds since 1970 UTC; none without one.
    #[must_use]
    pub fn expiry_s(&self) -> Option<u64> {
        let key = self.current()?;
        let expiry = key.cert.first().map(expiry_of)?;
        expiry.inspect_err(|e| debug!("the end of the certificate is unknown: {e}")).ok()
    }

    /// Loads the files again at once if they have changed.
    pub fn reload(&self) {
        if !self.files.is_empty() {
            self.check(&mut self.state.lock());
        }
    }

    pub(super) fn current(&self) -> Option<Arc<CertifiedKey>> {
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
