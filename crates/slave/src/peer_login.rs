//! A connection to another slave of the cluster, to take content from it.
//!
//! Both sides prove the cluster key on the connection, and the proof covers its channel. So no
//! certificate and no user is needed.

use std::net::SocketAddr;
use std::time::Duration;

use relais_auth::{ClusterKey, LinkError, LinkRole};
use relais_net::Connection;
use relais_net::tls::{Dialer, TrustPolicy};
use relais_proto::{Reply, SlaveId, WireError, limits};
use relais_transfer::{Fault, exchange};

use crate::agent::prove_key;

/// Time to connect to another slave.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Opens a session with the slave at `addr`, as the slave `own`.
///
/// # Errors
/// A [`Fault`] of the other slave.
pub fn connect_as_peer(
    dialer: &Dialer,
    addr: SocketAddr,
    own: SlaveId,
    key: &ClusterKey,
) -> Result<Connection, Fault> {
    let mut connection = dialer
        .connect(addr, CONNECT_TIMEOUT, &TrustPolicy::Anyone, "")
        .map_err(|e| Fault::Lost(e.to_string()))?;
    connection.set_silence(limits::SILENCE);
    prove_key(&mut connection, LinkRole::Peer, own, key).map_err(link_fault)?;
    connection.flush()?;
    match exchange::answer(&mut connection)? {
        Reply::Opened { .. } => Ok(connection),
        other => Err(Fault::unexpected(&other)),
    }
}

fn link_fault(error: LinkError) -> Fault {
    match error {
        LinkError::Refused(refusal) => Fault::refused(refusal),
        LinkError::Wire(WireError::Io(e)) => e.into(),
        LinkError::Wire(e) => e.into(),
        other => Fault::Violation(other.to_string()),
    }
}
