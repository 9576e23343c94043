//! Encrypts session tickets so that each process of a server accepts them.
//!
//! All processes derive the keys from one secret and the time. So no process has to store sessions,
//! and all change the key at the same moment.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf;
use ring::rand::{SecureRandom, SystemRandom};

/// How long a key encrypts tickets. It decrypts them for as long again.
pub(super) const EPOCH: Duration = Duration::from_secs(6 * 60 * 60);
/// What the keys are derived for.
const LABEL: &[u8] = b"relais session tickets";
/// Most bytes of a ticket; larger ones are not decrypted.
const MAX_LEN: usize = 4096;

/// The secret that all processes of a server share.
#[derive(Clone)]
pub struct TicketSecret(Arc<[u8; 32]>);

impl fmt::Debug for TicketSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketSecret")
    }
}

impl TicketSecret {
    /// Makes a random secret.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub fn generate() -> io::Result<Self> {
        Ok(Self(Arc::new(random()?)))
    }

    /// Returns the key of an epoch.
    fn key(&self, epoch: u64) -> Option<LessSafeKey> {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, LABEL);
        let epoch = epoch.to_be_bytes();
        let info: [&[u8]; 1] = [&epoch];
        let key = salt.extract(&*self.0).expand(&info, &AES_256_GCM).map(UnboundKey::from).ok()?;
        Some(LessSafeKey::new(key))
    }

    /// Encrypts a ticket; none without random bytes or a usable clock.
    pub(super) fn encrypt(&self, plain: Vec<u8>) -> Option<Vec<u8>> {
        self.seal(present_epoch()?, plain)
    }

    /// Decrypts a ticket of any process with this secret; none if it is forged or too old.
    pub(super) fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.open(present_epoch()?, ticket)
    }

    /// Encrypts as `epoch ‖ nonce ‖ ciphertext`.
    fn seal(&self, epoch: u64, plain: Vec<u8>) -> Option<Vec<u8>> {
        let nonce: [u8; NONCE_LEN] = random().ok()?;
        let mut sealed = plain;
        let key = self.key(epoch)?;
        let aad = Aad::from(epoch.to_be_bytes());
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed).ok()?;
        Some([&epoch.to_be_bytes()[..], &nonce, &sealed].concat())
    }

    /// Decrypts a ticket of the present epoch or of the one before it.
    fn open(&self, now: u64, ticket: &[u8]) -> Option<Vec<u8>> {
        if ticket.len() > MAX_LEN {
            return None;
        }
        let (epoch, rest) = ticket.split_first_chunk::<8>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let aad = Aad::from(*epoch);
        let epoch = u64::from_be_bytes(*epoch);
        if epoch != now && epoch != now.saturating_sub(1) {
            return None;
        }
        let mut plain = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let len = self.key(epoch)?.open_in_place(nonce, aad, &mut plain).ok()?.len();
        plain.truncate(len);
        Some(plain)
    }
}

/// Returns random bytes.
pub(super) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| io::Error::other("the system has no random bytes"))?;
    Ok(bytes)
}

/// Returns the number of the present epoch.
fn present_epoch() -> Option<u64> {
    Some(SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs() / EPOCH.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_are_valid_for_two_epochs() {
        let secret = TicketSecret::generate().unwrap();
        let ticket = secret.seal(7, b"a session".to_vec()).unwrap();
        for (now, valid) in [(6, false), (7, true), (8, true), (9, false)] {
            let opened = secret.open(now, &ticket);
            assert_eq!(opened.as_deref(), valid.then_some(&b"a session"[..]), "{now}");
        }
        assert_eq!(TicketSecret::generate().unwrap().open(7, &ticket), None);
    }

    #[test]
    fn changed_tickets_are_rejected() {
        let secret = TicketSecret::generate().unwrap();
        let ticket = secret.seal(7, b"a session".to_vec()).unwrap();
        for n in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[n] ^= 1;
            assert_eq!(secret.open(7, &changed), None, "byte {n}");
            assert_eq!(secret.open(7, &ticket[..n]), None, "{n} bytes");
        }
        assert_eq!(secret.open(7, &[0; MAX_LEN + 1]), None);
    }
}
