//! A plain FTP client that does exactly what a test tells it to.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::SockRef;

/// Deadline for each reply and each byte of data.
const PATIENCE: Duration = Duration::from_secs(60);

/// A reply: its code and its lines, without code and line ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FtpReply {
    pub code: u16,
    pub lines: Vec<String>,
}

impl FtpReply {
    /// Returns all lines as one text.
    pub fn text(&self) -> String {
        self.lines.join("\n")
    }
}

/// A client in the clear with one control connection.
pub struct FtpTestClient {
    control: BufReader<TcpStream>,
}

impl FtpTestClient {
    /// Connects and reads the greeting.
    #[track_caller]
    pub fn connect(addr: SocketAddr) -> Self {
        Self::over(TcpStream::connect(addr).unwrap())
    }

    /// Takes over a connection and reads the greeting.
    #[track_caller]
    pub fn over(control: TcpStream) -> Self {
        control.set_read_timeout(Some(PATIENCE)).unwrap();
        control.set_nodelay(true).unwrap();
        let mut client = Self { control: BufReader::new(control) };
        client.reply_of(220);
        client
    }

    /// Connects and logs in without an account, in binary type.
    #[track_caller]
    pub fn anonymous(addr: SocketAddr) -> Self {
        Self::logged_in(addr, "anonymous", "test@example.org")
    }

    /// Connects and logs in, in binary type.
    #[track_caller]
    pub fn logged_in(addr: SocketAddr, user: &str, password: &str) -> Self {
        let mut client = Self::connect(addr);
        let reply = client.command(&format!("USER {user}"));
        if reply.code == 331 {
            client.expect(&format!("PASS {password}"), 230);
        } else {
            assert_eq!(reply.code, 230, "{reply:?}");
        }
        client.expect("TYPE I", 200);
        client
    }

    /// Returns the control connection.
    pub fn control(&self) -> &TcpStream {
        self.control.get_ref()
    }

    /// Sends bytes on the control connection.
    #[track_caller]
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.control.get_mut().write_all(bytes).unwrap();
    }

    /// Sends a command without waiting for its reply.
    #[track_caller]
    pub fn send(&mut self, line: &str) {
        self.send_bytes(format!("{line}\r\n").as_bytes());
    }

    fn line(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        if self.control.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        assert!(line.ends_with(b"\r\n"), "{:?}", String::from_utf8_lossy(&line));
        line.truncate(line.len() - 2);
        Ok(Some(String::from_utf8(line).unwrap()))
    }

    /// Reads a reply; none if the server has closed or reset the connection.
    #[track_caller]
    pub fn try_reply(&mut self) -> Option<FtpReply> {
        let mut next = || match self.line() {
            Ok(line) => line,
            Err(e) if e.kind() == ErrorKind::ConnectionReset => None,
            Err(e) => panic!("no reply: {e}"),
        };
        let first = next()?;
        let code = first.get(..3).and_then(|code| code.parse().ok()).unwrap_or_else(|| {
            panic!("no code in {first:?}");
        });
        let mut lines = vec![first[4..].to_owned()];
        if first.as_bytes()[3] == b'-' {
            let last = format!("{code} ");
            loop {
                let line = next().expect("the rest of a reply");
                if let Some(text) = line.strip_prefix(&last) {
                    lines.push(text.to_owned());
                    break;
                }
                lines.push(line);
            }
        }
        Some(FtpReply { code, lines })
    }

    /// Reads a reply.
    #[track_caller]
    pub fn reply(&mut self) -> FtpReply {
        self.try_reply().expect("a reply")
    }

    /// Reads a reply and requires its code.
    #[track_caller]
    pub fn reply_of(&mut self, code: u16) -> FtpReply {
        let reply = self.reply();
        assert_eq!(reply.code, code, "{reply:?}");
        reply
    }

    /// Sends a command and returns its reply.
    #[track_caller]
    pub fn command(&mut self, line: &str) -> FtpReply {
        self.send(line);
        self.reply()
    }

    /// Sends a command and requires the code of its reply.
    #[track_caller]
    pub fn expect(&mut self, line: &str, code: u16) -> FtpReply {
        let reply = self.command(line);
        assert_eq!(reply.code, code, "{line}: {reply:?}");
        reply
    }

    /// Returns the port that EPSV names.
    #[track_caller]
    pub fn passive_port(&mut self) -> u16 {
        let text = self.expect("EPSV", 229).text();
        let inside = text.split_once("(|||").and_then(|(_, rest)| rest.split_once("|)"));
        inside.unwrap_or_else(|| panic!("{text:?}")).0.parse().unwrap()
    }

    /// Opens a passive data connection.
    #[track_caller]
    pub fn passive(&mut self) -> TcpStream {
        let mut addr = self.control().peer_addr().unwrap();
        addr.set_port(self.passive_port());
        with_patience(TcpStream::connect(addr).unwrap())
    }

    /// Opens a passive data connection and begins a transfer; it must begin with 150.
    #[track_caller]
    pub fn begin(&mut self, line: &str) -> TcpStream {
        let data = self.passive();
        self.expect(line, 150);
        data
    }

    /// Runs a command that sends data, and returns the data and the last reply.
    #[track_caller]
    pub fn download(&mut self, line: &str) -> (Vec<u8>, FtpReply) {
        let mut data = self.begin(line);
        let mut bytes = Vec::new();
        data.read_to_end(&mut bytes).unwrap();
        (bytes, self.reply())
    }

    /// Runs a command that sends data and must succeed; returns the data.
    #[track_caller]
    pub fn get(&mut self, line: &str) -> Vec<u8> {
        let (bytes, reply) = self.download(line);
        assert_eq!(reply.code, 226, "{line}: {reply:?}");
        bytes
    }

    /// Runs a command that receives data; returns its last reply.
    #[track_caller]
    pub fn upload(&mut self, line: &str, bytes: &[u8]) -> FtpReply {
        let mut data = self.begin(line);
        data.write_all(bytes).unwrap();
        drop(data);
        self.reply()
    }

    /// Runs a command that receives data and must succeed.
    #[track_caller]
    pub fn put(&mut self, line: &str, bytes: &[u8]) {
        let reply = self.upload(line, bytes);
        assert_eq!(reply.code, 226, "{line}: {reply:?}");
    }

    /// Listens for an active data connection and announces it with EPRT.
    #[track_caller]
    pub fn active(&mut self) -> TcpListener {
        let local = self.control().local_addr().unwrap();
        let listener = TcpListener::bind((local.ip(), 0)).unwrap();
        let (family, port) =
            (if local.is_ipv4() { 1 } else { 2 }, listener.local_addr().unwrap().port());
        self.expect(&format!("EPRT |{family}|{}|{port}|", local.ip()), 200);
        listener
    }

    /// Closes the control connection, as a killed client does.
    pub fn kill(self) {
        // The socket may be closed already.
        let _ = self.control().shutdown(Shutdown::Both);
    }

    /// Resets the control connection.
    pub fn reset(self) {
        reset(self.control.into_inner());
    }
}

/// Closes a connection by a reset.
pub fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Sets the deadlines of a data connection.
pub fn with_patience(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}
