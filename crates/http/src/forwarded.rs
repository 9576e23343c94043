//! What proxies tell about the client.
//!
//! The caller decides which proxies are trusted. Fields from other peers must not be looked at.

use std::net::{IpAddr, SocketAddr};

use crate::headers::Headers;
use crate::limits;

/// The client that trusted proxies have named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForwardedClient {
    /// The address of the client; none if it is not known.
    pub addr: Option<IpAddr>,
    /// Whether the client has used TLS; none if it is not known.
    pub is_encrypted: Option<bool>,
}

/// Returns the client that a request comes from, as `Forwarded` tells it (RFC 7239, section 4), or
/// else `X-Forwarded-For` and `X-Forwarded-Proto`.
///
/// Each proxy appends its client. So the last address that is not a trusted proxy is the client:
/// what stands before it was sent by the client, who may lie.
#[must_use]
pub fn client(headers: &Headers, is_trusted: impl Fn(IpAddr) -> bool) -> ForwardedClient {
    let hops = if headers.has("forwarded") { forwarded(headers) } else { x_forwarded(headers) };
    let mut found = ForwardedClient::default();
    for hop in hops.into_iter().rev() {
        found = hop;
        if found.addr.is_none_or(|addr| !is_trusted(addr)) {
            break;
        }
    }
    found
}

/// Returns the hops of `Forwarded`, the client's first.
fn forwarded(headers: &Headers) -> Vec<ForwardedClient> {
    headers.list("forwarded").take(limits::LIST).map(parse_hop).collect()
}

/// Parses the parameters of one hop (RFC 7239, sections 4 to 6).
fn parse_hop(element: &str) -> ForwardedClient {
    let mut hop = ForwardedClient::default();
    for pair in element.split(';') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = value.trim().trim_matches('"');
        match name.trim().to_ascii_lowercase().as_str() {
            "for" => hop.addr = parse_addr(value),
            "proto" => hop.is_encrypted = Some(value.eq_ignore_ascii_case("https")),
            _ => {}
        }
    }
    hop
}

/// Returns the hops of the older fields. The last protocol stands for all hops.
fn x_forwarded(headers: &Headers) -> Vec<ForwardedClient> {
    let proto = headers.list("x-forwarded-proto").last();
    let is_encrypted = proto.map(|proto| proto.eq_ignore_ascii_case("https"));
    let addrs = headers.list("x-forwarded-for").take(limits::LIST).map(parse_addr);
    let hops: Vec<_> = addrs.map(|addr| ForwardedClient { addr, is_encrypted }).collect();
    if hops.is_empty() { vec![ForwardedClient { addr: None, is_encrypted }] } else { hops }
}

/// Parses an address with or without brackets and port (RFC 7239, section 6).
fn parse_addr(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let addr = bare.parse().ok().or_else(|| text.parse().ok().map(|addr: SocketAddr| addr.ip()));
    addr.map(|addr: IpAddr| addr.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client_of(fields: &[(&'static str, &'static str)]) -> ForwardedClient {
        let mut headers = Headers::default();
        fields.iter().for_each(|(name, value)| headers.append(*name, *value));
        client(&headers, |addr| addr.to_string().starts_with("10."))
    }

    #[test]
    fn the_last_untrusted_address_is_the_client() {
        for (name, value, expected) in [
            ("Forwarded", "for=1.2.3.4", Some("1.2.3.4")),
            ("Forwarded", "For=\"[2001:db8::1]:4711\";proto=https", Some("2001:db8::1")),
            ("Forwarded", "for=9.9.9.9, for=1.2.3.4, for=10.0.0.1", Some("1.2.3.4")),
            ("Forwarded", "for=10.0.0.1", Some("10.0.0.1")),
            ("Forwarded", "for=9.9.9.9, for=unknown", None),
            ("Forwarded", "for=9.9.9.9, for=_hidden;by=10.0.0.2", None),
            ("Forwarded", "nonsense", None),
            ("X-Forwarded-For", "9.9.9.9, 1.2.3.4 , 10.0.0.1", Some("1.2.3.4")),
            ("X-Forwarded-For", "::ffff:1.2.3.4", Some("1.2.3.4")),
            ("X-Forwarded-For", "", None),
            ("X-Other", "1.2.3.4", None),
        ] {
            let expected = expected.map(|addr| addr.parse().unwrap());
            assert_eq!(client_of(&[(name, value)]).addr, expected, "{name}: {value}");
        }
        let both = [("X-Forwarded-For", "9.9.9.9"), ("Forwarded", "for=1.2.3.4")];
        assert_eq!(client_of(&both).addr, Some([1, 2, 3, 4].into()));
    }

    #[test]
    fn the_protocol_is_that_of_the_client() {
        let value = "for=1.2.3.4;proto=https, for=10.0.0.1;proto=http";
        assert_eq!(client_of(&[("Forwarded", value)]).is_encrypted, Some(true));
        assert_eq!(client_of(&[("X-Forwarded-Proto", "HTTPS")]).is_encrypted, Some(true));
        assert_eq!(client_of(&[("X-Forwarded-Proto", "http")]).is_encrypted, Some(false));
        assert_eq!(client_of(&[]), ForwardedClient::default());
    }
}
