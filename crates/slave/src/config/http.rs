//! The settings of HTTP.

use std::net::IpAddr;

use relais_auth::MetricsToken;

/// Where HTTP clients may send passwords without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HttpPasswords {
    /// On this host alone.
    #[default]
    Tls,
    /// Everywhere.
    Always,
}

impl HttpPasswords {
    /// Whether a password of this client is refused on a connection in the clear.
    #[must_use]
    pub fn refuses_clear(self, client: IpAddr) -> bool {
        self == Self::Tls && !client.to_canonical().is_loopback()
    }
}

/// How a slave serves HTTP.
#[derive(Debug, Clone, Default)]
pub struct HttpConfig {
    /// Host names by which clients may reach this slave, in lower case.
    pub hosts: Vec<String>,
    /// Where passwords may be sent in the clear.
    pub passwords: HttpPasswords,
    /// Whether there is a listener for HTTP over TLS.
    pub is_encrypted: bool,
    /// The token for the metrics; without it other hosts need an account to read them.
    pub metrics_token: Option<MetricsToken>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_of_other_hosts_need_tls_by_default() {
        let [near, mapped, far] =
            ["127.0.0.1", "::ffff:127.0.0.1", "192.0.2.9"].map(|addr| addr.parse().unwrap());
        let default = HttpPasswords::default();
        assert!(default.refuses_clear(far));
        assert!(!default.refuses_clear(near) && !default.refuses_clear(mapped));
        assert!(!HttpPasswords::Always.refuses_clear(far));
    }
}
