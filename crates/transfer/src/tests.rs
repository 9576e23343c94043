//! Sessions with fake servers, and contents, for the tests of all transfers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use relais_net::Connection;
use relais_proto::{Digest, Endpoint, Reply, Request};

use crate::error::{Fault, TransferError};
use crate::sessions::{Sessions, StreamSource};

/// Bytes that differ from place to place.
pub fn bytes(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64 ^ len as u64;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect()
}

pub fn digest_of(content: &[u8]) -> Digest {
    Digest(*blake3::hash(content).as_bytes())
}

pub fn encode(replies: &[Reply]) -> Vec<u8> {
    let mut out = Vec::new();
    for reply in replies {
        reply.encode(&mut out);
    }
    out
}

/// Sessions with servers, one after the other.
pub struct Servers {
    pub addrs: Vec<SocketAddr>,
    pub current: usize,
    pub open: Option<Connection>,
    pub failures: Vec<String>,
    /// Servers that were left without blame.
    pub left: Vec<String>,
    pub abandoned: u32,
    pub opened: u32,
    /// How often a holder was looked for.
    pub asked_for: u32,
    pub silence: Duration,
    pub retry: Duration,
    /// Bytes that the socket takes without waiting; 0 for the system's default.
    pub send_buffer: usize,
    /// Highest number of sessions of one transfer.
    pub streams: usize,
    /// Whether no session can be opened after the first one.
    pub is_closed_after_first: bool,
}

impl Servers {
    pub fn new(addrs: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self {
            addrs: addrs.into_iter().collect(),
            current: 0,
            open: None,
            failures: Vec::new(),
            left: Vec::new(),
            abandoned: 0,
            opened: 0,
            asked_for: 0,
            // That of the programs: on a loaded machine an answer can take seconds.
            silence: relais_proto::limits::SILENCE,
            retry: Duration::ZERO,
            send_buffer: 0,
            streams: 1,
            is_closed_after_first: false,
        }
    }

    fn go_to(&mut self, server: usize) {
        (self.open, self.current) = (None, server % self.addrs.len());
    }

    /// Whether the connection can carry another request.
    pub fn is_usable(&mut self) -> bool {
        let Some(connection) = &mut self.open else { return false };
        connection.queue(&Request::Ping);
        connection.flush().is_ok() && matches!(connection.read_reply(), Ok(Some(Reply::Pong)))
    }
}

impl Sessions for Servers {
    fn connection(&mut self) -> Result<&mut Connection, TransferError> {
        if self.open.is_none() {
            if self.is_closed_after_first && self.opened > 0 {
                return Err(TransferError::Unreachable("closed".to_owned()));
            }
            let mut connection =
                Connection::connect(self.addrs[self.current], Duration::from_secs(5))
                    .map_err(|e| TransferError::Unreachable(e.to_string()))?;
            connection.set_silence(self.silence);
            if self.send_buffer > 0 {
                rustix::net::sockopt::set_socket_send_buffer_size(
                    connection.stream().poll_fd(rustix::event::PollFlags::empty()),
                    self.send_buffer,
                )
                .unwrap();
            }
            self.opened += 1;
            self.open = Some(connection);
        }
        self.open.as_mut().ok_or_else(|| TransferError::Unreachable(String::new()))
    }

    fn failed(&mut self, why: &str) {
        self.failures.push(why.to_owned());
        self.go_to(self.current + 1);
    }

    fn abandon(&mut self) {
        self.abandoned += 1;
        self.open = None;
    }

    fn elsewhere(&mut self, holders: &[Endpoint]) -> bool {
        self.asked_for += 1;
        let found = holders
            .iter()
            .flat_map(|holder| &holder.addrs)
            .find_map(|addr| self.addrs.iter().position(|known| known == addr));
        let Some(found) = found.filter(|found| *found != self.current) else { return false };
        self.go_to(found);
        true
    }

    fn leave(&mut self, why: &str) -> bool {
        self.left.push(why.to_owned());
        self.go_to(self.current + 1);
        true
    }

    fn streams(&mut self) -> Option<Arc<dyn StreamSource>> {
        Some(Arc::new(FurtherSessions { addrs: self.addrs.clone(), limit: self.streams }))
    }

    fn retry(&self) -> Duration {
        self.retry
    }
}

/// Further sessions with the same servers.
struct FurtherSessions {
    addrs: Vec<SocketAddr>,
    limit: usize,
}

impl StreamSource for FurtherSessions {
    fn limit(&self) -> usize {
        self.limit
    }

    fn servers(&self) -> Vec<Vec<SocketAddr>> {
        self.addrs.iter().map(|addr| vec![*addr]).collect()
    }

    fn open(&self, server: usize) -> Result<Connection, Fault> {
        let mut connection = Connection::connect(self.addrs[server], Duration::from_secs(5))?;
        connection.set_silence(relais_proto::limits::SILENCE);
        Ok(connection)
    }
}
