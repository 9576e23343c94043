//! Selects the addresses of a slave that a client can use. Pure functions; callers resolve names.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use relais_proto::limits;

/// Addresses of a slave, from its registration and its connection to the master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlaveAddresses {
    /// Listening addresses; the unspecified address means all interfaces.
    pub listen: Vec<SocketAddr>,
    /// Resolved addresses for clients; empty for the listening addresses.
    pub advertised: Vec<SocketAddr>,
    /// Address of the slave as the master sees it.
    pub peer: IpAddr,
    /// Whether the slave runs on the master's host.
    pub same_host: bool,
}

/// Both ends of a client's connection to the master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionAddrs {
    /// Address of the client.
    pub peer: IpAddr,
    /// Address of the master, as this client reached it.
    pub local: IpAddr,
}

impl ConnectionAddrs {
    /// Makes the value with both addresses canonical.
    #[must_use]
    pub fn new(peer: IpAddr, local: IpAddr) -> Self {
        Self { peer: peer.to_canonical(), local: local.to_canonical() }
    }
}

/// Returns whether a connection stays on one host.
///
/// It comes from loopback, or from the same address that it goes to.
#[must_use]
pub fn same_host(peer: IpAddr, local: IpAddr) -> bool {
    let peer = peer.to_canonical();
    peer.is_loopback() || peer == local.to_canonical()
}

/// Returns the addresses where this client can reach the slave.
///
/// Addresses of the client's own family come first. The result is empty if there are none.
#[must_use]
pub fn endpoints_for(place: &SlaveAddresses, client: ConnectionAddrs) -> Vec<SocketAddr> {
    let client = ConnectionAddrs::new(client.peer, client.local);
    let listen = place.listen.iter().copied().map(canonical);
    let advertised = place.advertised.iter().copied().map(canonical);
    let mut found: Vec<SocketAddr> = if place.advertised.is_empty() {
        listen.filter_map(|listen| reachable(listen, place, client)).collect()
    } else {
        let is_reachable =
            |addr: &SocketAddr| client.peer.is_loopback() || !addr.ip().is_loopback();
        advertised.filter(is_reachable).collect()
    };
    let mut seen = HashSet::new();
    found.retain(|addr| usable(*addr) && seen.insert(*addr));
    found.sort_by_key(|addr| addr.is_ipv6() != client.peer.is_ipv6());
    found.truncate(limits::ADDRESSES);
    found
}

/// Returns the addresses that a slave occupies, to detect two slaves with the same one.
///
/// Loopback addresses of other hosts are left out, because they cannot collide here.
pub(crate) fn claims(place: &SlaveAddresses) -> Vec<SocketAddr> {
    if !place.advertised.is_empty() {
        return place.advertised.iter().copied().map(canonical).collect();
    }
    let listen = place.listen.iter().copied().map(canonical);
    if place.same_host {
        return listen.collect();
    }
    let peer = place.peer.to_canonical();
    listen
        .filter(|addr| !addr.ip().is_loopback())
        .map(
            |addr| {
                if addr.ip().is_unspecified() { SocketAddr::new(peer, addr.port()) } else { addr }
            },
        )
        .collect()
}

/// Returns whether two slaves claim the same address.
pub(crate) fn collide(a: &SlaveAddresses, b: &SlaveAddresses) -> bool {
    let (ours, theirs) = (claims(a), claims(b));
    // All interfaces of the master's host include each single interface.
    let both_here = [a, b].iter().all(|place| place.same_host && place.advertised.is_empty());
    ours.iter().any(|x| {
        theirs.iter().any(|y| {
            let covers = both_here && (x.ip().is_unspecified() || y.ip().is_unspecified());
            x.port() == y.port() && (x.ip() == y.ip() || covers)
        })
    })
}

/// Returns the address where the client reaches a slave that listens on `listen`.
fn reachable(
    listen: SocketAddr,
    place: &SlaveAddresses,
    client: ConnectionAddrs,
) -> Option<SocketAddr> {
    let (ip, port) = (listen.ip(), listen.port());
    if ip.is_loopback() {
        return (place.same_host && client.peer.is_loopback()).then_some(listen);
    }
    if !ip.is_unspecified() {
        return Some(listen);
    }
    let peer = place.peer.to_canonical();
    let hosts = if place.same_host { [Some(client.local), Some(peer)] } else { [Some(peer), None] };
    hosts
        .into_iter()
        .flatten()
        .find(|host| serves(ip, *host) && (client.peer.is_loopback() || !host.is_loopback()))
        .map(|host| SocketAddr::new(host, port))
}

/// Returns whether the wildcard address `any` accepts connections to `host`.
///
/// The IPv6 wildcard also accepts IPv4, because our servers listen that way.
fn serves(any: IpAddr, host: IpAddr) -> bool {
    any.is_ipv6() || host.is_ipv4()
}

/// Returns whether a redirect can carry the address.
///
/// A link-local address is valid on one link only, and a redirect cannot name the link.
fn usable(addr: SocketAddr) -> bool {
    let link_local = matches!(addr.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local());
    addr.port() != 0 && !addr.ip().is_unspecified() && !addr.ip().is_multicast() && !link_local
}

fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn place(listen: &[&str], peer: &str, same_host: bool) -> SlaveAddresses {
        SlaveAddresses {
            listen: listen.iter().map(|a| addr(a)).collect(),
            advertised: Vec::new(),
            peer: peer.parse().unwrap(),
            same_host,
        }
    }

    fn seen(place: &SlaveAddresses, peer: &str, local: &str) -> Vec<String> {
        let found = endpoints_for(
            place,
            ConnectionAddrs { peer: peer.parse().unwrap(), local: local.parse().unwrap() },
        );
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn loopback_is_for_loopback_clients_of_the_masters_host() {
        let here = place(&["127.0.0.1:2122"], "127.0.0.1", true);
        assert_eq!(seen(&here, "127.0.0.1", "127.0.0.1"), ["127.0.0.1:2122"]);
        assert_eq!(seen(&here, "::1", "::1"), ["127.0.0.1:2122"]);
        assert_eq!(seen(&here, "::ffff:127.0.0.1", "::ffff:127.0.0.1"), ["127.0.0.1:2122"]);
        assert!(seen(&here, "192.0.2.7", "192.0.2.1").is_empty());
        let elsewhere = place(&["127.0.0.1:2122", "[::1]:2122"], "192.0.2.9", false);
        assert!(seen(&elsewhere, "127.0.0.1", "127.0.0.1").is_empty());
        assert!(seen(&elsewhere, "192.0.2.9", "192.0.2.1").is_empty());
    }

    #[test]
    fn on_the_masters_host_the_client_goes_where_it_came() {
        for peer in ["127.0.0.1", "192.0.2.1"] {
            let all = place(&["0.0.0.0:2122"], peer, true);
            assert_eq!(seen(&all, "127.0.0.1", "127.0.0.1"), ["127.0.0.1:2122"]);
            assert_eq!(seen(&all, "192.0.2.7", "192.0.2.1"), ["192.0.2.1:2122"]);
            assert_eq!(seen(&all, "::ffff:10.0.0.7", "::ffff:10.0.0.1"), ["10.0.0.1:2122"]);
            let six = place(&["[::]:2122"], peer, true);
            assert_eq!(seen(&six, "192.0.2.7", "192.0.2.1"), ["192.0.2.1:2122"]);
            assert_eq!(seen(&six, "2001:db8::7", "2001:db8::1"), ["[2001:db8::1]:2122"]);
        }
        let one = place(&["192.0.2.1:2122"], "192.0.2.1", true);
        assert_eq!(seen(&one, "192.0.2.7", "192.0.2.1"), ["192.0.2.1:2122"]);
        assert_eq!(seen(&one, "10.0.0.7", "10.0.0.1"), ["192.0.2.1:2122"]);
    }

    #[test]
    fn ipv4_wildcards_are_not_offered_by_ipv6_addresses() {
        let here = place(&["0.0.0.0:2122"], "127.0.0.1", true);
        assert_eq!(seen(&here, "::1", "::1"), ["127.0.0.1:2122"]);
        assert!(seen(&here, "2001:db8::7", "2001:db8::1").is_empty());
        let away = place(&["0.0.0.0:2122"], "2001:db8::9", false);
        assert!(seen(&away, "192.0.2.7", "192.0.2.1").is_empty());
    }

    #[test]
    fn elsewhere_the_slaves_own_address_counts() {
        let all = place(&["0.0.0.0:2122"], "::ffff:192.0.2.9", false);
        assert_eq!(seen(&all, "192.0.2.7", "192.0.2.1"), ["192.0.2.9:2122"]);
        assert_eq!(seen(&all, "127.0.0.1", "127.0.0.1"), ["192.0.2.9:2122"]);
        let one = place(&["10.0.0.9:2122"], "192.0.2.9", false);
        assert_eq!(seen(&one, "192.0.2.7", "192.0.2.1"), ["10.0.0.9:2122"]);
        let two = place(&["[2001:db8::9]:1", "192.0.2.9:1", "0.0.0.0:1"], "192.0.2.9", false);
        assert_eq!(seen(&two, "192.0.2.7", "192.0.2.1"), ["192.0.2.9:1", "[2001:db8::9]:1"]);
    }

    #[test]
    fn what_is_advertised_wins() {
        let advertised = vec![
            addr("[2001:db8::1]:9"),
            addr("198.51.100.1:9"),
            addr("198.51.100.1:0"),
            addr("127.0.0.1:8"),
        ];
        let slave = SlaveAddresses { advertised, ..place(&["0.0.0.0:2122"], "192.0.2.9", false) };
        assert_eq!(seen(&slave, "192.0.2.7", "192.0.2.1"), ["198.51.100.1:9", "[2001:db8::1]:9"]);
        assert_eq!(
            seen(&slave, "127.0.0.1", "127.0.0.1"),
            ["198.51.100.1:9", "127.0.0.1:8", "[2001:db8::1]:9"]
        );
    }

    #[test]
    fn nothing_unusable_is_offered_and_not_too_much() {
        let bad =
            ["0.0.0.0:0", "192.0.2.9:0", "127.0.0.1:0", "[::]:0", "224.0.0.1:7", "[fe80::1]:7"];
        assert!(seen(&place(&bad, "127.0.0.1", true), "127.0.0.1", "127.0.0.1").is_empty());
        assert!(seen(&place(&[], "127.0.0.1", true), "127.0.0.1", "127.0.0.1").is_empty());
        let many: Vec<String> = (1..=20).map(|n| format!("192.0.2.{n}:7")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(
            seen(&place(&many, "192.0.2.1", false), "192.0.2.7", "192.0.2.1").len(),
            limits::ADDRESSES
        );
    }

    #[test]
    fn knows_its_own_host() {
        let same =
            |peer: &str, local: &str| same_host(peer.parse().unwrap(), local.parse().unwrap());
        assert!(
            same("127.0.0.1", "127.0.0.1")
                && same("::ffff:127.0.0.1", "::1")
                && same("192.0.2.1", "::ffff:192.0.2.1")
        );
        assert!(!same("192.0.2.2", "192.0.2.1"));
    }

    #[test]
    fn the_same_address_is_claimed_once() {
        let (a, b) = (
            place(&["127.0.0.1:1"], "192.0.2.8", false),
            place(&["127.0.0.1:1"], "192.0.2.9", false),
        );
        assert!(!collide(&a, &b), "loopback of two other hosts");
        let (a, b) =
            (place(&["0.0.0.0:1"], "192.0.2.8", false), place(&["0.0.0.0:1"], "192.0.2.9", false));
        assert!(!collide(&a, &b) && collide(&a, &a));
        assert!(
            collide(&a, &place(&["192.0.2.8:1"], "192.0.2.9", false)),
            "the address of another host"
        );
        let here = place(&["0.0.0.0:1"], "127.0.0.1", true);
        assert!(collide(&here, &place(&["127.0.0.1:1"], "192.0.2.1", true)));
        assert!(!collide(&here, &place(&["127.0.0.1:2"], "127.0.0.1", true)));
        let away = SlaveAddresses { advertised: vec![addr("192.0.2.8:1")], ..here.clone() };
        assert!(collide(&a, &away) && !collide(&here, &away));
    }
}
