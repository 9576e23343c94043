//! Passwords that were verified a short while ago, so that each request costs no hash.
//!
//! It holds no password: an entry is found by a hash under a random key of the process. The user's
//! present rights are looked up at each use.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use relais_auth::{AuthenticatedUser, PasswordId};

/// Most logins that are remembered.
const LOGINS: usize = 1024;
/// Time for which they are remembered.
const TIME: Duration = Duration::from_secs(5 * 60);

/// Verified passwords.
pub(super) struct VerifiedLogins {
    key: [u8; 32],
    logins: Mutex<HashMap<[u8; 32], VerifiedLogin>>,
}

struct VerifiedLogin {
    since: Instant,
    user: String,
    password_id: PasswordId,
}

impl VerifiedLogins {
    /// Makes an empty cache.
    ///
    /// # Errors
    /// The kernel provides no random bytes.
    pub fn new() -> io::Result<Self> {
        Ok(Self { key: relais_os::random()?, logins: Mutex::default() })
    }

    /// Returns the user that these credentials belong to, and the id of the password.
    pub fn get(
        &self,
        credentials: &str,
        client: IpAddr,
        now: Instant,
    ) -> Option<(String, PasswordId)> {
        let hash = self.hash(credentials, client);
        let mut logins = self.logins.lock();
        let login = logins.get(&hash)?;
        if now.duration_since(login.since) >= TIME {
            logins.remove(&hash);
            return None;
        }
        Some((login.user.clone(), login.password_id))
    }

    /// Remembers a login; the oldest one is dropped if there are too many.
    pub fn insert(
        &self,
        credentials: &str,
        client: IpAddr,
        user: &AuthenticatedUser,
        now: Instant,
    ) {
        let hash = self.hash(credentials, client);
        let mut logins = self.logins.lock();
        if logins.len() >= LOGINS
            && let Some(oldest) = logins.iter().min_by_key(|(_, login)| login.since)
        {
            let oldest = *oldest.0;
            logins.remove(&oldest);
        }
        let (user, password_id) = (user.name.clone(), user.password_id);
        logins.insert(hash, VerifiedLogin { since: now, user, password_id });
    }

    fn hash(&self, credentials: &str, client: IpAddr) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        match client.to_canonical() {
            IpAddr::V4(address) => hasher.update(&[4]).update(&address.octets()),
            IpAddr::V6(address) => hasher.update(&[6]).update(&address.octets()),
        };
        hasher.update(credentials.as_bytes()).finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use relais_auth::Rights;
    use relais_proto::TreePath;

    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn logins_are_found_for_a_while_and_their_number_is_limited() {
        let (cache, now) = (VerifiedLogins::new().unwrap(), Instant::now());
        let user = AuthenticatedUser {
            name: "ann".to_owned(),
            password_id: PasswordId([7; 16]),
            root: TreePath::root(),
            ..AuthenticatedUser::without_account(Rights::Read)
        };
        cache.insert("Basic x", CLIENT, &user, now);
        let found = Some(("ann".to_owned(), PasswordId([7; 16])));
        assert_eq!(cache.get("Basic x", CLIENT, now), found);
        assert_eq!(cache.get("Basic y", CLIENT, now), None);
        assert_eq!(cache.get("Basic x", [192, 0, 2, 1].into(), now), None);
        assert_eq!(cache.get("Basic x", CLIENT, now + TIME), None);
        for n in 0..LOGINS + 5 {
            let at = now + Duration::from_millis(n as u64);
            cache.insert(&n.to_string(), CLIENT, &user, at);
        }
        assert_eq!(cache.logins.lock().len(), LOGINS);
        assert_eq!((cache.get("0", CLIENT, now), cache.get("1000", CLIENT, now)), (None, found));
    }
}
