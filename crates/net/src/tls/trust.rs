//! Whom the side that connects trusts: a pure decision about the certificates that a server has shown.

use std::fmt;
use std::fs::File;
use std::path::Path;
use std::str::FromStr;

use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, RootCertStore};
use thiserror::Error;

/// The name in the certificates of masters, and of slaves that stand alone: who may be told passwords. Its end is reserved, so
/// that no public authority has ever certified it.
pub const MASTER_NAME: &str = "master.relais.internal";
/// The name in the certificates of a cluster's slaves.
pub const SLAVE_NAME: &str = "slave.relais.internal";

/// An authority, by the SHA-256 of its certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    fn of(certificate: &CertificateDer<'_>) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }

    /// Of the last certificate in a PEM text, which is the authority's.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn of_pem(pem: &[u8]) -> Result<Self, String> {
        let all = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| super::shown(&e))?;
        all.last().map(Self::of).ok_or_else(|| "there is no certificate in it".to_owned())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SHA256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Fingerprint {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const BAD: &str = "is no fingerprint";
        let hex = text
            .strip_prefix("SHA256:")
            .filter(|hex| hex.len() == 64 && hex.is_ascii())
            .ok_or(BAD)?;
        let mut bytes = [0; 32];
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            *byte = hex
                .get(at..at + 2)
                .filter(|pair| !pair.starts_with('+'))
                .and_then(|pair| u8::from_str_radix(pair, 16).ok())
                .ok_or(BAD)?;
        }
        Ok(Self(bytes))
    }
}

/// TrustedAuthorities that somebody has chosen.
#[derive(Debug, Clone)]
pub struct TrustedAuthorities(RootCertStore);

impl TrustedAuthorities {
    /// From a file of certificates in PEM, at most 4 MiB.
    ///
    /// # Errors
    /// Why it cannot be read, and what is wrong with them.
    pub fn from_file(path: &Path) -> Result<Self, String> {
        Self::from_pem(&File::open(path).and_then(super::read_bounded).map_err(|e| e.to_string())?)
    }

    /// From certificates in PEM.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn from_pem(pem: &[u8]) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            roots.add(certificate.map_err(|e| super::shown(&e))?).map_err(|e| e.to_string())?;
        }
        if roots.is_empty() {
            Err("there is no certificate in it".to_owned())
        } else {
            Ok(Self(roots))
        }
    }
}

/// Who may be at the other end.
#[derive(Debug, Clone)]
pub enum TrustPolicy {
    /// Anybody: what follows proves who it is, together with the line.
    Anyone,
    /// Anybody, whose authority will be remembered.
    FirstUse,
    /// Whoever this authority, which was met before, has certified.
    Pinned(Fingerprint),
    /// Whoever one of these has certified.
    Authorities(TrustedAuthorities),
}

/// Why a server is not trusted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TrustError {
    /// Another authority than before.
    #[error("its authority is {now}, and was {known} before")]
    Changed {
        /// The one that was remembered.
        known: Fingerprint,
        /// The one that was shown.
        now: Fingerprint,
    },
    /// Its certificate was made for something else.
    #[error("its certificate is neither one of a Relais server nor one for {0}")]
    WrongName(String),
    /// Its certificate does not hold.
    #[error("{0}")]
    Bad(String),
}

/// What is known of a server that is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Whose certificate it has.
    pub authority: Fingerprint,
    /// Whether it may be told passwords.
    pub is_master: bool,
}

/// Decides about a server at `host` that has shown `chain`, its own certificate first, and its authority's last; none where anybody will do.
pub fn check(
    chain: &[CertificateDer<'_>],
    trust: &TrustPolicy,
    host: &str,
    now: UnixTime,
) -> Result<Option<Identity>, TrustError> {
    let (Some(own), Some(last)) = (chain.first(), chain.last()) else {
        return Err(TrustError::Bad("it shows no certificate".to_owned()));
    };
    let authority = Fingerprint::of(last);
    let roots = match trust {
        TrustPolicy::Anyone => return Ok(None),
        TrustPolicy::Pinned(known) if *known != authority => {
            return Err(TrustError::Changed { known: *known, now: authority });
        }
        TrustPolicy::Pinned(_) | TrustPolicy::FirstUse => {
            let mut roots = RootCertStore::empty();
            roots.add(last.clone()).map_err(|e| bad(&e))?;
            roots
        }
        TrustPolicy::Authorities(TrustedAuthorities(roots)) => roots.clone(),
    };
    let parsed = ParsedCertificate::try_from(own).map_err(|e| bad(&e))?;
    // One that certifies itself is remembered itself.
    if chain.len() > 1 || matches!(trust, TrustPolicy::Authorities(_)) {
        let algorithms =
            rustls::crypto::ring::default_provider().signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &chain[1..], now, algorithms)
            .map_err(|e| match e {
                // All authorities of ours have one name, so that a foreign one is found out by its signature.
                rustls::Error::InvalidCertificate(
                    CertificateError::UnknownIssuer | CertificateError::BadSignature,
                ) => {
                    TrustError::Bad(format!("its authority, {authority}, is none that is trusted"))
                }
                e => bad(&e),
            })?;
    }
    let is_for = |name: &str| {
        ServerName::try_from(name.to_owned())
            .is_ok_and(|name| verify_server_name(&parsed, &name).is_ok())
    };
    match () {
        () if is_for(MASTER_NAME) => Ok(Some(Identity { authority, is_master: true })),
        () if is_for(SLAVE_NAME) => Ok(Some(Identity { authority, is_master: false })),
        // One that somebody brought does not tell what it is for.
        () if is_for(host) => Ok(Some(Identity { authority, is_master: true })),
        () => Err(TrustError::WrongName(host.to_owned())),
    }
}

fn bad(error: &rustls::Error) -> TrustError {
    use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    TrustError::Bad(match error {
        rustls::Error::InvalidCertificate(Expired | ExpiredContext { .. }) => {
            "its certificate has ended (or a clock is wrong)".to_owned()
        }
        rustls::Error::InvalidCertificate(NotValidYet | NotValidYetContext { .. }) => {
            "its certificate is not valid yet (or a clock is wrong)".to_owned()
        }
        error => format!("its certificate does not hold: {error}"),
    })
}
