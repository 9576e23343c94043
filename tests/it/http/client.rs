//! A small HTTP client that sends what it is given, and reads one answer at a time.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::harness::SOON;

/// An answer.
#[derive(Debug, Clone)]
pub struct HttpAnswer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl HttpAnswer {
    /// Returns the first field with a name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection.
pub struct HttpTestClient {
    reader: BufReader<TcpStream>,
}

impl HttpTestClient {
    #[track_caller]
    pub fn connect(addr: SocketAddr) -> Self {
        Self::over(TcpStream::connect(addr).unwrap())
    }

    /// Takes over a connection.
    #[track_caller]
    pub fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { reader: BufReader::new(stream) }
    }

    /// Returns the connection.
    pub fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).unwrap();
    }

    /// Sends a request with a body, if there is one, and reads the last answer.
    #[track_caller]
    pub fn request(&mut self, line: &str, fields: &[&str], body: &[u8]) -> HttpAnswer {
        let mut head = format!("{line} HTTP/1.1\r\nHost: localhost\r\n");
        fields.iter().for_each(|field| head += &format!("{field}\r\n"));
        if !body.is_empty() {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        self.send(format!("{head}\r\n").as_bytes());
        // The server may answer before it has read everything.
        let _ = self.reader.get_mut().write_all(body);
        let is_head = line.starts_with("HEAD ");
        loop {
            let answer = self.answer(is_head);
            if answer.status >= 200 {
                return answer;
            }
        }
    }

    #[track_caller]
    pub fn get(&mut self, target: &str) -> HttpAnswer {
        self.request(&format!("GET {target}"), &[], &[])
    }

    /// Reads an answer, which may be an interim one.
    #[track_caller]
    pub fn answer(&mut self, is_head: bool) -> HttpAnswer {
        self.try_answer(is_head).expect("an answer")
    }

    /// Reads an answer; none if the connection ends before it or in it.
    pub fn try_answer(&mut self, is_head: bool) -> Option<HttpAnswer> {
        let line = self.line()?;
        let status = line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        let mut answer = HttpAnswer { status, headers: Vec::new(), body: Vec::new() };
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(": ")?;
            answer.headers.push((name.to_owned(), value.to_owned()));
        }
        if is_head || status < 200 || status == 204 || status == 304 {
            return Some(answer);
        }
        if let Some(length) = answer.header("content-length") {
            answer.body = vec![0; length.parse().ok()?];
            self.reader.read_exact(&mut answer.body).ok()?;
        } else if answer.header("transfer-encoding") == Some("chunked") {
            while self.chunk(&mut answer.body)? {}
        } else {
            self.reader.read_to_end(&mut answer.body).ok()?;
        }
        Some(answer)
    }

    fn chunk(&mut self, to: &mut Vec<u8>) -> Option<bool> {
        let size = usize::from_str_radix(&self.line()?, 16).ok()?;
        let begin = to.len();
        to.resize(begin + size, 0);
        self.reader.read_exact(&mut to[begin..]).ok()?;
        self.line()?.is_empty().then_some(size > 0)
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let got = self.reader.read_line(&mut line).ok()?;
        (got > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// Whether the server has closed the connection.
    pub fn is_closed(&mut self) -> bool {
        matches!(self.reader.fill_buf(), Ok([]) | Err(_))
    }
}
