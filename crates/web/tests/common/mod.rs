//! Both ends of a connection: the server's in this thread, the client as a plain socket.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking, in its helper functions too")]
#![allow(dead_code, reason = "each test uses a part")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use relais_http::RequestHead;
use relais_net::Stream;
use relais_web::{HttpConnection, NextRequest, WebError};

pub const SOON: Duration = Duration::from_secs(10);

/// A connection, and the client's end of it.
pub struct Pair {
    pub server: HttpConnection,
    pub client: TcpStream,
}

impl Pair {
    pub fn new() -> Self {
        Self::with(b"", |_| ())
    }

    /// Makes a connection with input that was read ahead, after `prepare` of the stream.
    pub fn with(input: &[u8], prepare: impl FnOnce(&mut Stream)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(SOON)).unwrap();
        let mut stream = Stream::tcp(listener.accept().unwrap().0).unwrap();
        prepare(&mut stream);
        Self { server: HttpConnection::new(Arc::new(stream), input.to_vec()).unwrap(), client }
    }

    pub fn send(&mut self, text: &str) {
        self.client.write_all(text.as_bytes()).unwrap();
    }

    /// Returns the next request.
    pub fn next(&mut self) -> Result<NextRequest, WebError> {
        self.server.read_head(Instant::now() + SOON)
    }

    pub fn head(&mut self) -> RequestHead {
        match self.next() {
            Ok(NextRequest::Head(head)) => *head,
            other => panic!("no head: {other:?}"),
        }
    }

    /// Returns the status of the answer to a request that is rejected.
    pub fn rejected(&mut self) -> u16 {
        match self.next() {
            Err(WebError::Request(error)) => error.status.code(),
            other => panic!("not rejected: {other:?}"),
        }
    }

    pub fn body(&mut self) -> Result<Vec<u8>, WebError> {
        self.server.body().read_all(1 << 20)
    }

    /// Returns what the client has received until now, after the server has sent it.
    pub fn received(&mut self) -> String {
        let mut bytes = vec![0; 1 << 20];
        let got = self.client.read(&mut bytes).unwrap();
        bytes.truncate(got);
        String::from_utf8(bytes).unwrap()
    }

    /// Drops the server's end, and returns all that the client receives.
    pub fn rest(self) -> std::io::Result<Vec<u8>> {
        let Self { server, mut client } = self;
        drop(server);
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).map(|_| bytes)
    }

    pub fn end_sending(&self) {
        self.client.shutdown(Shutdown::Write).unwrap();
    }
}

/// Splits an answer into its head and its body.
pub fn split(answer: &[u8]) -> (String, &[u8]) {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    (String::from_utf8(answer[..end].to_vec()).unwrap(), &answer[end..])
}

pub fn is_cut(error: &WebError) -> bool {
    matches!(error, WebError::Io(e) if e.kind() == std::io::ErrorKind::UnexpectedEof)
}
