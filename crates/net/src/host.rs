//! Parses `HOST[:PORT]`, as in command lines and messages, and resolves it to addresses.

use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

/// The port of a master if none is given.
pub const DEFAULT_PORT: u16 = 2121;

/// A server's name or address, and its port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Name or address, IPv6 without brackets.
    pub name: String,
    /// Never 0.
    pub port: u16,
}

impl Host {
    /// Resolves the name to all its addresses, without duplicates, in the system's order.
    ///
    /// # Errors
    /// Errors of the look-up.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let mut found: Vec<SocketAddr> = Vec::new();
        for addr in (self.name.as_str(), self.port).to_socket_addrs()? {
            if !found.contains(&addr) {
                found.push(addr);
            }
        }
        Ok(found)
    }
}

impl FromStr for Host {
    type Err = String;

    /// Reads `HOST`, `HOST:PORT`, `[V6]`, `[V6]:PORT` or a bare IPv6 address.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (name, behind) = rest.split_once(']').ok_or("a bracket is not closed")?;
                name.split('%')
                    .next()
                    .unwrap_or(name)
                    .parse::<Ipv6Addr>()
                    .map_err(|_| format!("{name} is no IPv6 address"))?;
                match behind {
                    "" => (name, None),
                    _ => (
                        name,
                        Some(behind.strip_prefix(':').ok_or("only a port may follow the bracket")?),
                    ),
                }
            }
            None if text.parse::<Ipv6Addr>().is_ok() => (text, None),
            None => match text.split_once(':') {
                Some((name, port)) => (name, Some(port)),
                None => (text, None),
            },
        };
        if name.is_empty()
            || name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/')
        {
            return Err(format!("{text:?} is no host"));
        }
        let port = match port {
            None => DEFAULT_PORT,
            Some(port) => port
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| format!("{port:?} is no port: 1 to 65535"))?,
        };
        Ok(Self { name: name.to_owned(), port })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, port } = self;
        if name.contains(':') { write!(f, "[{name}]:{port}") } else { write!(f, "{name}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_prints_hosts() {
        for (text, shown) in [
            ("localhost", "localhost:2121"),
            ("localhost:2122", "localhost:2122"),
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("::1", "[::1]:2121"),
            ("[::1]", "[::1]:2121"),
            ("[::1]:65535", "[::1]:65535"),
            ("[fe80::1%lo]:7", "[fe80::1%lo]:7"),
        ] {
            assert_eq!(text.parse::<Host>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn rejects_text_that_is_no_host() {
        for bad in [
            "", ":2121", "a:", "a:0", "a:65536", "a:x", "a:1:2", "[::1", "[a]", "[::1]2", "a b",
            "a/b", "a\n",
        ] {
            assert!(bad.parse::<Host>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn resolves_addresses() {
        let host: Host = "127.0.0.1:9".parse().unwrap();
        assert_eq!(host.addresses().unwrap(), ["127.0.0.1:9".parse().unwrap()]);
    }
}
