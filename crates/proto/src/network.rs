//! Who is one peer, where something is counted for each address.

use std::net::{IpAddr, Ipv6Addr};

/// The address by which a peer is known. Whoever has one IPv6 address has all with the same first 64 bits, which is what a
/// network hands out to one host (RFC 4291, 2.5.1); an IPv4 address is one, also where it came to a socket of IPv6.
#[must_use]
pub fn network_of(addr: IpAddr) -> IpAddr {
    match addr.to_canonical() {
        IpAddr::V6(addr) if !addr.is_loopback() => {
            Ipv6Addr::from_bits(addr.to_bits() >> 64 << 64).into()
        }
        addr => addr,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_one_peer() {
        let is = |addr: &str, known_as: &str| {
            assert_eq!(
                network_of(addr.parse().unwrap()),
                known_as.parse::<IpAddr>().unwrap(),
                "{addr}"
            )
        };
        is("192.0.2.1", "192.0.2.1");
        is("::ffff:192.0.2.1", "192.0.2.1");
        is("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::");
        is("fe80::1", "fe80::");
        is("127.0.0.2", "127.0.0.2");
        is("::1", "::1");
    }
}
