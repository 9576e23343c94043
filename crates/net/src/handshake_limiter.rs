//! Limits the rate of TLS handshakes for each address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use relais_proto::{limits, network_of};

/// Cap on remembered addresses.
const MAX_ADDRESSES: usize = 4096;

/// Token buckets of the addresses with recent handshakes. A bucket holds one second's handshakes.
#[derive(Debug, Default)]
pub struct HandshakeLimiter {
    /// When the bucket of each network will be full again.
    full_at: HashMap<IpAddr, Instant>,
}

impl HandshakeLimiter {
    /// Whether this address may begin a handshake now. Loopback addresses have no limit.
    pub fn admit(&mut self, addr: IpAddr, now: Instant) -> bool {
        let network = network_of(addr);
        if network.is_loopback() {
            return true;
        }
        let each = Duration::from_secs(1) / limits::HANDSHAKES;
        let full_at = self.full_at.get(&network).copied().unwrap_or(now).max(now) + each;
        if full_at > now + Duration::from_secs(1) {
            return false;
        }
        if self.full_at.len() >= MAX_ADDRESSES {
            self.full_at.retain(|_, full_at| *full_at > now);
        }
        // A full table is not extended: with so many addresses each has had few handshakes.
        if self.full_at.len() < MAX_ADDRESSES || self.full_at.contains_key(&network) {
            self.full_at.insert(network, full_at);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_a_burst_and_then_a_rate() {
        let (mut limiter, now) = (HandshakeLimiter::default(), Instant::now());
        let at = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut admitted = |addr: &str, later: u64| {
            (0..1000)
                .filter(|_| limiter.admit(at(addr), now + Duration::from_millis(later)))
                .count()
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
    fn the_table_of_addresses_is_bounded() {
        let (mut limiter, now) = (HandshakeLimiter::default(), Instant::now());
        for n in 0..20_000_u32 {
            assert!(limiter.admit(IpAddr::V4((0x0a00_0000 + n).into()), now));
        }
        assert_eq!(limiter.full_at.len(), MAX_ADDRESSES);
        assert!(limiter.admit(IpAddr::V4(1.into()), now + Duration::from_secs(5)));
        assert_eq!(limiter.full_at.len(), 1);
    }
}
