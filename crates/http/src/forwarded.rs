//! What proxies tell about the client.
//!
//! The caller decides which proxies are trusted. Fields from other peers must not be looked at.

use std::net::{IpAddr, SocketAddr};

use crate::headers::Headers;
use crate::limits;
use crate::request_error::RequestError;

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
///
/// # Errors
/// Status 400 if the fields name no address, or different ones: most proxies append to one of the
/// fields and pass the other one on as the client has sent it.
pub fn client(
    headers: &Headers,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> Result<ForwardedClient, RequestError> {
    const NO_ADDRESS: RequestError =
        RequestError::bad("the proxy does not tell the address of the client");
    const DIFFERENT: RequestError =
        RequestError::bad("Forwarded and X-Forwarded-For name different clients");
    let mut found = ForwardedClient { addr: None, is_encrypted: last_proto(headers) };
    for (name, parse) in [("x-forwarded-for", x_hop as HopParser), ("forwarded", parse_hop)] {
        if !headers.has(name) {
            continue;
        }
        let hop = last_untrusted(headers, name, parse, &is_trusted).ok_or(NO_ADDRESS)?;
        if found.addr.is_some() && found.addr != hop.addr {
            return Err(DIFFERENT);
        }
        found = ForwardedClient {
            addr: hop.addr,
            is_encrypted: hop.is_encrypted.or(found.is_encrypted),
        };
    }
    Ok(found)
}

/// Parses one element of a field.
type HopParser = fn(&str) -> ForwardedClient;

/// Returns the last hop of a field that is not a trusted proxy; none without an address.
fn last_untrusted(
    headers: &Headers,
    name: &str,
    parse: HopParser,
    is_trusted: &impl Fn(IpAddr) -> bool,
) -> Option<ForwardedClient> {
    let elements: Vec<_> = headers.list(name).collect();
    let mut found = None;
    // The client may have sent any number of elements; the proxies' are at the end.
    for element in elements.into_iter().rev().take(limits::LIST) {
        let hop = parse(element);
        found = Some(hop.clone());
        if hop.addr.is_none_or(|addr| !is_trusted(addr)) {
            break;
        }
    }
    found.filter(|hop| hop.addr.is_some())
}

/// Parses an address of `X-Forwarded-For`.
fn x_hop(element: &str) -> ForwardedClient {
    ForwardedClient { addr: parse_addr(element), is_encrypted: None }
}

/// Returns the protocol of `X-Forwarded-Proto`; the last one stands for all hops.
fn last_proto(headers: &Headers) -> Option<bool> {
    let proto = headers.list("x-forwarded-proto").last();
    proto.map(|proto| proto.eq_ignore_ascii_case("https"))
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

/// Parses an address with or without brackets and port (RFC 7239, section 6).
fn parse_addr(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let addr = bare.parse().ok().or_else(|| text.parse().ok().map(|addr: SocketAddr| addr.ip()));
    addr.map(|addr: IpAddr| addr.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client_of(fields: &[(&'static str, &str)]) -> Result<ForwardedClient, u16> {
        let mut headers = Headers::default();
        fields.iter().for_each(|(name, value)| headers.append(*name, (*value).to_owned()));
        client(&headers, |addr| addr.to_string().starts_with("10."))
            .map_err(|error| error.status.code())
    }

    fn address_of(fields: &[(&'static str, &str)]) -> Result<Option<String>, u16> {
        client_of(fields).map(|client| client.addr.map(|addr| addr.to_string()))
    }

    #[test]
    fn the_last_untrusted_address_is_the_client() {
        for (name, value, expected) in [
            ("Forwarded", "for=1.2.3.4", Ok(Some("1.2.3.4"))),
            ("Forwarded", "For=\"[2001:db8::1]:4711\";proto=https", Ok(Some("2001:db8::1"))),
            ("Forwarded", "for=9.9.9.9, for=1.2.3.4, for=10.0.0.1", Ok(Some("1.2.3.4"))),
            ("Forwarded", "for=10.0.0.1", Ok(Some("10.0.0.1"))),
            ("Forwarded", "for=\"9.9.9.9, for=1.2.3.4", Ok(Some("1.2.3.4"))),
            ("Forwarded", "for=9.9.9.9, for=unknown", Err(400)),
            ("Forwarded", "for=9.9.9.9, for=_hidden;by=10.0.0.2", Err(400)),
            ("Forwarded", "nonsense", Err(400)),
            ("Forwarded", "", Err(400)),
            ("X-Forwarded-For", "9.9.9.9, 1.2.3.4 , 10.0.0.1", Ok(Some("1.2.3.4"))),
            ("X-Forwarded-For", "::ffff:1.2.3.4", Ok(Some("1.2.3.4"))),
            ("X-Forwarded-For", "9.9.9.9, localhost", Err(400)),
            ("X-Forwarded-For", "", Err(400)),
            ("X-Other", "1.2.3.4", Ok(None)),
        ] {
            let expected = expected.map(|addr: Option<&str>| addr.map(str::to_owned));
            assert_eq!(address_of(&[(name, value)]), expected, "{name}: {value}");
        }
    }

    #[test]
    fn a_client_cannot_displace_the_address_that_the_proxy_appends() {
        let many = "127.0.0.1, ".repeat(limits::LIST * 3) + "1.2.3.4";
        let found = Ok(Some("1.2.3.4".to_owned()));
        assert_eq!(address_of(&[("X-Forwarded-For", &many)]), found);
        let many = "for=127.0.0.1, ".repeat(limits::LIST * 3) + "for=1.2.3.4";
        assert_eq!(address_of(&[("Forwarded", &many)]), found);
        // A proxy that knows one of the fields passes the other one on.
        let both = [("Forwarded", "for=127.0.0.1"), ("X-Forwarded-For", "1.2.3.4")];
        assert_eq!(address_of(&both), Err(400));
        let both = [("X-Forwarded-For", "127.0.0.1"), ("Forwarded", "for=1.2.3.4")];
        assert_eq!(address_of(&both), Err(400));
        let both = [("X-Forwarded-For", "9.9.9.9, 1.2.3.4"), ("Forwarded", "for=1.2.3.4")];
        assert_eq!(address_of(&both), found);
    }

    #[test]
    fn the_protocol_is_that_of_the_client() {
        let is_encrypted = |name, value| client_of(&[(name, value)]).unwrap().is_encrypted;
        let value = "for=1.2.3.4;proto=https, for=10.0.0.1;proto=http";
        assert_eq!(is_encrypted("Forwarded", value), Some(true));
        assert_eq!(is_encrypted("X-Forwarded-Proto", "HTTPS"), Some(true));
        assert_eq!(is_encrypted("X-Forwarded-Proto", "http"), Some(false));
        assert_eq!(client_of(&[]), Ok(ForwardedClient::default()));
        let fields = [("X-Forwarded-For", "1.2.3.4"), ("X-Forwarded-Proto", "https")];
        assert_eq!(client_of(&fields).unwrap().is_encrypted, Some(true));
    }
}
