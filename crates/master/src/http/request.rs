//! A request with the facts about its connection.

use std::net::SocketAddr;

use relais_cluster::{ConnectionAddrs, HttpRequester};
use relais_http::RequestHead;

/// The connection of a client.
#[derive(Debug, Clone, Copy)]
pub(super) struct HttpClient {
    pub peer: SocketAddr,
    pub local: SocketAddr,
    pub encrypted: bool,
}

impl HttpClient {
    /// The scheme of its URLs. A client is never sent from `https` to `http`.
    pub fn scheme(self) -> &'static str {
        if self.encrypted { "https" } else { "http" }
    }

    pub fn requester(self, writes: bool) -> HttpRequester {
        let addrs = ConnectionAddrs::new(self.peer.ip(), self.local.ip());
        HttpRequester { addrs, encrypted: self.encrypted, writes }
    }
}

/// A request.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub head: RequestHead,
    pub client: HttpClient,
}

impl Request {
    /// Whether the client is on this host, and the request has not come through a proxy.
    ///
    /// Any client could add the fields of a proxy, but they only take access away.
    pub fn is_local(&self) -> bool {
        const PROXY: [&str; 3] = ["forwarded", "x-forwarded-for", "via"];
        self.client.peer.ip().to_canonical().is_loopback()
            && !PROXY.iter().any(|field| self.head.headers.has(field))
    }

    /// Whether the request has a password (RFC 7617), which comes before a cookie.
    pub fn has_password(&self) -> bool {
        let scheme =
            self.head.headers.get("authorization").and_then(|field| field.split(' ').next());
        scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("basic"))
    }

    /// Returns scheme, host and port of the URL that the client has used, if that is certain.
    ///
    /// Some clients, wget2 among them, send a Host field without their port. Then the port is
    /// certain only if the listener has that of the scheme.
    pub fn origin(&self) -> Option<String> {
        let host = self.head.host()?;
        let has_port =
            host.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
        let default = if self.client.encrypted { 443 } else { 80 };
        (has_port || self.client.local.port() == default)
            .then(|| format!("{}://{host}", self.client.scheme()))
    }
}
