//! The cluster's authority: certifies the keys with which its servers encrypt their connections.
//!
//! A master makes it at its first start, a slave that stands alone makes its own. What it certifies says one thing, as what
//! a server belongs to this authority; which cluster that is the client remembers by the authority's own certificate.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SerialNumber,
    SignatureAlgorithm,
};
use relais_proto::limits::POINT;
use thiserror::Error;

use crate::secret_file::{self, SecretFileError};

/// The name in the authority's own certificate, and as issuer in all others.
const NAME: &str = "Relais authority";
/// Longest file of an authority, in bytes.
const FILE: u64 = 16 * 1024;
/// A clock that goes back by less was only put right a little.
const SET_BACK: Duration = Duration::from_secs(60 * 60);
/// How far the clock of whoever looks at a certificate may be behind.
const CLOCKS: Duration = Duration::from_secs(24 * 60 * 60);

/// Why there is no authority, or no certificate.
#[derive(Debug, Error)]
pub enum AuthorityError {
    /// Group or others have rights to the file.
    #[error("the authority's key {} has mode {mode:04o}: others than its owner can use it; change the mode to 0600", crate::display_path(path).display())]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file holds something else.
    #[error("the authority's key {} is damaged: {why}", crate::display_path(path).display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The system refused.
    #[error("cannot use the authority's key {}: {}", crate::display_path(path).display(), relais_proto::system_error_text(cause))]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A key or a certificate could not be made.
    #[error("cannot certify: {0}")]
    Making(#[from] rcgen::Error),
}

/// When a certificate is to be renewed: when its time has gone by on any clock, or the clock that it was made by was set.
#[derive(Debug, Clone, Copy)]
pub struct RenewalTimer {
    due: Instant,
    begun: SystemTime,
    ends: SystemTime,
}

impl RenewalTimer {
    /// Begins now, by both clocks, and lasts for `time`.
    #[must_use]
    pub fn new(now: Instant, wall: SystemTime, time: Duration) -> Self {
        // Where that cannot be counted it is far away.
        let far = Duration::from_secs(10 * 365 * 24 * 60 * 60);
        Self {
            due: now.checked_add(time).unwrap_or(now + far),
            begun: wall,
            ends: wall.checked_add(time).unwrap_or(wall + far),
        }
    }

    /// Whether it is over. A machine may have slept, or have had a wrong clock at its start.
    #[must_use]
    pub fn is_due(&self, now: Instant, wall: SystemTime) -> bool {
        now >= self.due
            || wall >= self.ends
            || self.begun.duration_since(wall).is_ok_and(|back| back > SET_BACK)
    }
}

/// As what a server is certified: the name that its certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertificateName(pub &'static str);

/// The key pair of one server.
pub struct ServerKey(KeyPair);

impl ServerKey {
    /// A new one.
    ///
    /// # Errors
    /// Where the system has no random bytes.
    pub fn generate() -> Result<Self, AuthorityError> {
        Ok(Self(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?))
    }

    /// The public half.
    #[must_use]
    pub fn public_point(&self) -> [u8; POINT] {
        let mut point = [0; POINT];
        // What is generated has this length.
        point.copy_from_slice(self.0.public_key_raw());
        point
    }

    /// The private half, in PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.0.serialize_pem()
    }
}

/// A public key that came from elsewhere.
struct Point<'a>(&'a [u8; POINT]);

impl PublicKeyData for Point<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// What certifies servers.
pub struct Authority {
    /// Its own certificate, in PEM.
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Reads the authority in `folder`, or makes one where there is none: `authority.key`, its private key and certificate, with mode 0600,
    /// and `authority.pem`, the certificate alone, for clients. Two who do this at the same time get the same one.
    ///
    /// # Errors
    /// What is wrong with the file, or why it could not be made.
    pub fn load_or_create(folder: &Path) -> Result<Self, AuthorityError> {
        let path = folder.join("authority.key");
        let io_error = |cause| AuthorityError::Io { path: path.clone(), cause };
        let text = match read(&path)? {
            Some(text) => text,
            None => {
                secret_file::create(&path, make()?.as_bytes()).map_err(io_error)?;
                // Read back what is there now: another process may have been first.
                read(&path)?.ok_or_else(|| io_error(io::ErrorKind::NotFound.into()))?
            }
        };
        let damaged =
            |why: &str| AuthorityError::Damaged { path: path.clone(), why: why.to_owned() };
        let (key, certificate) = text.split_at(
            text.find(CERTIFICATE).ok_or_else(|| damaged("there is no certificate in it"))?,
        );
        let key = KeyPair::from_pem(key).map_err(|e| damaged(&e.to_string()))?;
        let public = folder.join("authority.pem");
        if std::fs::read(&public).ok().as_deref() != Some(certificate.as_bytes()) {
            crate::write_atomically(&public, certificate.as_bytes())
                .map_err(|cause| AuthorityError::Io { path: public, cause })?;
        }
        Ok(Self { pem: certificate.to_owned(), issuer: Issuer::new(params(), key) })
    }

    /// Its certificate, in PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Certifies the key with this public half, from `now` on for `life`; the server's certificate and the authority's, in PEM.
    ///
    /// # Errors
    /// [`AuthorityError::Making`].
    pub fn certify(
        &self,
        as_what: CertificateName,
        point: &[u8; POINT],
        now: SystemTime,
        life: Duration,
    ) -> Result<String, AuthorityError> {
        let mut params = CertificateParams::new([as_what.0.to_owned()])?;
        params.distinguished_name = name(as_what.0);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let since_1970 = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + since_1970.saturating_sub(CLOCKS);
        params.not_after = epoch + since_1970 + life;
        params.serial_number = Some(serial()?);
        Ok(params.signed_by(&Point(point), &self.issuer)?.pem() + &self.pem)
    }
}

/// Where certificates begin in PEM.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

fn read(path: &Path) -> Result<Option<String>, AuthorityError> {
    let damaged =
        |why: &str| AuthorityError::Damaged { path: path.to_owned(), why: why.to_owned() };
    match secret_file::read(path, FILE) {
        Ok(Some(bytes)) => String::from_utf8(bytes).map(Some).map_err(|_| damaged("it is no text")),
        Ok(None) => Ok(None),
        Err(SecretFileError::NotRegular) => Err(damaged("it is not a regular file")),
        Err(SecretFileError::Stranger(owner)) => Err(damaged(&format!(
            "it belongs to user id {owner}, who is neither the owner of its folder nor the one who runs this"
        ))),
        Err(SecretFileError::Exposed(mode)) => {
            Err(AuthorityError::Exposed { path: path.to_owned(), mode })
        }
        Err(SecretFileError::Io(cause)) => Err(AuthorityError::Io { path: path.to_owned(), cause }),
    }
}

/// A new authority's private key and certificate, in PEM.
fn make() -> Result<String, AuthorityError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = params();
    params.serial_number = Some(serial()?);
    Ok(key.serialize_pem() + &params.self_signed(&key)?.pem())
}

/// The same each time, so that it need not be read from the certificate. It has no end: clients remember it.
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

/// A random number, and a positive one.
fn serial() -> Result<SerialNumber, AuthorityError> {
    let mut bytes = crate::random::<16>().map_err(|_| rcgen::Error::RingUnspecified)?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn is_made_once_for_its_owner_alone_and_kept() {
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
        for mode in [0o640, 0o604, 0o644] {
            fs::set_permissions(&key, Permissions::from_mode(mode)).unwrap();
            assert!(
                matches!(Authority::load_or_create(temp.path()), Err(AuthorityError::Exposed { mode: found, .. }) if found == mode)
            );
        }
        fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&key, Some(4711), None).unwrap();
            assert!(
                matches!(Authority::load_or_create(temp.path()), Err(AuthorityError::Damaged { why, .. }) if why.contains("4711"))
            );
            std::os::unix::fs::chown(&key, Some(0), None).unwrap();
        }
        for text in [&b""[..], b"x", b"\xff", all[0].as_bytes()] {
            fs::write(&key, text).unwrap();
            assert!(matches!(
                Authority::load_or_create(temp.path()),
                Err(AuthorityError::Damaged { .. })
            ));
        }
    }

    #[test]
    fn a_term_ends_with_its_time_by_any_clock() {
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
    fn certifies_a_key_that_it_never_sees() {
        let temp = tempfile::tempdir().unwrap();
        let authority = Authority::load_or_create(temp.path()).unwrap();
        let key = ServerKey::generate().unwrap();
        let now = SystemTime::now();
        let pem = authority
            .certify(
                CertificateName("slave.example"),
                &key.public_point(),
                now,
                Duration::from_secs(60),
            )
            .unwrap();
        assert_eq!(pem.matches(CERTIFICATE).count(), 2);
        assert!(
            pem.ends_with(authority.pem())
                && !pem.contains("PRIVATE")
                && key.pem().contains("PRIVATE")
        );
        let again = authority
            .certify(
                CertificateName("slave.example"),
                &key.public_point(),
                now,
                Duration::from_secs(60),
            )
            .unwrap();
        assert_ne!(pem, again, "no two have the same number");
    }
}
