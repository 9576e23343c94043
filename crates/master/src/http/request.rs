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
