//! The settings of HTTP: listeners, names, where passwords are accepted, the token of the metrics.

use std::net::{IpAddr, TcpListener};

/// A bound listener for HTTP clients.
#[derive(Debug)]
pub struct HttpListener {
    /// The socket.
    pub socket: TcpListener,
    /// Whether its connections are encrypted.
    pub encrypted: bool,
}

/// Where HTTP clients may send passwords without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClearPasswords {
    /// From this host alone.
    #[default]
    Local,
    /// From everywhere.
    Always,
}

impl ClearPasswords {
    /// Whether a client may send its password in the clear.
    pub(crate) fn allows(self, client: IpAddr) -> bool {
        self == Self::Always || client.to_canonical().is_loopback()
    }
}

/// How a master serves HTTP.
#[derive(Debug, Clone, Default)]
pub struct HttpConfig {
    /// Host names by which clients may reach the master, beside addresses and `localhost`.
    pub hosts: Vec<String>,
    /// Where passwords may be sent in the clear.
    pub clear_passwords: ClearPasswords,
    /// The token for the metrics; without it only clients on this host get them.
    pub metrics_token: Option<MetricsToken>,
}

/// The token that lets a client on another host read the metrics.
#[derive(Clone)]
pub struct MetricsToken(blake3::Hash);

impl MetricsToken {
    /// Makes the value for a token; none if it is empty.
    #[must_use]
    pub fn new(token: &str) -> Option<Self> {
        let token = token.trim();
        (!token.is_empty()).then(|| Self(blake3::hash(token.as_bytes())))
    }

    /// Whether a field `Authorization` has the token (RFC 6750, section 2.1).
    pub(crate) fn is_in(&self, field: &str) -> bool {
        let token =
            field.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        // The comparison of hashes takes constant time.
        token.is_some_and(|(_, token)| blake3::hash(token.trim().as_bytes()) == self.0)
    }
}

impl std::fmt::Debug for MetricsToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MetricsToken(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_is_accepted() {
        let token = MetricsToken::new("secret\n").unwrap();
        assert!(token.is_in("Bearer secret") && token.is_in("bearer  secret"));
        for field in ["", "secret", "Bearer", "Bearer secre", "Bearer secrets", "Basic secret"] {
            assert!(!token.is_in(field), "{field}");
        }
        assert!(MetricsToken::new(" \n").is_none());
    }
}
