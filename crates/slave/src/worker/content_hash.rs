//! Hashes of contents that the master asks for. There is no client.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{debug, warn};
use relais_engine::{Engine, KeepAlive, Principal, Protocol, Session};
use relais_proto::{TreePath, WaitReason};

/// Longest wait for the hashes. Their computation goes on, and the master asks again.
const WAIT_TIME: Duration = Duration::from_secs(20);
/// The address of the session, which has no connection.
const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Has the hashes of a file computed and recorded, in a thread of its own.
pub fn begin(engine: &Arc<Engine>, path: TreePath) {
    let engine = engine.clone();
    let work = move || {
        let principal = Principal::new("", ADDRESS.ip());
        let disconnect = Arc::new(|| {});
        let session =
            Session::new(engine.clone(), principal, Protocol::Native, ADDRESS, disconnect);
        let mut wait = LimitedWait { engine, until: Instant::now() + WAIT_TIME };
        if let Err(e) = session.record_sha256(&path, &mut wait) {
            debug!("no SHA-256 hashes of {path} are recorded for the master: {e}");
        }
    };
    if let Err(e) = std::thread::Builder::new().name("sha256-wait".to_owned()).spawn(work) {
        warn!("cannot start a thread to hash a file: {e}");
    }
}

/// Ends the wait after its time, and when the worker stops.
struct LimitedWait {
    engine: Arc<Engine>,
    until: Instant,
}

impl KeepAlive for LimitedWait {
    fn send_keepalive(&mut self, _: WaitReason) -> io::Result<()> {
        if self.engine.is_stopping() || Instant::now() >= self.until {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}
