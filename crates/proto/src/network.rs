//! Grouping of peer addresses for limits per address.

use std::net::{IpAddr, Ipv6Addr};

/// Returns the address under which a peer is counted.
///
/// An IPv6 peer is counted by its first 64 bits, because a network gives that prefix to one host
/// (RFC 4291, 2.5.1). An IPv4 address is counted alone, also if it arrives at an IPv6 socket.
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
