//! Gets the status report of a running master, after a mutual proof of the cluster key.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use relais_auth::{ClusterKey, LinkError, LinkHandshake, LinkRole, decode_link_frame};
use relais_cluster::KNOWN_MAX;
use relais_net::Connection;
use relais_net::tls::{DialError, Dialer, TlsMode, TrustPolicy};
use relais_proto::{
    ErrorCode, LinkMessage, Lsn, SlaveId, SlaveReport, SlaveState, WireError, limits,
};
use thiserror::Error;

use crate::agent::AGENT;

/// The status report of a master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The latest change.
    pub lsn: Lsn,
    /// All known slaves, in round-robin order.
    pub slaves: Vec<SlaveReport>,
    /// The reason why no changes are taken; empty if they are.
    pub halted: String,
    /// Contents that no slave is known to hold.
    pub lost: u64,
    /// The number of removal records.
    pub removals: u64,
    /// The cap on removal records.
    pub removals_cap: u64,
}

impl Report {
    /// Whether any slave is in service.
    #[must_use]
    pub fn has_service(&self) -> bool {
        self.slaves.iter().any(|slave| slave.state == SlaveState::InService)
    }

    /// Whether each known slave is in service, or was taken out of service by an operator.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let missing = [SlaveState::Down, SlaveState::CatchingUp];
        self.slaves.iter().all(|slave| !missing.contains(&slave.state))
    }
}

/// The reason why the master did not answer.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the names of the fields say everything")]
pub enum StatusError {
    /// No connection was possible.
    #[error("cannot reach the master at {master}: {cause}")]
    Unreachable { master: String, cause: io::Error },
    /// The master answers without TLS.
    #[error(
        "the master at {master} answers, but does not encrypt connections (no TLS); \
         use --tls never if that is intended"
    )]
    NoTls { master: String },
    /// The link was refused or failed.
    #[error("the link to the master at {master} failed: {cause}")]
    Link { master: String, cause: LinkError },
}

impl StatusError {
    /// Returns whether the master does not have the key that was used.
    #[must_use]
    pub fn is_wrong_key(&self) -> bool {
        matches!(self, Self::Link { cause: LinkError::BadProof, .. })
    }

    fn needs_tls(&self) -> bool {
        matches!(
            self,
            Self::Link { cause: LinkError::Refused(refusal), .. }
                if refusal.code == ErrorCode::TlsNeeded
        )
    }
}

/// Gets the status report of the master at `master` (`HOST:PORT`).
///
/// # Errors
/// The master is unreachable, or the link failed.
pub fn ask(master: &str, key: &ClusterKey, encrypt: TlsMode) -> Result<Report, StatusError> {
    talk(master, key, encrypt, |connection| {
        connection.queue_link(&LinkMessage::AskReport);
        connection.flush().map_err(WireError::Io)?;
        collect(connection)
    })
}

/// Opens an operator's link to the master at `master`, and runs `say` on it.
pub(crate) fn talk<T>(
    master: &str,
    key: &ClusterKey,
    encrypt: TlsMode,
    say: impl FnOnce(&mut Connection) -> Result<T, LinkError>,
) -> Result<T, StatusError> {
    let mut connection = match open(master, key, encrypt) {
        // The master accepts only encrypted connections, even from its own machine.
        Err(error) if error.needs_tls() && encrypt == TlsMode::Remote => {
            open(master, key, TlsMode::Always)?
        }
        opened => opened?,
    };
    say(&mut connection).map_err(|cause| StatusError::Link { master: master.to_owned(), cause })
}

/// Connects and proves the key.
fn open(master: &str, key: &ClusterKey, encrypt: TlsMode) -> Result<Connection, StatusError> {
    let mut connection = connect(master, encrypt).map_err(|error| match error {
        DialError::NotEncrypted => StatusError::NoTls { master: master.to_owned() },
        error => StatusError::Unreachable { master: master.to_owned(), cause: error.into() },
    })?;
    match prove(&mut connection, key) {
        Ok(()) => Ok(connection),
        Err(cause) => Err(StatusError::Link { master: master.to_owned(), cause }),
    }
}

fn connect(master: &str, encrypt: TlsMode) -> Result<Connection, DialError> {
    let dialer = Dialer::new(encrypt)?;
    let none = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut last = DialError::Io(none);
    for addr in master.to_socket_addrs()?.take(limits::ADDRESSES) {
        // The proof of the key, tied to this channel, authenticates the master.
        match dialer.connect(addr, limits::CONNECT_TIME, &TrustPolicy::Anyone, master) {
            Ok(connection) => return Ok(connection),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Runs the link handshake, in which both sides prove the key.
fn prove(connection: &mut Connection, key: &ClusterKey) -> Result<(), LinkError> {
    let id = SlaveId(relais_os::random().map_err(WireError::Io)?);
    let mut handshake = LinkHandshake::new(LinkRole::Operator, id, key, connection.binding())
        .map_err(WireError::Io)?;
    connection.prove(&handshake.hello(AGENT), &handshake.open(), |kind, payload| {
        handshake.on_frame(kind, payload)
    })
}

fn collect(connection: &mut Connection) -> Result<Report, LinkError> {
    let mut slaves = Vec::new();
    loop {
        let header = connection.read_header()?.ok_or(WireError::Truncated)?;
        match decode_link_frame(header.kind, connection.read_payload(header)?)? {
            LinkMessage::SlaveReport(slave) if slaves.len() < KNOWN_MAX => slaves.push(slave),
            LinkMessage::SlaveReport(_) => {
                return Err(WireError::OverCap {
                    what: "slaves",
                    len: KNOWN_MAX as u64 + 1,
                    cap: KNOWN_MAX as u64,
                }
                .into());
            }
            LinkMessage::ReportEnd { lsn, halted, lost, removals, removals_cap } => {
                return Ok(Report { lsn, slaves, halted, lost, removals, removals_cap });
            }
            other => return Err(WireError::Unexpected(other.frame_type().number()).into()),
        }
    }
}

/// The address to show: the first known one.
pub(super) fn shown_addr(slave: &SlaveReport) -> Option<SocketAddr> {
    slave.addrs.first().copied()
}

/// The number of changes that the slave lacks.
///
/// None if it is in another epoch, or has not registered since the master's start.
pub(super) fn lag(slave: &SlaveReport, latest: Lsn) -> Option<u64> {
    let none_yet = slave.lsn == Lsn::default();
    let is_known = slave.silence_ms().is_some();
    (is_known && (none_yet || slave.lsn.epoch == latest.epoch))
        .then(|| latest.number.saturating_sub(slave.lsn.number))
}
