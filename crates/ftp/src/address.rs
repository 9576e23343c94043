//! Addresses of data connections: PORT, EPRT, PASV and EPSV.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};

use thiserror::Error;

/// The reason why an argument names no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AddressError {
    /// It has another form.
    #[error("this is no address")]
    Syntax,
    /// A network protocol other than IPv4 and IPv6.
    #[error("network protocol not supported, use (1,2)")]
    Protocol,
}

/// Reads the argument of PORT: `h1,h2,h3,h4,p1,p2` (RFC 959, section 4.1.2).
///
/// # Errors
/// [`AddressError::Syntax`], also for port 0.
pub fn parse_port(argument: &str) -> Result<SocketAddrV4, AddressError> {
    let numbers: Option<Vec<u8>> = argument.split(',').map(number).collect();
    match numbers.as_deref() {
        Some(&[a, b, c, d, high, low]) if (high, low) != (0, 0) => {
            let port = u16::from_be_bytes([high, low]);
            Ok(SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), port))
        }
        _ => Err(AddressError::Syntax),
    }
}

/// Reads the argument of EPRT: `|1|132.235.1.2|6275|` (RFC 2428, section 2).
///
/// Each printable character can be the delimiter.
///
/// # Errors
/// [`AddressError::Protocol`] for another network protocol, and else [`AddressError::Syntax`].
pub fn parse_eprt(argument: &str) -> Result<SocketAddr, AddressError> {
    let delimiter = argument.chars().next().filter(char::is_ascii_graphic);
    let delimiter = delimiter.ok_or(AddressError::Syntax)?;
    let parts: Vec<&str> = argument.split(delimiter).collect();
    let ["", protocol, host, port, ""] = parts.as_slice() else {
        return Err(AddressError::Syntax);
    };
    let address = match number::<u32>(protocol).ok_or(AddressError::Syntax)? {
        1 => host.parse::<Ipv4Addr>().ok().map(IpAddr::from),
        2 => host.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        _ => return Err(AddressError::Protocol),
    };
    let port = number::<u16>(port).filter(|port| *port != 0);
    address.zip(port).map(SocketAddr::from).ok_or(AddressError::Syntax)
}

/// Returns the text of reply 227 to PASV (RFC 959, section 4.2.1; RFC 1123, section 4.1.2.6).
#[must_use]
pub fn format_pasv(address: SocketAddrV4) -> String {
    let [a, b, c, d] = address.ip().octets();
    let [high, low] = address.port().to_be_bytes();
    format!("Entering Passive Mode ({a},{b},{c},{d},{high},{low}).")
}

/// Returns the text of reply 229 to EPSV (RFC 2428, section 3).
#[must_use]
pub fn format_epsv(port: u16) -> String {
    format!("Entering Extended Passive Mode (|||{port}|)")
}

/// Reads a decimal number without a sign.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_is_read() {
        assert_eq!(parse_port("132,235,1,2,24,131"), Ok("132.235.1.2:6275".parse().unwrap()));
        assert_eq!(parse_port("127,0,0,1,0,21"), Ok("127.0.0.1:21".parse().unwrap()));
        for bad in [
            "",
            "1,2,3,4,5",
            "1,2,3,4,5,6,7",
            "1,2,3,256,5,6",
            "1,2,3,4,0,0",
            "1,2,3,4,5,-6",
            "1,2,3,4,5,+6",
            "1,2,3,4,5,",
            " 1,2,3,4,5,6",
            "1.2.3.4,5,6",
        ] {
            assert_eq!(parse_port(bad), Err(AddressError::Syntax), "{bad}");
        }
    }

    #[test]
    fn eprt_is_read() {
        for (argument, address) in [
            // The examples of RFC 2428, section 2.
            ("|1|132.235.1.2|6275|", "132.235.1.2:6275"),
            ("|2|1080::8:800:200C:417A|5282|", "[1080::8:800:200c:417a]:5282"),
            ("!1!127.0.0.1!1024!", "127.0.0.1:1024"),
            ("|2|::ffff:127.0.0.1|1024|", "[::ffff:127.0.0.1]:1024"),
        ] {
            assert_eq!(parse_eprt(argument), Ok(address.parse().unwrap()), "{argument}");
        }
    }

    #[test]
    fn other_protocols_are_named() {
        assert_eq!(parse_eprt("|3|x|1|"), Err(AddressError::Protocol));
        for bad in [
            "",
            "|",
            "|1|132.235.1.2|6275",
            "|1|132.235.1.2|6275|x",
            "|1|1080::8|6275|",
            "|2|127.0.0.1|6275|",
            "|2|fe80::1%lo|6275|",
            "|1|127.0.0.1|0|",
            "|1|127.0.0.1|65536|",
            "|1|127.0.0.1|+21|",
            "||127.0.0.1|21|",
            "|x|127.0.0.1|21|",
            " 1 127.0.0.1 21 ",
            "1112131",
        ] {
            assert_eq!(parse_eprt(bad), Err(AddressError::Syntax), "{bad}");
        }
    }

    #[test]
    fn passive_replies_are_read_back() {
        let address: SocketAddrV4 = "192.0.2.7:50001".parse().unwrap();
        let text = format_pasv(address);
        assert_eq!(text, "Entering Passive Mode (192,0,2,7,195,81).");
        assert_eq!(parse_port(&text[text.find('(').unwrap() + 1..text.len() - 2]), Ok(address));
        assert_eq!(format_epsv(6446), "Entering Extended Passive Mode (|||6446|)");
    }
}
