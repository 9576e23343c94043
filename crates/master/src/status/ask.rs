//! Asks a running master for its slaves, with proof of the cluster key on both sides.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use relais_cluster::KNOWN_MAX;
use relais_net::Connection;
use relais_proto::{LinkMessage, Mark, SlaveId, SlaveReport, SlaveState, WireError, limits};
use relais_state::{ClusterKey, LinkError, LinkHandshake, LinkRole, link_frame};
use thiserror::Error;

use crate::AGENT;

/// A master's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The latest change.
    pub mark: Mark,
    /// All slaves that the master knows, in the order of their turn.
    pub slaves: Vec<SlaveReport>,
}

impl Report {
    /// Whether a client would be sent anywhere.
    #[must_use]
    pub fn has_service(&self) -> bool {
        self.slaves.iter().any(|slave| slave.state == SlaveState::InService)
    }
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum StatusError {
    /// No connection.
    #[error("cannot reach the master at {master}: {cause}")]
    Unreachable {
        /// Where it was looked for.
        master: String,
        /// What the system said last.
        cause: io::Error,
    },
    /// The link was refused or broke.
    #[error("the master at {master} gave no report: {cause}")]
    Link {
        /// Where the master is.
        master: String,
        /// What went wrong.
        cause: LinkError,
    },
}

/// Asks the master at `master` (`HOST:PORT`).
///
/// # Errors
/// Why there is no answer.
pub fn ask(master: &str, key: &ClusterKey) -> Result<Report, StatusError> {
    let connection = connect(master).map_err(|cause| StatusError::Unreachable { master: master.to_owned(), cause })?;
    fetch(connection, key).map_err(|cause| StatusError::Link { master: master.to_owned(), cause })
}

fn connect(master: &str) -> io::Result<Connection> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for addr in master.to_socket_addrs()?.take(limits::ADDRESSES) {
        match Connection::connect(addr, limits::CONNECT_TIME) {
            Ok(connection) => return Ok(connection),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn fetch(mut connection: Connection, key: &ClusterKey) -> Result<Report, LinkError> {
    let id = SlaveId(relais_state::random().map_err(WireError::Io)?);
    let mut handshake = LinkHandshake::new(LinkRole::Operator, id, key).map_err(WireError::Io)?;
    connection.queue(&handshake.hello(AGENT));
    connection.queue_link(&handshake.open());
    connection.flush().map_err(WireError::Io)?;
    let proof = loop {
        let header = connection.read_header()?.ok_or(WireError::Truncated)?;
        if let Some(proof) = handshake.frame(header.kind, connection.read_payload(header)?)? {
            break proof;
        }
    };
    connection.queue_link(&proof);
    connection.queue_link(&LinkMessage::AskReport);
    connection.flush().map_err(WireError::Io)?;
    collect(&mut connection)
}

fn collect(connection: &mut Connection) -> Result<Report, LinkError> {
    let mut slaves = Vec::new();
    loop {
        let header = connection.read_header()?.ok_or(WireError::Truncated)?;
        match link_frame(header.kind, connection.read_payload(header)?)? {
            LinkMessage::SlaveReport(slave) if slaves.len() < KNOWN_MAX => slaves.push(slave),
            LinkMessage::SlaveReport(_) => {
                return Err(WireError::OverCap { what: "slaves", len: KNOWN_MAX as u64 + 1, cap: KNOWN_MAX as u64 }.into());
            }
            LinkMessage::ReportEnd { mark } => return Ok(Report { mark, slaves }),
            other => return Err(WireError::Unexpected(other.frame_type().number()).into()),
        }
    }
}

/// An address for people and scripts: the first that is known.
pub(super) fn shown_addr(slave: &SlaveReport) -> Option<SocketAddr> {
    slave.addrs.first().copied()
}
