//! What `ftpmaster drain`, `diff` and the like do: ask a running master to do something, and show what it tells.

use std::time::Duration;

use relais_net::tls::TlsMode;
use relais_proto::{LinkMessage, WireError};
use relais_state::{ClusterKey, LinkError, decode_link_frame};

pub use relais_proto::Operation;

use crate::status::{StatusError, talk};

/// How long the master may be silent: it waits for slaves itself, and tells how that went.
const SILENCE: Duration = Duration::from_secs(300);

/// Has the master at `master` (`HOST:PORT`) do something. `each` gets every line that it tells. Says whether it was done and all is well.
///
/// # Errors
/// Why nothing is known of it.
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
