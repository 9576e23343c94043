//! Selects the address of a slave that an HTTP client can use. Pure functions.
//!
//! The rules are those of [`endpoints_for`], with the ports of the slave's HTTP listeners.

use std::net::SocketAddr;

use relais_proto::{FolderId, HttpListeners, Lsn, SlaveId};

use crate::slave_addresses::{ConnectionAddrs, SlaveAddresses, endpoints_for};

/// Where a slave serves HTTP clients.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpAddresses {
    /// Its listeners; none if it does not serve HTTP.
    pub listeners: HttpListeners,
    /// The host of its `--advertise` if that is a name: certificates and virtual hosts need it.
    pub name: Option<String>,
}

impl HttpAddresses {
    /// Makes the value for a slave with the option `--advertise HOST:PORT`, which may be empty.
    #[must_use]
    pub fn new(listeners: HttpListeners, advertise: &str) -> Self {
        let host = advertise.rsplit_once(':').map_or("", |(host, _)| host);
        let is_name =
            !host.is_empty() && !host.starts_with('[') && host.parse::<std::net::IpAddr>().is_err();
        let is_safe = host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        Self { listeners, name: (is_name && is_safe).then(|| host.to_owned()) }
    }
}

/// The client of an HTTP request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpRequester {
    /// Both ends of its connection.
    pub addrs: ConnectionAddrs,
    /// Whether it came by `https`: then it is sent nowhere else.
    pub encrypted: bool,
    /// Whether it changes something: slaves with a nearly full disk come last.
    pub writes: bool,
}

/// A slave that can serve an HTTP request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpEndpoint {
    /// Its id.
    pub id: SlaveId,
    /// The folder that it serves.
    pub folder: FolderId,
    /// `HOST:PORT` of its URLs for this client.
    pub authority: String,
    /// Latest change that it has applied, as of its last heartbeat.
    pub lsn: Lsn,
}

/// Returns `HOST:PORT` for a URL by which this client reaches the slave at `place`.
///
/// `encrypted` is for `https`. None if the client can use no listener of that kind.
#[must_use]
pub fn http_authority(
    http: &HttpAddresses,
    place: &SlaveAddresses,
    client: ConnectionAddrs,
    encrypted: bool,
) -> Option<String> {
    let HttpAddresses { listeners, name } = http;
    let listen = if encrypted { &listeners.encrypted } else { &listeners.clear };
    // An advertised host does not reach a listener on loopback.
    let (remote, local): (Vec<SocketAddr>, Vec<SocketAddr>) = listen
        .iter()
        .partition(|addr| !place.advertised.is_empty() && !addr.ip().to_canonical().is_loopback());
    let ports = remote.iter().map(SocketAddr::port);
    let advertised: Vec<SocketAddr> = ports
        .flat_map(|port| place.advertised.iter().map(move |at| SocketAddr::new(at.ip(), port)))
        .collect();
    let seen = |listen, advertised: Vec<SocketAddr>| {
        endpoints_for(&SlaveAddresses { listen, advertised, ..place.clone() }, client)
            .first()
            .copied()
    };
    if !advertised.is_empty()
        && let Some(addr) = seen(Vec::new(), advertised)
    {
        return Some(match name {
            Some(name) => format!("{name}:{}", addr.port()),
            None => addr.to_string(),
        });
    }
    seen(local, Vec::new()).map(|addr| addr.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addrs(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn place(advertised: &[&str], peer: &str, same_host: bool) -> SlaveAddresses {
        let (listen, advertised) = (addrs(&["0.0.0.0:2122"]), addrs(advertised));
        SlaveAddresses { listen, advertised, peer: peer.parse().unwrap(), same_host }
    }

    fn seen(http: &HttpAddresses, place: &SlaveAddresses, peer: &str, encrypted: bool) -> String {
        let local = if peer.starts_with("127") { "127.0.0.1" } else { "192.0.2.1" };
        let client = ConnectionAddrs { peer: peer.parse().unwrap(), local: local.parse().unwrap() };
        http_authority(http, place, client, encrypted).unwrap_or_default()
    }

    fn http(clear: &[&str], encrypted: &[&str], advertise: &str) -> HttpAddresses {
        let listeners = HttpListeners { clear: addrs(clear), encrypted: addrs(encrypted) };
        HttpAddresses::new(listeners, advertise)
    }

    #[test]
    fn a_client_gets_the_port_of_its_scheme_at_an_address_that_it_can_use() {
        let slave = http(&["0.0.0.0:80"], &["0.0.0.0:443"], "");
        let away = place(&[], "192.0.2.9", false);
        assert_eq!(seen(&slave, &away, "192.0.2.7", false), "192.0.2.9:80");
        assert_eq!(seen(&slave, &away, "192.0.2.7", true), "192.0.2.9:443");
        let clear = http(&["127.0.0.1:80"], &[], "");
        assert_eq!(
            seen(&clear, &place(&[], "127.0.0.1", true), "127.0.0.1", false),
            "127.0.0.1:80"
        );
        assert_eq!(seen(&clear, &place(&[], "127.0.0.1", true), "127.0.0.1", true), "");
        assert_eq!(seen(&clear, &place(&[], "127.0.0.1", true), "192.0.2.7", false), "");
        assert_eq!(seen(&clear, &away, "127.0.0.1", false), "", "loopback of another host");
        let six = http(&["[2001:db8::9]:80"], &[], "");
        assert_eq!(seen(&six, &away, "192.0.2.7", false), "[2001:db8::9]:80");
    }

    #[test]
    fn the_advertised_host_counts_with_the_port_of_the_listener() {
        let away = place(&["198.51.100.1:9"], "192.0.2.9", false);
        let slave = http(&["0.0.0.0:80"], &["127.0.0.1:443"], "198.51.100.1:9");
        assert_eq!(seen(&slave, &away, "192.0.2.7", false), "198.51.100.1:80");
        assert_eq!(seen(&slave, &away, "192.0.2.7", true), "", "nothing reaches its loopback");
        let named = http(&["0.0.0.0:80"], &[], "files.example.org:9");
        assert_eq!(seen(&named, &away, "192.0.2.7", false), "files.example.org:80");
        let here = place(&["198.51.100.1:9"], "127.0.0.1", true);
        let local = http(&["127.0.0.1:80"], &[], "files.example.org:9");
        assert_eq!(seen(&local, &here, "127.0.0.1", false), "127.0.0.1:80");
    }

    #[test]
    fn only_a_plain_name_becomes_part_of_a_url() {
        let name = |advertise: &str| HttpAddresses::new(HttpListeners::default(), advertise).name;
        assert_eq!(name("files.example.org:9").as_deref(), Some("files.example.org"));
        for other in ["", "192.0.2.1:9", "[::1]:9", "a/b:9", "a@b:9", "a b:9", "a\r\nb:9", ":9"] {
            assert_eq!(name(other), None, "{other}");
        }
    }
}
