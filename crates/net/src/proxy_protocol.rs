//! The header of the PROXY protocol, version 2: a proxy's first bytes, with the client's address.
//!
//! Source: <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>, section 2.2. Version 1 is
//! text and is not accepted. The options (TLV) after the addresses are skipped.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

/// The first bytes of each header.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Length of the part with the signature, command, address family and length of the rest.
const FIXED_LEN: usize = 16;
/// Most bytes of a header. Proxies keep it small, so that it arrives in one packet.
const MAX_LEN: usize = 536;

/// The first byte of each header. No frame and no TLS handshake begins with it.
pub(crate) const FIRST_BYTE: u8 = SIGNATURE[0];

/// The reason why bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ProxyHeaderError {
    /// The bytes do not begin with the signature.
    #[error("the connection of a trusted proxy does not begin with a PROXY v2 header")]
    NoHeader,
    /// Version, command or address family are unknown.
    #[error("the PROXY header has a version, command or address family that is not supported")]
    Unsupported,
    /// The length is above the cap, or too small for the addresses.
    #[error("the PROXY header has a wrong length")]
    BadLength,
}

/// Returns the length that a header with these first bytes has, or must reach to tell it.
///
/// # Errors
/// The bytes cannot become a header.
pub(crate) fn wanted_len(input: &[u8]) -> Result<usize, ProxyHeaderError> {
    let given = input.len().min(SIGNATURE.len());
    if input[..given] != SIGNATURE[..given] {
        return Err(ProxyHeaderError::NoHeader);
    }
    let Some(fixed) = input.first_chunk::<FIXED_LEN>() else { return Ok(FIXED_LEN) };
    let len = FIXED_LEN + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if len > MAX_LEN { Err(ProxyHeaderError::BadLength) } else { Ok(len) }
}

/// Returns the client's address from a whole header; none if the proxy speaks for itself.
///
/// # Errors
/// The header is malformed.
pub fn parse_proxy_header(header: &[u8]) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    if wanted_len(header)? != header.len() {
        return Err(ProxyHeaderError::BadLength);
    }
    let (command, family, rest) = (header[12], header[13], &header[FIXED_LEN..]);
    match (command, family) {
        // LOCAL, for example a health check; and a client without an address (UNSPEC).
        (0x20, _) | (0x21, 0x00) => Ok(None),
        // TCP over IPv4 and IPv6: both addresses, then both ports.
        (0x21, 0x11) => {
            let [a, b, c, d] = *at(rest, 0)?;
            at::<12>(rest, 0)?;
            Ok(Some(SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), port(rest, 8)?)))
        }
        (0x21, 0x21) => {
            let addr = Ipv6Addr::from(*at::<16>(rest, 0)?);
            at::<36>(rest, 0)?;
            let addr = std::net::IpAddr::V6(addr).to_canonical();
            Ok(Some(SocketAddr::new(addr, port(rest, 32)?)))
        }
        _ => Err(ProxyHeaderError::Unsupported),
    }
}

fn at<const N: usize>(rest: &[u8], from: usize) -> Result<&[u8; N], ProxyHeaderError> {
    rest.get(from..).and_then(|rest| rest.first_chunk()).ok_or(ProxyHeaderError::BadLength)
}

fn port(rest: &[u8], from: usize) -> Result<u16, ProxyHeaderError> {
    at(rest, from).map(|bytes| u16::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header with this command, family, and bytes after the fixed part.
    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &len, rest].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 9, 192, 0, 2, 1, 0x13, 0x88, 0, 21];

    fn v6() -> Vec<u8> {
        let [client, server] =
            ["2001:db8::9", "2001:db8::1"].map(|addr| addr.parse::<Ipv6Addr>().unwrap().octets());
        [&client[..], &server, &[0x13, 0x88, 0, 21]].concat()
    }

    #[test]
    fn returns_the_address_of_the_client() {
        let got = |header: Vec<u8>| parse_proxy_header(&header).unwrap();
        let addr = |text: &str| Some(text.parse().unwrap());
        assert_eq!(got(header(0x21, 0x11, &V4)), addr("192.0.2.9:5000"));
        assert_eq!(got(header(0x21, 0x21, &v6())), addr("[2001:db8::9]:5000"));
        let option = [0x04, 0, 2, 0, 0];
        assert_eq!(got(header(0x21, 0x11, &[&V4[..], &option].concat())), addr("192.0.2.9:5000"));
        assert_eq!(got(header(0x20, 0x11, &V4)), None, "LOCAL");
        assert_eq!(got(header(0x20, 0, &[])), None);
        assert_eq!(got(header(0x21, 0, &[1, 2, 3])), None, "UNSPEC");
        let mut mapped = v6();
        mapped[..16].copy_from_slice(&Ipv4Addr::new(192, 0, 2, 9).to_ipv6_mapped().octets());
        assert_eq!(got(header(0x21, 0x21, &mapped)), addr("192.0.2.9:5000"));
    }

    #[test]
    fn rejects_malformed_headers() {
        use ProxyHeaderError::{BadLength, NoHeader, Unsupported};
        let whole = header(0x21, 0x11, &V4);
        for (bytes, error) in [
            (b"PROXY TCP4 192.0.2.9 192.0.2.1 5000 21\r\n".to_vec(), NoHeader),
            (whole[..whole.len() - 1].to_vec(), BadLength),
            ([&whole[..], b"USER"].concat(), BadLength),
            (header(0x21, 0x11, &V4[..11]), BadLength),
            (header(0x21, 0x21, &v6()[..35]), BadLength),
            (header(0x21, 0x21, &V4), BadLength),
            (header(0x21, 0x11, &[0; MAX_LEN]), BadLength),
            (header(0x11, 0x11, &V4), Unsupported),
            (header(0x22, 0x11, &V4), Unsupported),
            (header(0x21, 0x12, &V4), Unsupported),
            (header(0x21, 0x31, &[0; 216]), Unsupported),
            (Vec::new(), BadLength),
        ] {
            assert_eq!(parse_proxy_header(&bytes), Err(error), "{bytes:?}");
        }
    }

    #[test]
    fn a_wrong_byte_is_noticed_at_once() {
        let whole = header(0x21, 0x11, &V4);
        for len in 0..whole.len() {
            let wanted = if len < FIXED_LEN { FIXED_LEN } else { whole.len() };
            assert_eq!(wanted_len(&whole[..len]), Ok(wanted));
            if len < SIGNATURE.len() {
                let bytes = [&whole[..len], &[0xff]].concat();
                assert_eq!(wanted_len(&bytes), Err(ProxyHeaderError::NoHeader));
            }
        }
    }
}
