//! What a session and the transfers that it begins share.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use relais_proto::{ErrorCode, Refusal, TreePath};

use crate::active_uploads::Disconnect;
use crate::engine::Engine;
use crate::keep_alive::{HashingTurns, KeepAlive};
use crate::principal::Principal;
use crate::protocol::Protocol;
use crate::transfer_log::{LoggedCommand, OpenRecord, TransferRecord};

/// Engine, user and connection of one session.
#[derive(Clone)]
pub(crate) struct SessionContext {
    pub engine: Arc<Engine>,
    pub principal: Principal,
    pub protocol: Protocol,
    pub address: SocketAddr,
    pub disconnect: Disconnect,
}

impl Deref for SessionContext {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.engine
    }
}

impl SessionContext {
    /// Returns a result whose refusal has its path as the user sees it.
    pub fn visible<T>(&self, result: Result<T, Refusal>) -> Result<T, Refusal> {
        result.map_err(|refusal| refusal.below(&self.principal.root))
    }

    /// As [`Self::visible`], and a refusal ends the record of the transfer.
    pub fn recorded<T>(
        &self,
        record: &mut TransferRecord,
        result: Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        self.visible(result.inspect_err(|refusal| record.end(Err(refusal.code))))
    }

    /// Returns the turns of an answer at hashing.
    pub fn hashing<'a>(&'a self, keepalive: &'a mut dyn KeepAlive) -> HashingTurns<'a> {
        HashingTurns::new(&self.engine.hash_semaphore, &self.principal.owner, keepalive)
    }

    /// Begins the record of a command. What other slaves fetch is not recorded.
    pub fn record(
        &self,
        command: LoggedCommand,
        path: Option<&TreePath>,
        to: Option<&TreePath>,
    ) -> TransferRecord {
        let log = self.settings.transfer_log.as_ref().filter(|_| !self.principal.is_peer);
        let in_tree =
            |path: &TreePath| self.principal.resolve(path).unwrap_or_else(|_| path.clone());
        log.map_or_else(TransferRecord::default, |log| {
            TransferRecord::new(OpenRecord {
                log: log.clone(),
                slave: self.settings.slave_id,
                user: self.principal.user.clone(),
                protocol: self.protocol,
                address: self.address,
                command,
                path: path.map(in_tree),
                to: to.map(in_tree),
                bytes: 0,
                since: Instant::now(),
            })
        })
    }

    /// Checks that the session may go on: the login is valid, and the slave keeps its sessions.
    pub fn check_open(&self) -> Result<(), Refusal> {
        self.principal.check(self.host())?;
        if self.host().is_draining() && !self.principal.is_peer {
            return Err(Refusal::new(ErrorCode::Draining, "this slave is being drained"));
        }
        Ok(())
    }

    /// Checks that the user may change the tree.
    pub fn check_writable(&self) -> Result<(), Refusal> {
        if self.principal.writable {
            return Ok(());
        }
        let why = self
            .settings
            .read_only
            .filter(|_| self.principal.user.is_empty())
            .unwrap_or("this user may only read");
        Err(Refusal::new(ErrorCode::Denied, format!("changes are not allowed here: {why}")))
    }
}
