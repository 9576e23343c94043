//! What a session and the transfers that it begins share.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use log::debug;
use parking_lot::Mutex;
use relais_proto::{ErrorCode, Refusal, TreePath};

use crate::active_uploads::Disconnect;
use crate::engine::Engine;
use crate::host::Host;
use crate::keep_alive::{HashingTurns, KeepAlive};
use crate::principal::{Credential, Principal};
use crate::protocol::Protocol;
use crate::staged_hasher::StagedHasher;
use crate::transfer_counter::{HostOwner, TransferCounter};
use crate::transfer_log::{LoggedCommand, OpenRecord, TransferRecord};

/// Engine, user and connection of one session.
#[derive(Clone)]
pub(crate) struct SessionContext {
    pub engine: Arc<Engine>,
    pub principal: Principal,
    pub protocol: Protocol,
    pub address: SocketAddr,
    pub disconnect: Disconnect,
    /// The login as it was renewed during a command; the next command begins with it.
    pub renewed: Arc<Mutex<Option<Principal>>>,
}

impl HostOwner for Engine {
    fn transfer_host(&self) -> &dyn Host {
        self.host()
    }
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

    /// Returns a hasher for staged content of this size.
    pub fn staged_hasher(&self, size: Option<u64>) -> StagedHasher {
        StagedHasher::new(self.settings.hashes_uploads, size)
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
        let log = self.settings.transfer_log.as_ref();
        // Transfers are counted without a log too.
        let is_transfer = matches!(command, LoggedCommand::Get | LoggedCommand::Put);
        if self.principal.is_peer || log.is_none() && !is_transfer {
            return TransferRecord::default();
        }
        let in_tree =
            |path: &TreePath| self.principal.resolve(path).unwrap_or_else(|_| path.clone());
        TransferRecord::new(OpenRecord {
            counter: is_transfer.then(|| {
                let is_upload = command == LoggedCommand::Put;
                TransferCounter::begin(self.engine.clone(), self.protocol, is_upload)
            }),
            log: log.cloned(),
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
    }

    /// Checks that the session may go on: the login is valid, and the slave keeps its sessions.
    pub fn check_open(&self) -> Result<(), Refusal> {
        self.check_login()?;
        if self.host().is_draining() && !self.principal.is_peer {
            return Err(Refusal::new(ErrorCode::Draining, "this slave is being drained"));
        }
        Ok(())
    }

    /// Checks that the login is valid. One that has ended is renewed, if it can be.
    pub fn check_login(&self) -> Result<(), Refusal> {
        let mut renewed = self.renewed.lock();
        let login = renewed.as_ref().unwrap_or(&self.principal);
        let Err(ended) = login.check(self.host()) else { return Ok(()) };
        let login = self.renew(login).unwrap_or(Err(ended))?;
        *renewed = Some(login);
        Ok(())
    }

    /// Renews a login that has ended or ends soon; returns it if it is a new one.
    ///
    /// A login that is still valid stays in force if it cannot be renewed now.
    pub fn renew_login(&self) -> Result<Option<Principal>, Refusal> {
        let renewed = self.renewed.lock().take();
        let login = renewed.as_ref().unwrap_or(&self.principal);
        if !login.is_old(self.host()) {
            return Ok(renewed);
        }
        let is_valid = login.check(self.host());
        match self.renew(login) {
            Some(Ok(login)) => Ok(Some(login)),
            Some(Err(refusal)) if refusal.code == ErrorCode::BadTicket || is_valid.is_err() => {
                Err(refusal)
            }
            Some(Err(refusal)) => {
                debug!("the login of {} is not renewed: {refusal}", login.name());
                Ok(renewed)
            }
            None => is_valid.map(|()| renewed),
        }
    }

    /// Renews a login; none if it is one of those that are not renewed.
    fn renew(&self, login: &Principal) -> Option<Result<Principal, Refusal>> {
        let renewer = self.login_renewer().filter(|_| login.credential != Credential::None)?;
        Some(renewer.renew(login, self.address.ip(), self.host()))
    }

    /// Checks that the user may change the tree, also after a renewal of the login.
    pub fn check_writable(&self) -> Result<(), Refusal> {
        let renewed = self.renewed.lock().as_ref().map(|login| login.rights.can_write());
        if renewed.unwrap_or(self.principal.rights.can_write()) {
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
