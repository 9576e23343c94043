//! Where a request comes from: the connection, or what a trusted proxy tells.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use relais_http::{Headers, RequestError, forwarded};
use relais_net::IpNetwork;

/// The fields that proxies add to a request (RFC 7239 section 4, RFC 9110 section 7.6.3).
const PROXY_FIELDS: [&str; 3] = ["forwarded", "x-forwarded-for", "via"];

/// The client of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpClient {
    /// Its address; behind a proxy that names an address alone, the port is 0.
    pub address: SocketAddr,
    /// Whether the client uses TLS, with this server or with a trusted proxy.
    pub is_encrypted: bool,
}

impl HttpClient {
    /// Returns the client of a request that `peer` has sent.
    ///
    /// `Forwarded` (RFC 7239) and the older fields count from the networks `trusted` alone: any
    /// other peer could claim to be on this host. A proxy on this host that is not trusted makes
    /// its clients no clients on this host: they have the unspecified address.
    ///
    /// # Errors
    /// As [`forwarded::client`].
    pub fn of(
        headers: &Headers,
        peer: SocketAddr,
        is_encrypted: bool,
        trusted: &[IpNetwork],
    ) -> Result<Self, RequestError> {
        let is_trusted = |addr: IpAddr| trusted.iter().any(|network| network.contains(addr));
        if !is_trusted(peer.ip()) {
            let is_proxy = peer.ip().to_canonical().is_loopback()
                && PROXY_FIELDS.iter().any(|field| headers.has(field));
            let unknown = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
            return Ok(Self { address: if is_proxy { unknown } else { peer }, is_encrypted });
        }
        let named = forwarded::client(headers, is_trusted)?;
        Ok(Self {
            address: named.addr.map_or(peer, |addr| SocketAddr::new(addr, 0)),
            is_encrypted: named.is_encrypted.unwrap_or(is_encrypted),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_proxies_name_the_client() {
        let mut headers = Headers::default();
        headers.insert("X-Forwarded-For", "127.0.0.1, 192.0.2.7");
        headers.insert("X-Forwarded-Proto", "https");
        let [proxy, other]: [SocketAddr; 2] =
            ["10.0.0.1:80", "198.51.100.1:80"].map(|addr| addr.parse().unwrap());
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let client = HttpClient::of(&headers, proxy, false, &trusted).unwrap();
        assert_eq!((client.address, client.is_encrypted), ("192.0.2.7:0".parse().unwrap(), true));
        let client = HttpClient::of(&headers, other, false, &trusted).unwrap();
        assert_eq!((client.address, client.is_encrypted), (other, false));
        let bare = HttpClient::of(&Headers::default(), proxy, true, &trusted).unwrap();
        assert_eq!((bare.address, bare.is_encrypted), (proxy, true));
    }

    #[test]
    fn clients_of_an_unknown_proxy_are_not_on_this_host() {
        let (local, other) = ("127.0.0.1:80", "198.51.100.1:80");
        for (field, peer, expected) in [
            ("X-Forwarded-For", local, "0.0.0.0:0"),
            ("Via", local, "0.0.0.0:0"),
            ("X-Other", local, local),
            ("Via", other, other),
        ] {
            let mut headers = Headers::default();
            headers.insert(field, "127.0.0.1");
            let client = HttpClient::of(&headers, peer.parse().unwrap(), false, &[]).unwrap();
            assert_eq!(client.address, expected.parse().unwrap(), "{field} {peer}");
        }
    }
}
