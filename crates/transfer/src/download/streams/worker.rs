//! A further stream: a thread with a session of its own, which ends at the first failure.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::Scope;
use std::time::{Duration, Instant};

use log::debug;
use relais_net::Connection;
use relais_proto::TreePath;

use super::claims::StreamId;
use super::requests::StreamRequests;
use super::set::NextClaim;
use crate::download::hashing::Hashing;
use crate::download::state::DownloadState;
use crate::download::{intake, requests};
use crate::error::{Fault, TransferError};
use crate::sessions::StreamSource;

/// Pause before a server is used again whose connection was lost.
const AFTER_LOSS: Duration = Duration::from_secs(10);
/// Pause before a server is used again that has refused.
const AFTER_REFUSAL: Duration = Duration::from_secs(60);
/// Interval of checks for the end of the download while a session is opened.
const END_CHECK: Duration = Duration::from_millis(20);

/// What a further stream works on.
pub struct StreamWorker<'scope, 'env> {
    pub scope: &'scope Scope<'scope, 'env>,
    pub state: &'env DownloadState<'env>,
    pub path: &'env TreePath,
    pub source: Arc<dyn StreamSource>,
    pub stream: StreamId,
    /// Index of the server.
    pub server: usize,
}

impl<'env> StreamWorker<'_, 'env> {
    /// Fetches claims until nothing is left or something fails.
    pub fn run(self) {
        // Without a result, a server is not used again.
        let mut end = WorkerEnd { state: self.state, stream: self.stream, usable_from: None };
        let now = Instant::now();
        end.usable_from = match self.serve() {
            Ok(()) => Some(now),
            Err(fault) => {
                debug!("{}: stream {} ends: {fault}", self.path, self.stream.0);
                pause_after(&fault).map(|pause| Instant::now() + pause)
            }
        };
    }

    /// Serves one connection after the other.
    fn serve(&self) -> Result<(), Fault> {
        while let Some(mut connection) = self.open()? {
            self.state.streams.connected(self.stream, connection.stream());
            if self.serve_connection(&mut connection)? {
                break;
            }
        }
        Ok(())
    }

    /// Opens a session; `None` if the stream has to end before.
    ///
    /// A thread of its own connects, so that the end of the download does not wait for it.
    fn open(&self) -> Result<Option<Connection>, Fault> {
        let (opened, result) = channel();
        let (source, server) = (Arc::clone(&self.source), self.server);
        std::thread::Builder::new()
            .name("open-stream".to_owned())
            .spawn(move || {
                // Nothing receives it after the end of the download.
                let _ = opened.send(source.open(server));
            })
            .map_err(TransferError::local("starting a thread"))?;
        loop {
            match result.recv_timeout(END_CHECK) {
                Ok(opened) => return opened.map(Some),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Fault::Lost("opening a session failed".to_owned()));
                }
                Err(RecvTimeoutError::Timeout) => {
                    if self.state.streams.lock().has_ended(self.stream) {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Fetches claims over one connection; returns false if it was lost to a faster stream.
    fn serve_connection(&self, server: &mut Connection) -> Result<bool, Fault> {
        let mut requests = StreamRequests::new(self.state, self.path, self.stream);
        let mut moved = 0;
        while let NextClaim::Bytes(get) = requests.next() {
            let header = requests.ask(server, &get)?;
            let Some(known) = self.state.content() else { return Ok(true) };
            let expected = known.digest;
            requests::learn(Some(known), &header)?;
            self.state.streams.lock().set_receiving(self.stream);
            let mut hashing = Hashing::inline(self.scope, self.state, header.size);
            let digest = intake::take_in(
                server,
                &header,
                self.state,
                &mut hashing,
                &mut requests,
                &mut moved,
            )?;
            match digest {
                None => {
                    requests.drop_all();
                    return Ok(false);
                }
                Some(digest) if Some(digest) == expected => {}
                Some(_) => return Err(Fault::bad_value("digest at the end", 0)),
            }
        }
        Ok(true)
    }
}

/// Removes a stream when its thread ends, also by a panic: the download waits for that.
struct WorkerEnd<'env> {
    state: &'env DownloadState<'env>,
    stream: StreamId,
    /// When the server may be used again; `None` for never.
    usable_from: Option<Instant>,
}

impl Drop for WorkerEnd<'_> {
    fn drop(&mut self) {
        self.state.streams.remove_worker(self.stream, self.usable_from);
    }
}

/// Returns the pause before a server is used again; `None` for never.
fn pause_after(fault: &Fault) -> Option<Duration> {
    match fault {
        Fault::Lost(_) => Some(AFTER_LOSS),
        Fault::Refused(_) | Fault::Elsewhere(_) | Fault::Fatal(_) => Some(AFTER_REFUSAL),
        Fault::Violation(_) => None,
    }
}
