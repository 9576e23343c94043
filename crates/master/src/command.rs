//! The client side of operators' commands: sends an operation to a running master.

use std::time::Duration;

use relais_auth::{ClusterKey, LinkError, decode_link_frame};
use relais_net::tls::TlsMode;
use relais_proto::{LinkMessage, WireError};

pub use relais_proto::Operation;

use crate::status::{StatusError, talk};

/// Longest silence of the master, which may itself wait for slaves.
const SILENCE: Duration = Duration::from_secs(300);

/// Runs an operation on the master at `master` (`HOST:PORT`), and returns whether it succeeded.
///
/// `each` gets every line of the master's output.
///
/// # Errors
/// The master is unreachable, or the link failed before the result.
pub fn operate(
    master: &str,
    key: &ClusterKey,
    encrypt: TlsMode,
    operation: Operation,
    mut each: impl FnMut(&str),
) -> Result<bool, StatusError> {
    talk(master, key, encrypt, |connection| {
        connection.set_silence(SILENCE);
        connection.queue_link(&LinkMessage::Operate(operation));
        connection.flush().map_err(WireError::Io)?;
        loop {
            let header = connection.read_header()?.ok_or(WireError::Truncated)?;
            match decode_link_frame(header.kind, connection.read_payload(header)?)? {
                LinkMessage::Line(line) => each(&line),
                LinkMessage::LineEnd { ok } => return Ok(ok),
                other => {
                    return Err(LinkError::from(WireError::Unexpected(
                        other.frame_type().number(),
                    )));
                }
            }
        }
    })
}
