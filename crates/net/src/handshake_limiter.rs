//! How many handshakes each address may have in a time: one that floods must wait, and costs no more than its share.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use relais_proto::{limits, network_of};

/// Most addresses that are remembered.
const ADDRESSES: usize = 4096;

/// The addresses that had handshakes lately.
#[derive(Debug, Default)]
pub struct HandshakeLimiter {
    /// When each of them will have its full allowance again.
    full: HashMap<IpAddr, Instant>,
}

impl HandshakeLimiter {
    /// Whether this address may have one more handshake now. From inside the machine all may.
    pub fn admit(&mut self, addr: IpAddr, now: Instant) -> bool {
        let network = network_of(addr);
        if network.is_loopback() {
            return true;
        }
        let each = Duration::from_secs(1) / limits::HANDSHAKES;
        let full = self.full.get(&network).copied().unwrap_or(now).max(now) + each;
        if full > now + Duration::from_secs(1) {
            return false;
        }
        if self.full.len() >= ADDRESSES {
            self.full.retain(|_, full| *full > now);
        }
        // With so many at once each of them has had few.
        if self.full.len() < ADDRESSES || self.full.contains_key(&network) {
            self.full.insert(network, full);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_allowance_and_then_its_rate_and_others_have_theirs() {
        let (mut tolls, now) = (HandshakeLimiter::default(), Instant::now());
        let at = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut admitted = |addr: &str, later: u64| {
            (0..1000).filter(|_| tolls.admit(at(addr), now + Duration::from_millis(later))).count()
        };
        let each = limits::HANDSHAKES as usize;
        assert_eq!(admitted("10.0.0.1", 0), each);
        assert_eq!((admitted("10.0.0.1", 500), admitted("10.0.0.1", 500)), (each / 2, 0));
        assert_eq!(admitted("10.0.0.2", 500), each);
        assert_eq!(admitted("10.0.0.1", 60_000), each, "never more than one second's");
        assert_eq!(
            (admitted("2001:db8::1", 0), admitted("2001:db8::2", 0), admitted("2001:db8:0:1::", 0)),
            (each, 0, each)
        );
        assert_eq!(
            (admitted("::ffff:10.0.0.1", 60_000), admitted("127.0.0.1", 0), admitted("::1", 0)),
            (0, 1000, 1000)
        );
    }

    #[test]
    fn many_addresses_do_not_fill_the_memory() {
        let (mut tolls, now) = (HandshakeLimiter::default(), Instant::now());
        for n in 0..20_000_u32 {
            assert!(tolls.admit(IpAddr::V4((0x0a00_0000 + n).into()), now));
        }
        assert_eq!(tolls.full.len(), ADDRESSES);
        assert!(tolls.admit(IpAddr::V4(1.into()), now + Duration::from_secs(5)));
        assert_eq!(tolls.full.len(), 1);
    }
}
