//! How this program presents itself to a peer.

use relais_auth::{ClusterKey, LinkError, LinkHandshake, LinkRole};
use relais_net::Connection;
use relais_proto::{SlaveId, WireError};

/// Returns program and version, as peers see them in logs.
pub(crate) fn agent() -> String {
    format!("ftpslave {}", env!("CARGO_PKG_VERSION"))
}

/// Proves the cluster key to the other side, and has it proved. The last message is only queued.
///
/// # Errors
/// The reason why there is no link.
pub(crate) fn prove_key(
    connection: &mut Connection,
    role: LinkRole,
    slave: SlaveId,
    key: &ClusterKey,
) -> Result<(), LinkError> {
    let mut handshake =
        LinkHandshake::new(role, slave, key, connection.binding()).map_err(WireError::from)?;
    let (hello, open) = (handshake.hello(agent()), handshake.open());
    connection.prove(&hello, &open, |kind, payload| handshake.on_frame(kind, payload))
}
