//! The client side of operators' commands: a link to a running master.
//!
//! Both sides prove the cluster key before the first request.

use std::io;
use std::time::Duration;

use relais_auth::{ClusterKey, LinkError, LinkHandshake, LinkRole, decode_link_frame};
use relais_cluster::KNOWN_MAX;
use relais_net::Connection;
use relais_net::tls::{DialError, Dialer, TlsMode};
use relais_proto::{ErrorCode, LinkMessage, Operation, SlaveId, WireError};
use thiserror::Error;

use crate::agent::AGENT;
use crate::status::Report;

/// Longest silence of the master during an operation, because it may itself wait for slaves.
const SILENCE: Duration = Duration::from_secs(300);

/// The reason why the master did not answer.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the names of the fields say everything")]
pub enum OperatorError {
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

/// An operator's link to a master.
pub struct OperatorClient {
    master: String,
    connection: Connection,
}

impl OperatorClient {
    /// Connects to the master at `master` (`HOST:PORT`), and proves the key.
    ///
    /// # Errors
    /// The master is unreachable, or refused the link.
    pub fn connect(
        master: &str,
        key: &ClusterKey,
        encrypt: TlsMode,
    ) -> Result<Self, OperatorError> {
        match Self::connect_once(master, key, encrypt) {
            // The master accepts only encrypted connections, even from its own machine.
            Err(OperatorError::Link { cause: LinkError::Refused(refusal), .. })
                if refusal.code == ErrorCode::TlsNeeded && encrypt == TlsMode::Remote =>
            {
                Self::connect_once(master, key, TlsMode::Always)
            }
            connected => connected,
        }
    }

    fn connect_once(
        master: &str,
        key: &ClusterKey,
        encrypt: TlsMode,
    ) -> Result<Self, OperatorError> {
        let master = master.to_owned();
        let dialed = Dialer::new(encrypt).map_err(DialError::Io);
        match dialed.and_then(|dialer| dialer.connect_for_proof(&master)) {
            Ok(mut connection) => match prove(&mut connection, key) {
                Ok(()) => Ok(Self { master, connection }),
                Err(cause) => Err(OperatorError::Link { master, cause }),
            },
            Err(DialError::NotEncrypted) => Err(OperatorError::NoTls { master }),
            Err(error) => Err(OperatorError::Unreachable { master, cause: error.into() }),
        }
    }

    /// Gets the status report of the master.
    ///
    /// # Errors
    /// The link failed.
    pub fn report(&mut self) -> Result<Report, OperatorError> {
        let mut slaves = Vec::new();
        self.ask(&LinkMessage::AskReport, |message| match message {
            LinkMessage::SlaveReport(slave) if slaves.len() < KNOWN_MAX => {
                slaves.push(slave);
                Ok(None)
            }
            LinkMessage::SlaveReport(_) => Err(WireError::OverCap {
                what: "slaves",
                len: KNOWN_MAX as u64 + 1,
                cap: KNOWN_MAX as u64,
            }),
            LinkMessage::ReportEnd { lsn, halted, lost, removals, removals_cap } => {
                let slaves = std::mem::take(&mut slaves);
                Ok(Some(Report { lsn, slaves, halted, lost, removals, removals_cap }))
            }
            other => Err(WireError::Unexpected(other.frame_type().number())),
        })
    }

    /// Runs an operation, and returns whether it succeeded. `each` gets every line of its output.
    ///
    /// # Errors
    /// The link failed before the result.
    pub fn operate(
        &mut self,
        operation: Operation,
        mut each: impl FnMut(&str),
    ) -> Result<bool, OperatorError> {
        self.connection.set_silence(SILENCE);
        self.ask(&LinkMessage::Operate(operation), |message| match message {
            LinkMessage::Line(line) => {
                each(&line);
                Ok(None)
            }
            LinkMessage::LineEnd { ok } => Ok(Some(ok)),
            other => Err(WireError::Unexpected(other.frame_type().number())),
        })
    }

    /// Sends a request, and gives each message of the answer to `take` until that has a result.
    fn ask<T>(
        &mut self,
        request: &LinkMessage,
        take: impl FnMut(LinkMessage) -> Result<Option<T>, WireError>,
    ) -> Result<T, OperatorError> {
        ask(&mut self.connection, request, take)
            .map_err(|cause| OperatorError::Link { master: self.master.clone(), cause })
    }
}

fn ask<T>(
    connection: &mut Connection,
    request: &LinkMessage,
    mut take: impl FnMut(LinkMessage) -> Result<Option<T>, WireError>,
) -> Result<T, LinkError> {
    connection.queue_link(request);
    connection.flush().map_err(WireError::Io)?;
    loop {
        let header = connection.read_header()?.ok_or(WireError::Truncated)?;
        let message = decode_link_frame(header.kind, connection.read_payload(header)?)?;
        if let Some(result) = take(message)? {
            return Ok(result);
        }
    }
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
