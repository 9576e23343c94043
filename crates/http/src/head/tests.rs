//! Request heads as clients and attackers send them.

use super::*;

fn parse(text: &str) -> Result<Option<(RequestHead, usize)>, RequestError> {
    RequestHead::parse(text.as_bytes())
}

fn status(text: &str) -> u16 {
    match parse(text) {
        Ok(Some(_)) => 200,
        Ok(None) => 0,
        Err(error) => error.status.code(),
    }
}

#[test]
fn takes_a_head_and_leaves_the_rest() {
    let text = "GET /a%20b?tar&x=1 HTTP/1.1\r\nHost: a:1\r\nAccept:  */* \r\n\r\nGET /";
    let (head, len) = parse(text).unwrap().unwrap();
    assert_eq!(&text[len..], "GET /");
    assert_eq!((&head.method, head.version), (&Method::Get, Version::Http11));
    assert_eq!(head.target.path, "/a%20b");
    assert_eq!(head.target.query.as_deref(), Some("tar&x=1"));
    assert_eq!((head.host(), head.headers.get("accept")), (Some("a:1"), Some("*/*")));
    for len in 0..len {
        assert_eq!(RequestHead::parse(&text.as_bytes()[..len]), Ok(None), "{len}");
    }
}

#[test]
fn skips_one_empty_line() {
    let (_, len) = parse("\r\nGET / HTTP/1.0\r\n\r\n").unwrap().unwrap();
    assert_eq!(len, 20);
    assert_eq!((status("\r"), status("\r\n"), status("\r\n\r")), (0, 0, 400));
    assert_eq!(status("\r\n\r\nGET / HTTP/1.0\r\n\r\n"), 400);
}

#[test]
fn rejects_what_intermediaries_read_differently() {
    for (text, expected) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("GET / HTTP/1.0\r\n\r\n", 200),
        ("BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n\tb\r\n\r\n", 400),
        ("GET / HTTP/1.1\nHost: a\n\n\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX(: b\r\n\r\n", 400),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
        ("GET /é HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /\r\nHost: a\r\n\r\n", 400),
        ("GET / http/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
        ("GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("\u{16}\u{3}\u{1}", 400),
        ("\n", 400),
        ("", 0),
        ("G", 0),
    ] {
        assert_eq!(status(text), expected, "{text:?}");
    }
}

#[test]
fn long_heads_have_their_own_status() {
    let target = |len: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(len - 1));
    assert_eq!(status(&target(limits::TARGET)), 200);
    assert_eq!(status(&target(limits::TARGET + 1)), 414);
    assert_eq!(status(&format!("GET /{}", "x".repeat(limits::TARGET))), 414);
    assert_eq!(status(&"G".repeat(limits::TARGET + 1)), 414);
    let field = |len: usize| {
        let rest = len - "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n".len();
        format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(rest))
    };
    assert_eq!(status(&field(limits::HEAD)), 200);
    assert_eq!(status(&field(limits::HEAD + 1)), 431);
    assert_eq!(status(&field(limits::HEAD + 9)[..=limits::HEAD]), 431);
    let fields = |n: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(n));
    assert_eq!(status(&fields(limits::HEADERS - 1)), 200);
    assert_eq!(status(&fields(limits::HEADERS)), 431);
}

#[test]
fn the_host_of_the_target_comes_first() {
    let (head, _) = parse("GET http://b:2/x HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().unwrap();
    assert_eq!((head.host(), head.target.path.as_str()), (Some("b:2"), "/x"));
    let (head, _) = parse("GET / HTTP/1.0\r\n\r\n").unwrap().unwrap();
    assert_eq!(head.host(), None);
}

#[test]
fn connections_are_kept_by_version_and_option() {
    for (version, connection, kept) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: upgrade, Close\r\n", false),
        ("1.1", "Connection: TE\r\nConnection: close\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ] {
        let text = format!("GET / HTTP/{version}\r\nHost: a\r\n{connection}\r\n");
        let (head, _) = parse(&text).unwrap().unwrap();
        assert_eq!(head.keeps_alive(), kept, "{text}");
    }
}

#[test]
fn only_one_expectation_is_known() {
    for (version, expect, expected) in [
        ("1.1", "100-Continue", Ok(true)),
        ("1.0", "100-continue", Ok(false)),
        ("1.1", "", Ok(false)),
        ("1.1", "200-ok", Err(417)),
        ("1.1", "100-continue, x=y", Err(417)),
    ] {
        let text = format!("PUT /a HTTP/{version}\r\nHost: a\r\nExpect: {expect}\r\n\r\n");
        let (head, _) = parse(&text).unwrap().unwrap();
        let expects = head.expects_continue().map_err(|error| error.status.code());
        assert_eq!(expects, expected, "{text}");
    }
}

#[test]
fn values_that_are_not_utf8_are_latin1() {
    let text = b"GET / HTTP/1.0\r\nUser-Agent: \xe9\r\nX: \xc3\xa9\r\n\r\n";
    let (head, _) = RequestHead::parse(text).unwrap().unwrap();
    assert_eq!(head.headers.get("user-agent"), Some("é"));
    assert_eq!(head.headers.get("x"), Some("é"));
}
