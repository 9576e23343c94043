//! Under which names a server may be addressed: the check against DNS rebinding.

use std::net::IpAddr;

use relais_http::{RequestError, RequestHead, Status};

/// The names of a server.
///
/// A page of another site can make a browser resolve that site's name to the address of this
/// server. Then the browser takes this server for that site, but it still sends the site's name.
#[derive(Debug, Clone, Default)]
pub struct HostRule {
    names: Vec<String>,
}

impl HostRule {
    /// Makes the rule of a server with these names, beside loopback names and addresses.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self { names: names.into_iter().map(|name| normalized(&name)).collect() }
    }

    /// Checks the host that a request addresses (RFC 9110, section 7.2).
    ///
    /// A request of HTTP/1.0 may have none: browsers always send it.
    ///
    /// # Errors
    /// Status 421 (RFC 9110, section 15.5.20).
    pub fn check(&self, head: &RequestHead) -> Result<(), RequestError> {
        const OTHER: &str = "this server is not known by that host name; see --http-host";
        match head.host() {
            Some(host) if !self.allows(host) => {
                Err(RequestError::new(Status::MISDIRECTED_REQUEST, OTHER))
            }
            _ => Ok(()),
        }
    }

    fn allows(&self, authority: &str) -> bool {
        let name = normalized(split_port(authority).0);
        is_address(&name)
            || name == "localhost"
            || name.ends_with(".localhost")
            || self.names.contains(&name)
    }
}

/// Splits an authority into host and port, if there is one.
pub(crate) fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') && is_single(host) => (host, Some(port)),
        _ => (authority, None),
    }
}

/// Whether a host is a name, an IPv4 address, or an IPv6 address in brackets.
fn is_single(host: &str) -> bool {
    !host.contains(':') || (host.starts_with('[') && host.ends_with(']'))
}

fn is_address(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    bare.unwrap_or(host).parse::<IpAddr>().is_ok()
}

/// Names are compared in lower case and without the dot of the root.
pub(crate) fn normalized(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_names_are_allowed() {
        let rule = HostRule::new(["Files.Example.".to_owned()]);
        for (host, allowed) in [
            ("localhost", true),
            ("LOCALHOST:8080", true),
            ("a.localhost", true),
            ("127.0.0.1:80", true),
            ("192.0.2.1", true),
            ("[::1]:80", true),
            ("[2001:db8::1]", true),
            ("files.example", true),
            ("FILES.example.:443", true),
            ("evil.example", false),
            ("files.example.evil", false),
            ("x.files.example", false),
            ("localhost.evil", false),
            ("127.0.0.1.evil", false),
            ("evil:localhost", false),
            ("a:b:80", false),
            ("[evil]", false),
            ("", false),
        ] {
            assert_eq!(rule.allows(host), allowed, "{host}");
        }
    }

    #[test]
    fn the_target_names_the_host_first() {
        let head = |text: &str| RequestHead::parse(text.as_bytes()).unwrap().unwrap().0;
        let rule = HostRule::default();
        assert!(rule.check(&head("GET / HTTP/1.0\r\n\r\n")).is_ok());
        assert!(rule.check(&head("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")).is_ok());
        let evil = "GET http://evil/ HTTP/1.1\r\nHost: localhost\r\n\r\n";
        assert_eq!(rule.check(&head(evil)).unwrap_err().status, Status::MISDIRECTED_REQUEST);
    }
}
