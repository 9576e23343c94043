//! Trusted proxies: only what they add themselves names the client.

use std::net::SocketAddr;

use super::{HttpAnswer, HttpTestClient, start_http};

/// What a proxy appends for a client that is not on this host.
const FAR: &str = "X-Forwarded-For: 192.0.2.9";

fn metrics(addr: SocketAddr, fields: &[&str]) -> HttpAnswer {
    HttpTestClient::connect(addr).request("GET /-/metrics", fields, &[])
}

#[test]
fn a_client_cannot_displace_the_address_of_its_proxy() {
    let (_slave, addr) = start_http(&["--trusted-proxy", "127.0.0.1"], &[("f", b"content")]);
    // The metrics are for clients on this host alone.
    assert_eq!(metrics(addr, &[]).status, 200);
    assert_eq!(metrics(addr, &[FAR]).status, 403);
    let many = format!("X-Forwarded-For: {}192.0.2.9", "127.0.0.1, ".repeat(500));
    assert_eq!(metrics(addr, &[&many]).status, 403);
    let two = ["X-Forwarded-For: 127.0.0.1", FAR];
    assert_eq!(metrics(addr, &two).status, 403);
    let many = format!("Forwarded: {}for=192.0.2.9", "for=127.0.0.1, ".repeat(500));
    assert_eq!(metrics(addr, &[&many]).status, 403);
    // The proxy appends to one field; the client has sent the other one.
    for fields in [
        ["Forwarded: for=127.0.0.1", FAR],
        ["X-Forwarded-For: 127.0.0.1", "Forwarded: for=192.0.2.9"],
        ["Forwarded: for=unknown", "X: y"],
        ["X-Forwarded-For: nonsense", "X: y"],
    ] {
        let answer = metrics(addr, &fields);
        assert_eq!(answer.status, 400, "{fields:?}: {}", answer.text());
    }
    assert_eq!(metrics(addr, &["Forwarded: for=192.0.2.9", FAR]).status, 403);
    // Health checks come from the proxy itself.
    let health = HttpTestClient::connect(addr).get("/-/healthz");
    assert_eq!(health.status, 200);
}

#[test]
fn clients_of_an_unknown_proxy_are_not_on_this_host() {
    let (slave, addr) = start_http(&["--trusted-proxy", "192.0.2.0/24"], &[("f", b"content")]);
    for field in [FAR, "Forwarded: for=127.0.0.1", "X-Forwarded-For: 127.0.0.1", "Via: 1.1 x"] {
        assert_eq!(metrics(addr, &[field]).status, 403, "{field}");
        // Without accounts only clients on this host may write.
        let stored = HttpTestClient::connect(addr).request("PUT /g", &[field], b"x");
        assert_eq!(stored.status, 403, "{field}");
        let read = HttpTestClient::connect(addr).request("GET /f", &[field], &[]);
        assert_eq!(read.body, b"content", "{field}");
    }
    assert!(!slave.root.join("g").exists());
    assert_eq!(metrics(addr, &["X: y"]).status, 200);
}
