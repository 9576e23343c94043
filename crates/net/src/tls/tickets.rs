//! Session tickets that each process of a server accepts.
//!
//! A ticket is the TLS library's session, encrypted under a key that all processes derive from one
//! secret and the time. So no process stores sessions, and all change the key at the same moment.
//! Each ticket also has the id of the connection for which it was issued. By that id a later
//! connection proves that it resumes the session of an earlier one.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::server::ProducesTickets;

/// How long a key encrypts tickets. It decrypts them for as long again.
const EPOCH: Duration = Duration::from_secs(6 * 60 * 60);
/// What the keys are derived for.
const LABEL: &[u8] = b"relais session tickets";
/// Most bytes of a ticket; larger ones are not decrypted.
const MAX_LEN: usize = 4096;

/// Identifies the connection for which a ticket was issued.
type ConnectionId = [u8; 16];

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
    pub fn generate() -> std::io::Result<Self> {
        random().map(|secret| Self(Arc::new(secret))).ok_or_else(no_random_bytes)
    }

    /// Returns the key of an epoch.
    fn key(&self, epoch: u64) -> Option<LessSafeKey> {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, LABEL);
        let epoch = epoch.to_be_bytes();
        let info: [&[u8]; 1] = [&epoch];
        let key = salt.extract(&*self.0).expand(&info, &AES_256_GCM).map(UnboundKey::from).ok()?;
        Some(LessSafeKey::new(key))
    }

    /// Encrypts as `epoch ‖ nonce ‖ ciphertext`.
    fn seal(&self, epoch: u64, plain: Vec<u8>) -> Option<Vec<u8>> {
        let nonce: [u8; NONCE_LEN] = random()?;
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

fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).ok().map(|()| bytes)
}

fn no_random_bytes() -> std::io::Error {
    std::io::Error::other("the system has no random bytes")
}

/// Returns the number of the present epoch.
fn present_epoch() -> Option<u64> {
    Some(SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs() / EPOCH.as_secs())
}

/// The tickets that one connection issues and accepts.
#[derive(Debug)]
pub(crate) struct ConnectionTickets {
    secret: TicketSecret,
    purpose: Purpose,
    /// The connection whose ticket was decrypted last.
    presented: Mutex<Option<ConnectionId>>,
}

#[derive(Debug)]
enum Purpose {
    /// Issue tickets with this id, and accept all.
    Control(ConnectionId),
    /// Issue none, and accept those of these connections.
    ///
    /// A peer that only sends would leave tickets unread, and its socket would then reset the
    /// connection instead of closing it.
    Data(Vec<ConnectionId>),
}

impl ConnectionTickets {
    /// Makes the tickets of a connection that other connections may resume.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub fn control(secret: TicketSecret) -> std::io::Result<Self> {
        let id = random().ok_or_else(no_random_bytes)?;
        Ok(Self { secret, purpose: Purpose::Control(id), presented: Mutex::default() })
    }

    /// Makes the tickets of a connection that may resume `control`.
    ///
    /// `is_resumed`: whether `control` has itself resumed an earlier session, whose tickets its
    /// client may still use.
    pub fn data(secret: TicketSecret, control: Option<(&Self, bool)>) -> Self {
        let mut accepted = Vec::new();
        if let Some((control, is_resumed)) = control {
            if let Purpose::Control(id) = control.purpose {
                accepted.push(id);
            }
            accepted.extend(control.presented.lock().filter(|_| is_resumed));
        }
        Self { secret, purpose: Purpose::Data(accepted), presented: Mutex::default() }
    }
}

impl ProducesTickets for ConnectionTickets {
    fn enabled(&self) -> bool {
        // After a ticket was accepted in TLS 1.2, no empty new one must replace it.
        matches!(self.purpose, Purpose::Control(_)) || self.presented.lock().is_none()
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(EPOCH.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        match &self.purpose {
            Purpose::Control(id) => self.secret.seal(present_epoch()?, [id, plain].concat()),
            Purpose::Data(_) => None,
        }
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let mut plain = self.secret.open(present_epoch()?, ticket)?;
        let id = *plain.first_chunk()?;
        if let Purpose::Data(accepted) = &self.purpose
            && !accepted.contains(&id)
        {
            return None;
        }
        *self.presented.lock() = Some(id);
        plain.drain(..id.len());
        Some(plain)
    }
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

    #[test]
    fn data_tickets_are_those_of_their_control_connection() {
        let secret = TicketSecret::generate().unwrap();
        let control = || ConnectionTickets::control(secret.clone()).unwrap();
        let (own, other) = (control(), control());
        let [ours, theirs] = [&own, &other].map(|tickets| tickets.encrypt(b"session").unwrap());
        let data = ConnectionTickets::data(secret.clone(), Some((&own, false)));
        assert_eq!(data.decrypt(&theirs), None);
        assert!(data.enabled());
        assert_eq!(data.decrypt(&ours).as_deref(), Some(&b"session"[..]));
        assert!(!data.enabled() && data.encrypt(b"session").is_none());
        // The client of `own` has resumed the session of `other`.
        assert!(own.decrypt(&theirs).is_some());
        for is_resumed in [false, true] {
            let data = ConnectionTickets::data(secret.clone(), Some((&own, is_resumed)));
            assert_eq!(data.decrypt(&theirs).is_some(), is_resumed);
        }
    }
}
