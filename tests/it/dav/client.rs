//! A plain WebDAV client: one connection for each request.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer.
#[derive(Debug, Clone)]
pub struct DavReply {
    pub status: u16,
    /// The head without its first line.
    pub head: String,
    pub body: String,
}

impl DavReply {
    /// Returns a header field; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        let fields = self.head.lines().filter_map(|line| line.split_once(':'));
        let mut named = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
        named.next().map_or("", |(_, value)| value.trim())
    }

    /// Returns the text of the first element `D:NAME` in the body.
    #[track_caller]
    pub fn element(&self, name: &str) -> &str {
        let between = self
            .body
            .split_once(&format!("<D:{name}>"))
            .and_then(|(_, rest)| rest.split_once(&format!("</D:{name}>")).map(|(text, _)| text));
        between.unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }
}

/// What each request of a client has in common.
#[derive(Clone)]
pub struct DavClient {
    pub addr: SocketAddr,
}

impl DavClient {
    pub fn new(addr: SocketAddr) -> Self {
        Self { addr }
    }

    /// Sends a request and reads its answer.
    #[track_caller]
    pub fn request(&self, method: &str, path: &str, fields: &[&str], body: &str) -> DavReply {
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n",
            self.addr,
            body.len()
        );
        for field in fields {
            head.push_str(&format!("{field}\r\n"));
        }
        let mut stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(format!("{head}\r\n{body}").as_bytes()).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        parse(&bytes)
    }

    /// Sends a request whose answer must have this status.
    #[track_caller]
    pub fn expect(
        &self,
        status: u16,
        method: &str,
        path: &str,
        fields: &[&str],
        body: &str,
    ) -> DavReply {
        let reply = self.request(method, path, fields, body);
        assert_eq!(reply.status, status, "{method} {path} {fields:?} {body}: {reply:?}");
        reply
    }

    /// Locks a path exclusively; returns the token.
    #[track_caller]
    pub fn lock(&self, path: &str, depth: &str) -> String {
        let fields = [&format!("Depth: {depth}")[..], "Timeout: Second-600"];
        let reply = self.request("LOCK", path, &fields, &lock_body("exclusive"));
        assert!([200, 201].contains(&reply.status), "{reply:?}");
        let token = reply.header("lock-token").trim_matches(['<', '>']).to_owned();
        assert!(token.starts_with("urn:uuid:") && reply.body.contains(&token), "{reply:?}");
        token
    }

    /// Sets a property `urn:x` with a text.
    #[track_caller]
    pub fn set_property(&self, path: &str, name: &str, value: &str) {
        let body = format!(
            "<propertyupdate xmlns='DAV:'><set><prop><{name} xmlns='urn:x'>{value}</{name}></prop>\
             </set></propertyupdate>"
        );
        let reply = self.expect(207, "PROPPATCH", path, &[], &body);
        assert!(reply.body.contains("200 OK"), "{reply:?}");
    }

    /// Returns the text of a property `urn:x`; none if the path has none.
    #[track_caller]
    pub fn property(&self, path: &str, name: &str) -> Option<String> {
        let body =
            format!("<propfind xmlns='DAV:'><prop><{name} xmlns='urn:x'/></prop></propfind>");
        let reply = self.expect(207, "PROPFIND", path, &["Depth: 0"], &body);
        let begin = format!("<{name} xmlns=\"urn:x\">");
        let (_, rest) = reply.body.split_once(&begin)?;
        Some(rest.split_once("</").unwrap().0.to_owned())
    }
}

/// Returns the body of a LOCK.
pub fn lock_body(scope: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><D:lockinfo xmlns:D=\"DAV:\"><D:lockscope>\
         <D:{scope}/></D:lockscope><D:locktype><D:write/></D:locktype>\
         <D:owner><D:href>test</D:href></D:owner></D:lockinfo>"
    )
}

fn parse(bytes: &[u8]) -> DavReply {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text:?}"));
    let (line, head) = head.split_once("\r\n").unwrap_or((head, ""));
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap();
    let mut reply = DavReply { status, head: head.to_owned(), body: body.to_owned() };
    if reply.header("transfer-encoding") == "chunked" {
        reply.body = unchunked(body);
    }
    reply
}

fn unchunked(mut rest: &str) -> String {
    let mut body = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n").expect("the size of a chunk");
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return body;
        }
        body.push_str(&after[..size]);
        rest = after[size..].strip_prefix("\r\n").expect("the end of a chunk");
    }
}
