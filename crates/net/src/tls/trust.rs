//! The trust decision of the connecting side: a pure function of the server's certificates.

use std::fmt;
use std::fs::File;
use std::path::Path;
use std::str::FromStr;

use relais_proto::Digest;
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, RootCertStore};
use thiserror::Error;

use super::pem::{describe, read_bounded};

/// The name in the certificates of masters and of standalone slaves. These may get passwords.
///
/// Its top-level domain is reserved, so no public authority has ever certified it.
pub const MASTER_NAME: &str = "master.relais.internal";
/// The name in the certificates of a cluster's slaves.
pub const SLAVE_NAME: &str = "slave.relais.internal";

/// The fingerprint of an authority: the SHA-256 of its certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    fn of(certificate: &CertificateDer<'_>) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }

    /// Computes the fingerprint of the last certificate in a PEM text, which is the authority's.
    ///
    /// # Errors
    /// Describes the defect in the text.
    pub fn of_pem(pem: &[u8]) -> Result<Self, String> {
        let all = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| describe(&e))?;
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
        let hex = text.strip_prefix("SHA256:").and_then(|hex| hex.parse().ok());
        let Digest(bytes) = hex.ok_or("is no fingerprint")?;
        Ok(Self(bytes))
    }
}

/// The authorities that a user trusts (`--ca`).
#[derive(Debug, Clone)]
pub struct TrustedAuthorities(RootCertStore);

impl TrustedAuthorities {
    /// Reads a file of certificates in PEM, at most 4 MiB.
    ///
    /// # Errors
    /// The file cannot be read, or its content is no list of certificates.
    pub fn from_file(path: &Path) -> Result<Self, String> {
        Self::from_pem(&File::open(path).and_then(read_bounded).map_err(|e| e.to_string())?)
    }

    /// Parses certificates in PEM.
    ///
    /// # Errors
    /// Describes the defect in the text.
    pub fn from_pem(pem: &[u8]) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            roots.add(certificate.map_err(|e| describe(&e))?).map_err(|e| e.to_string())?;
        }
        if roots.is_empty() {
            Err("there is no certificate in it".to_owned())
        } else {
            Ok(Self(roots))
        }
    }
}

/// The servers that the connecting side accepts.
#[derive(Debug, Clone)]
pub enum TrustPolicy {
    /// Any server: a later proof, tied to the channel, authenticates it.
    Anyone,
    /// Any server, whose authority is then remembered (trust on first use).
    FirstUse,
    /// Servers that this remembered authority has certified.
    Pinned(Fingerprint),
    /// Servers that one of these authorities has certified.
    Authorities(TrustedAuthorities),
}

/// The reason why a server is not trusted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TrustError {
    /// The authority is another one than before.
    #[error("its authority is {now}, and was {known} before")]
    Changed {
        /// The remembered authority.
        known: Fingerprint,
        /// The authority of the server now.
        now: Fingerprint,
    },
    /// The certificate names another server.
    #[error("its certificate is neither one of a Relais server nor one for {0}")]
    WrongName(String),
    /// The certificate is invalid.
    #[error("{0}")]
    Bad(String),
}

/// The identity of a trusted server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerIdentity {
    /// The authority that has certified the server.
    pub authority: Fingerprint,
    /// Whether the server may get passwords.
    pub is_master: bool,
}

/// Checks the certificate chain of the server at `host`; none with [`TrustPolicy::Anyone`].
///
/// `chain` has the server's own certificate first and its authority's last.
pub fn check(
    chain: &[CertificateDer<'_>],
    trust: &TrustPolicy,
    host: &str,
    now: UnixTime,
) -> Result<Option<ServerIdentity>, TrustError> {
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
    // A self-signed certificate is its own authority, and its own fingerprint is remembered.
    if chain.len() > 1 || matches!(trust, TrustPolicy::Authorities(_)) {
        let algorithms =
            rustls::crypto::ring::default_provider().signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &chain[1..], now, algorithms)
            .map_err(|e| match e {
                // All Relais authorities have one name, so a foreign one shows by its signature.
                rustls::Error::InvalidCertificate(
                    CertificateError::UnknownIssuer | CertificateError::BadSignature,
                ) => TrustError::Bad(format!("its authority, {authority}, is not trusted")),
                e => bad(&e),
            })?;
    }
    let is_for = |name: &str| {
        ServerName::try_from(name.to_owned())
            .is_ok_and(|name| verify_server_name(&parsed, &name).is_ok())
    };
    match () {
        () if is_for(MASTER_NAME) => Ok(Some(ServerIdentity { authority, is_master: true })),
        () if is_for(SLAVE_NAME) => Ok(Some(ServerIdentity { authority, is_master: false })),
        // A certificate that an operator provided does not tell the role of the server.
        () if is_for(host) => Ok(Some(ServerIdentity { authority, is_master: true })),
        () => Err(TrustError::WrongName(host.to_owned())),
    }
}

fn bad(error: &rustls::Error) -> TrustError {
    use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    TrustError::Bad(match error {
        rustls::Error::InvalidCertificate(Expired | ExpiredContext { .. }) => {
            "its certificate has expired (or a clock is wrong)".to_owned()
        }
        rustls::Error::InvalidCertificate(NotValidYet | NotValidYetContext { .. }) => {
            "its certificate is not valid yet (or a clock is wrong)".to_owned()
        }
        error => format!("its certificate is invalid: {error}"),
    })
}
