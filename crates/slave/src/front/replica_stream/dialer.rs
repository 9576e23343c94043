//! Opens sessions with other slaves for the streams of a worker, and limits their number.
//!
//! All threads of the worker share it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use relais_auth::ClusterKey;
use relais_engine::SecretSource;
use relais_net::Connection;
use relais_net::tls::Dialer;
use relais_proto::{ErrorCode, Refusal, SlaveId};
use relais_transfer::{Fault, TransferError};

use super::proved_values::ProvedValues;
use crate::front::native::login::LoginService;
use crate::peer_login::connect_as_peer;

/// Streams of one worker at the same time.
///
/// Each takes a session for slaves at its holder, which has 64 in each worker. Replication needs
/// the others.
const MAX_STREAMS: usize = 16;

/// Opens sessions with the slaves that hold content.
pub struct ReplicaDialer {
    dialer: Dialer,
    slave: SlaveId,
    key: Box<dyn Fn() -> Option<ClusterKey> + Send + Sync>,
    streams: Mutex<usize>,
    /// Piece values that streams have proved.
    pub(super) proved: ProvedValues,
}

impl ReplicaDialer {
    /// Makes the dialer of a worker.
    ///
    /// # Errors
    /// The TLS library cannot be set up.
    pub fn new(service: &Arc<LoginService>) -> io::Result<Self> {
        let context = &service.host.context;
        let dialer = Dialer::new(context.config.tls.encrypt)?;
        let service = service.clone();
        let key = move || service.authenticator.secrets().key();
        Ok(Self::with_key(dialer, context.own.slave_id, key))
    }

    /// Makes a dialer that proves the key that `key` returns.
    pub fn with_key(
        dialer: Dialer,
        slave: SlaveId,
        key: impl Fn() -> Option<ClusterKey> + Send + Sync + 'static,
    ) -> Self {
        let proved = ProvedValues::default();
        Self { dialer, slave, key: Box::new(key), streams: Mutex::new(0), proved }
    }

    /// Opens a session with the slave at `addr`.
    pub(super) fn connect(&self, addr: SocketAddr) -> Result<Connection, Fault> {
        let key = (self.key)().ok_or_else(|| {
            let why = "this slave does not have the cluster key yet";
            TransferError::Refused(Refusal::new(ErrorCode::NoContent, why))
        })?;
        connect_as_peer(&self.dialer, addr, self.slave, &key)
    }

    /// Takes the permit for one more stream; none if there are too many.
    pub(super) fn permit(self: &Arc<Self>) -> Option<StreamPermit> {
        let mut streams = self.streams.lock();
        (*streams < MAX_STREAMS).then(|| {
            *streams += 1;
            StreamPermit(self.clone())
        })
    }
}

/// The permit for one stream, returned when dropped.
pub(super) struct StreamPermit(pub(super) Arc<ReplicaDialer>);

impl Drop for StreamPermit {
    fn drop(&mut self) {
        *self.0.streams.lock() -= 1;
    }
}
