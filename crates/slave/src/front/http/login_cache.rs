//! Logins that a worker remembers, so that a client with many connections is verified once.
//!
//! It holds no password: an entry is found by a hash under a random key of the process. An entry is
//! of no use once the accounts have a higher generation, because any account may have lost rights.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::time::Instant;

use parking_lot::Mutex;
use relais_engine::Principal;

use super::limits::{LOGIN_CACHE, LOGIN_CACHE_TIME};

/// The logins of one worker.
pub struct LoginCache {
    key: [u8; 32],
    entries: Mutex<HashMap<[u8; 32], CachedLogin>>,
}

struct CachedLogin {
    since: Instant,
    principal: Principal,
}

impl LoginCache {
    /// Makes an empty cache.
    ///
    /// # Errors
    /// The kernel provides no random bytes.
    pub fn new() -> io::Result<Self> {
        Ok(Self { key: relais_os::random()?, entries: Mutex::default() })
    }

    /// Returns the user who has logged in with the same credentials from the same address.
    pub fn get(
        &self,
        credentials: &str,
        address: IpAddr,
        generation: u64,
        now: Instant,
    ) -> Option<Principal> {
        let hash = self.hash(credentials, address);
        let mut entries = self.entries.lock();
        let login = entries.get(&hash)?;
        if login.principal.generation < generation
            || now.duration_since(login.since) >= LOGIN_CACHE_TIME
        {
            entries.remove(&hash);
            return None;
        }
        Some(login.principal.clone())
    }

    /// Remembers a login; the oldest one is dropped if there are too many.
    pub fn insert(&self, credentials: &str, address: IpAddr, principal: Principal, now: Instant) {
        let hash = self.hash(credentials, address);
        let mut entries = self.entries.lock();
        if entries.len() >= LOGIN_CACHE
            && let Some(oldest) = entries.iter().min_by_key(|(_, login)| login.since)
        {
            let oldest = *oldest.0;
            entries.remove(&oldest);
        }
        entries.insert(hash, CachedLogin { since: now, principal });
    }

    /// Drops a login that has ended.
    pub fn remove(&self, credentials: &str, address: IpAddr) {
        let hash = self.hash(credentials, address);
        self.entries.lock().remove(&hash);
    }

    fn hash(&self, credentials: &str, address: IpAddr) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&(credentials.len() as u64).to_be_bytes()).update(credentials.as_bytes());
        match address.to_canonical() {
            IpAddr::V4(address) => hasher.update(&address.octets()),
            IpAddr::V6(address) => hasher.update(&address.octets()),
        };
        hasher.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn principal(generation: u64) -> Principal {
        Principal { generation, ..Principal::new("ann", ADDRESS) }
    }

    #[test]
    fn a_login_is_found_by_credentials_address_and_generation() {
        let (cache, now) = (LoginCache::new().unwrap(), Instant::now());
        cache.insert("Basic x", ADDRESS, principal(3), now);
        let user = |credentials, address, generation| {
            cache.get(credentials, address, generation, now).map(|found| found.user)
        };
        assert_eq!(user("Basic x", ADDRESS, 3).as_deref(), Some("ann"));
        assert_eq!(user("Basic y", ADDRESS, 3), None);
        assert_eq!(user("Basic x", [192, 0, 2, 1].into(), 3), None);
        assert_eq!(user("Basic x", ADDRESS, 4), None, "an account has lost rights");
        assert_eq!(user("Basic x", ADDRESS, 3), None, "and the entry is gone");
    }

    #[test]
    fn logins_end_and_their_number_is_limited() {
        let (cache, now) = (LoginCache::new().unwrap(), Instant::now());
        cache.insert("old", ADDRESS, principal(1), now);
        assert!(cache.get("old", ADDRESS, 1, now + LOGIN_CACHE_TIME).is_none());
        for n in 0..LOGIN_CACHE + 5 {
            let at = now + std::time::Duration::from_millis(n as u64);
            cache.insert(&n.to_string(), ADDRESS, principal(1), at);
        }
        assert_eq!(cache.entries.lock().len(), LOGIN_CACHE);
        assert!(cache.get("0", ADDRESS, 1, now).is_none());
        assert!(cache.get("1000", ADDRESS, 1, now).is_some());
        cache.remove("1000", ADDRESS);
        assert!(cache.get("1000", ADDRESS, 1, now).is_none());
    }
}
