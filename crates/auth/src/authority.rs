//! The certificate authority of a cluster, which certifies the TLS keys of its servers.
//!
//! A master creates it at its first start; a standalone slave creates its own. A certificate states
//! the role of a server. Clients identify the cluster by the certificate of the authority itself.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SerialNumber,
    SignatureAlgorithm,
};
use relais_proto::{limits::POINT, system_error_text};
use thiserror::Error;

use crate::secret_file::{SecretFile, SecretFileError};

/// The subject of the authority's certificate, and the issuer in all others.
const NAME: &str = "Relais authority";
/// Cap on the file of an authority, in bytes.
const MAX_FILE: u64 = 16 * 1024;
/// A clock that was set back by less than this causes no renewal.
const SET_BACK: Duration = Duration::from_secs(60 * 60);
/// Tolerated lag of the clock of a peer that checks a certificate.
const CLOCK_SKEW: Duration = Duration::from_secs(24 * 60 * 60);

/// The reason why the authority cannot be used, or a certificate not be issued.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the names of the fields say everything")]
pub enum AuthorityError {
    /// Its file cannot be used.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// The certificate for clients could not be written.
    #[error("cannot write {path}: {}", system_error_text(cause))]
    Certificate { path: PathBuf, cause: io::Error },
    /// A key or a certificate could not be generated.
    #[error("cannot certify: {0}")]
    Generate(#[from] rcgen::Error),
}

/// Tells when a certificate is due for renewal, by a monotonic clock and by the wall clock.
///
/// A wall clock that was set back also makes the renewal due.
#[derive(Debug, Clone, Copy)]
pub struct RenewalTimer {
    due: Instant,
    begun: SystemTime,
    ends: SystemTime,
}

impl RenewalTimer {
    /// Starts now, by both clocks; the renewal is due after `time`.
    #[must_use]
    pub fn new(now: Instant, wall: SystemTime, time: Duration) -> Self {
        // The fallback if the sum overflows.
        let far = Duration::from_secs(10 * 365 * 24 * 60 * 60);
        Self {
            due: now.checked_add(time).unwrap_or(now + far),
            begun: wall,
            ends: wall.checked_add(time).unwrap_or(wall + far),
        }
    }

    /// Whether the renewal is due. A machine may have slept, or started with a wrong clock.
    #[must_use]
    pub fn is_due(&self, now: Instant, wall: SystemTime) -> bool {
        now >= self.due
            || wall >= self.ends
            || self.begun.duration_since(wall).is_ok_and(|back| back > SET_BACK)
    }
}

/// The key pair of one server.
pub struct ServerKey(KeyPair);

impl ServerKey {
    /// Generates a key pair.
    ///
    /// # Errors
    /// The system provides no random bytes.
    pub fn generate() -> Result<Self, AuthorityError> {
        Ok(Self(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?))
    }

    /// The public half.
    #[must_use]
    pub fn public_point(&self) -> [u8; POINT] {
        let mut point = [0; POINT];
        // A generated key always has this length.
        point.copy_from_slice(self.0.public_key_raw());
        point
    }

    /// The private half, in PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.0.serialize_pem()
    }
}

/// A public key of another server.
struct PublicPoint<'a>(&'a [u8; POINT]);

impl PublicKeyData for PublicPoint<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// The certificate authority with its private key.
pub struct Authority {
    /// Its own certificate, in PEM.
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Reads the authority in `folder`, or creates it if there is none.
    ///
    /// `authority.key` has its private key and certificate, with mode 0600. `authority.pem` has the
    /// certificate alone, for clients. Two processes that do this at the same time get the same
    /// authority.
    ///
    /// # Errors
    /// The file is unsafe, damaged or unreadable, or could not be created.
    pub fn load_or_create(folder: &Path) -> Result<Self, AuthorityError> {
        let (what, path) = ("authority's key", folder.join("authority.key"));
        let file = SecretFile { what, path, cap: MAX_FILE };
        let text = file.read_or_create(make)?;
        let damaged = |why: &str| file.malformed(format!("is damaged: {why}"));
        let (key, certificate) = text.split_at(
            text.find(CERTIFICATE).ok_or_else(|| damaged("there is no certificate in it"))?,
        );
        let key = KeyPair::from_pem(key).map_err(|e| damaged(&e.to_string()))?;
        let public = folder.join("authority.pem");
        if std::fs::read(&public).ok().as_deref() != Some(certificate.as_bytes()) {
            relais_os::write_atomically(&public, certificate.as_bytes())
                .map_err(|cause| AuthorityError::Certificate { path: public, cause })?;
        }
        Ok(Self { pem: certificate.to_owned(), issuer: Issuer::new(params(), key) })
    }

    /// Its certificate, in PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Generates a key pair and certifies it, as [`Self::certify`] does.
    ///
    /// Returns the private key before the certificates, in PEM.
    ///
    /// # Errors
    /// [`AuthorityError::Generate`].
    pub fn issue(
        &self,
        server_name: &str,
        now: SystemTime,
        life: Duration,
    ) -> Result<String, AuthorityError> {
        let key = ServerKey::generate()?;
        Ok(key.pem() + &self.certify(server_name, &key.public_point(), now, life)?)
    }

    /// Certifies a public key from `now` on for `life`. `server_name` states the role.
    ///
    /// Returns the server's certificate and the authority's, in PEM.
    ///
    /// # Errors
    /// [`AuthorityError::Generate`].
    pub fn certify(
        &self,
        server_name: &str,
        point: &[u8; POINT],
        now: SystemTime,
        life: Duration,
    ) -> Result<String, AuthorityError> {
        let mut params = CertificateParams::new([server_name.to_owned()])?;
        params.distinguished_name = name(server_name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let since_1970 = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + since_1970.saturating_sub(CLOCK_SKEW);
        params.not_after = epoch + since_1970 + life;
        params.serial_number = Some(serial()?);
        Ok(params.signed_by(&PublicPoint(point), &self.issuer)?.pem() + &self.pem)
    }
}

/// The first line of a certificate in PEM.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

/// Generates an authority: its private key and certificate, in PEM.
fn make() -> Result<String, AuthorityError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = params();
    params.serial_number = Some(serial()?);
    Ok(key.serialize_pem() + &params.self_signed(&key)?.pem())
}

/// The parameters of an authority, which are constant, so they are not read from the file.
///
/// The certificate does not expire, because clients remember it.
fn params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name(NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text);
    name
}

/// Generates a random serial number, which must be positive.
fn serial() -> Result<SerialNumber, AuthorityError> {
    let mut bytes = relais_os::random::<16>().map_err(|_| rcgen::Error::RingUnspecified)?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::SecretFileFault;

    #[test]
    fn is_created_once_with_mode_0600() {
        let temp = tempfile::tempdir().unwrap();
        let all: Vec<String> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        Authority::load_or_create(temp.path())
                            .map(|authority| authority.pem().to_owned())
                    })
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap().unwrap()).collect()
        });
        assert!(!all.is_empty() && all.iter().all(|pem| *pem == all[0]));
        assert_eq!(Authority::load_or_create(temp.path()).unwrap().pem(), all[0]);
        let key = temp.path().join("authority.key");
        assert_eq!(key.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_to_string(temp.path().join("authority.pem")).unwrap(), all[0]);
        assert!(!all[0].contains("PRIVATE"));
        let fault = || match Authority::load_or_create(temp.path()) {
            Err(AuthorityError::File(error)) => error.fault,
            other => panic!("{:?}", other.map(|_| ())),
        };
        for mode in [0o640, 0o604, 0o644] {
            fs::set_permissions(&key, Permissions::from_mode(mode)).unwrap();
            assert!(matches!(fault(), SecretFileFault::Exposed(found) if found == mode));
        }
        fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&key, Some(4711), None).unwrap();
            assert!(matches!(fault(), SecretFileFault::ForeignOwner(4711)));
            std::os::unix::fs::chown(&key, Some(0), None).unwrap();
        }
        for text in [&b""[..], b"x", b"\xff", all[0].as_bytes()] {
            fs::write(&key, text).unwrap();
            assert!(matches!(fault(), SecretFileFault::Malformed(_)));
        }
    }

    #[test]
    fn renewal_is_due_by_either_clock() {
        let (now, wall, time) = (Instant::now(), SystemTime::now(), Duration::from_secs(100));
        let second = Duration::from_secs;
        let term = RenewalTimer::new(now, wall, time);
        assert!(!term.is_due(now, wall) && !term.is_due(now + second(99), wall + second(99)));
        assert!(term.is_due(now + time, wall) && term.is_due(now, wall + time));
        assert!(
            !term.is_due(now, wall - second(60)) && term.is_due(now, wall - second(2 * 60 * 60))
        );
        assert!(!RenewalTimer::new(now, wall, Duration::MAX).is_due(now + time, wall + time));
    }

    #[test]
    fn certifies_a_key_by_its_public_half() {
        let temp = tempfile::tempdir().unwrap();
        let authority = Authority::load_or_create(temp.path()).unwrap();
        let key = ServerKey::generate().unwrap();
        let now = SystemTime::now();
        let certify = || {
            let (name, key) = ("slave.example", key.public_point());
            authority.certify(name, &key, now, Duration::from_secs(60)).unwrap()
        };
        let pem = certify();
        assert_eq!(pem.matches(CERTIFICATE).count(), 2);
        assert!(
            pem.ends_with(authority.pem())
                && !pem.contains("PRIVATE")
                && key.pem().contains("PRIVATE")
        );
        assert_ne!(pem, certify(), "serial numbers are unique");
    }
}
