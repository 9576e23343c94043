//! Chooses the slave that a stream reads from, and the next one after a failure.
//!
//! The failover policy decides when the next one is needed. Each search takes slaves and addresses
//! from the catalogue, so it follows slaves that start, move and get the content.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{debug, warn};
use relais_engine::{KeepAlive, RemoteContent};
use relais_net::Connection;
use relais_proto::{Endpoint, ErrorCode, Lsn, PeerSlave, Refusal, Request, SlaveId, TreePath};
use relais_transfer::{Failover, Sessions, TransferError};

use super::client_watch::ClientWatch;
use super::dialer::ReplicaDialer;

/// What a stream has to know while it runs: where its content is, and whether it still counts.
pub trait HolderLookup {
    /// Returns the slaves that may have the content; those that are known to have it first.
    fn holders(&self) -> Result<Vec<PeerSlave>, Refusal>;
    /// Whether the tree still has this content at its path.
    fn is_current(&self) -> Result<bool, Refusal>;
    /// Returns the file if the content has come to this slave.
    fn open_here(&self, keepalive: &mut dyn KeepAlive) -> Result<Option<File>, Refusal>;
}

impl HolderLookup for RemoteContent {
    fn holders(&self) -> Result<Vec<PeerSlave>, Refusal> {
        self.holders()
    }

    fn is_current(&self) -> Result<bool, Refusal> {
        self.is_current()
    }

    fn open_here(&self, keepalive: &mut dyn KeepAlive) -> Result<Option<File>, Refusal> {
        self.open_here(keepalive)
    }
}

/// The slaves of one stream: the connected one, and what is known about the others.
pub struct Holders {
    dialer: Arc<ReplicaDialer>,
    /// A change that a slave must have before it is asked.
    applied: Lsn,
    /// How long a client waits while no slave can serve the content.
    retry: Duration,
    open: Option<(SlaveId, Connection)>,
    /// When each slave was last left, as a count.
    left: HashMap<SlaveId, u64>,
    /// Slaves whose copy is damaged.
    damaged: HashSet<SlaveId>,
}

impl Holders {
    pub fn new(dialer: Arc<ReplicaDialer>, applied: Lsn, retry: Duration) -> Self {
        let (left, damaged) = (HashMap::new(), HashSet::new());
        Self { dialer, applied, retry, open: None, left, damaged }
    }

    /// Never reads from the connected slave again, because its copy is damaged.
    pub fn exclude(&mut self, path: &TreePath, why: &str) {
        if let Some((slave, _)) = &self.open {
            warn!("{path}: slave {slave} cannot be used for a stream: {why}");
            self.damaged.insert(*slave);
        }
    }

    /// Makes a slave the last one to be tried.
    fn leave(&mut self, slave: SlaveId) {
        let turn = self.left.values().max().map_or(1, |last| last + 1);
        self.left.insert(slave, turn);
    }

    fn close(&mut self) {
        if let Some((slave, _)) = self.open.take() {
            self.leave(slave);
        }
    }
}

/// The slaves of one stream, while a client waits for one of them.
pub struct HolderSearch<'a, 'client> {
    pub holders: &'a mut Holders,
    pub lookup: &'a dyn HolderLookup,
    pub watch: &'a ClientWatch<'client>,
}

impl HolderSearch<'_, '_> {
    /// Returns the slaves to try, in order: those not left yet, then the one left first.
    fn candidates(&self) -> Result<Vec<PeerSlave>, TransferError> {
        let mut found = self.lookup.holders().map_err(TransferError::Refused)?;
        found.retain(|peer| !self.holders.damaged.contains(&peer.slave));
        if found.is_empty() && !self.holders.damaged.is_empty() {
            let why = "the copy of each slave that has the content is damaged";
            return Err(TransferError::Refused(Refusal::new(ErrorCode::Damaged, why)));
        }
        found.sort_by_key(|peer| self.holders.left.get(&peer.slave).copied());
        Ok(found)
    }

    /// Connects to the first slave that can be reached.
    fn dial(&mut self) -> Result<(SlaveId, Connection), TransferError> {
        let mut rounds = Failover::connecting(self.holders.retry, Instant::now());
        loop {
            let mut why = "no other slave is known".to_owned();
            for PeerSlave { slave, addrs, .. } in self.candidates()? {
                for addr in addrs {
                    if self.watch.is_gone() {
                        return Err(TransferError::Interrupted);
                    }
                    match self.holders.dialer.connect(addr) {
                        Ok(mut connection) => {
                            // A slave that does not have this change yet waits until it has.
                            connection.queue(&Request::Seen { lsn: self.holders.applied });
                            return Ok((slave, connection));
                        }
                        Err(fault) => why = format!("slave {slave} at {addr}: {fault}"),
                    }
                }
                self.holders.leave(slave);
            }
            debug!("no slave can be reached for a stream: {why}");
            match rounds.next_round(ErrorCode::Unreachable, Instant::now()) {
                Some(pause) => self.watch.pause(pause)?,
                None => return Err(TransferError::Unreachable(why)),
            }
        }
    }

    /// Drops the connection if another slave can be tried; returns whether it was.
    fn leave_for_another(&mut self) -> bool {
        let current = self.holders.open.as_ref().map(|(slave, _)| *slave);
        // A search that fails now fails again, and is reported, when the next slave is dialed.
        let others = self.candidates().unwrap_or_default();
        let has_other = others.iter().any(|peer| Some(peer.slave) != current);
        if has_other {
            self.holders.close();
        }
        has_other
    }
}

impl Sessions for HolderSearch<'_, '_> {
    fn connection(&mut self) -> Result<&mut Connection, TransferError> {
        let open = match self.holders.open.take() {
            Some(open) => open,
            None => self.dial()?,
        };
        Ok(&mut self.holders.open.insert(open).1)
    }

    fn failed(&mut self, why: &str) {
        debug!("a stream leaves its slave: {why}");
        self.holders.close();
    }

    fn abandon(&mut self) {
        self.holders.open = None;
    }

    fn elsewhere(&mut self, holders: &[Endpoint]) -> bool {
        let moved = self.leave_for_another();
        for holder in holders {
            self.holders.left.remove(&holder.id);
        }
        moved
    }

    fn leave(&mut self, _: &str) -> bool {
        self.leave_for_another()
    }

    fn retry(&self) -> Duration {
        self.holders.retry
    }
}
