//! Reads pieces in order from whichever slave can serve them, with the one failover policy.

use std::fs::File;
use std::net::SocketAddr;

use log::{debug, info};
use relais_engine::KeepAlive;
use relais_proto::{ErrorCode, Refusal};
use relais_transfer::{Action, Failover, Fault, Purpose, Sessions, TransferError, Try, action};

use super::client_watch::ClientWatch;
use super::holders::{HolderLookup, HolderSearch, Holders};
use super::pieces::{Pieces, Step};

/// Reads pieces, and continues with another slave after a failure.
pub struct PieceReader {
    pieces: Pieces,
    holders: Holders,
    failover: Failover,
    /// The file, if the content has come to this slave.
    here: Option<File>,
    /// Whether the file here could not be used.
    here_failed: bool,
}

impl PieceReader {
    pub fn new(pieces: Pieces, holders: Holders, failover: Failover) -> Self {
        Self { pieces, holders, failover, here: None, here_failed: false }
    }

    /// Reads and verifies the next piece; false after the last one.
    ///
    /// # Errors
    /// The refusal if no slave is left that can serve the content, the content is no longer in the
    /// tree, or the client has gone.
    pub fn advance(
        &mut self,
        lookup: &dyn HolderLookup,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<bool, Refusal> {
        let watch = ClientWatch::new(keepalive);
        while let Some(step) = self.pieces.next_step() {
            self.take(step, lookup, &watch).map_err(|e| self.refusal(e))?;
            if matches!(step, Step::Fetch) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns the last piece, and the offset of its first byte.
    pub fn last(&self) -> (&[u8], u64) {
        self.pieces.last()
    }

    /// Takes one step, with as many slaves as it needs.
    fn take(
        &mut self,
        step: Step,
        lookup: &dyn HolderLookup,
        watch: &ClientWatch<'_>,
    ) -> Result<(), TransferError> {
        loop {
            if let Some(file) = &self.here {
                match self.pieces.step_here(step, file, watch) {
                    Ok(()) => return Ok(()),
                    Err(Fault::Fatal(e)) => return Err(e),
                    Err(fault) => {
                        info!("{}: cannot use the file: {fault}", self.pieces.wanted.path);
                        (self.here, self.here_failed) = (None, true);
                    }
                }
                if watch.is_gone() {
                    return Err(TransferError::Interrupted);
                }
            }
            let mut search = HolderSearch { holders: &mut self.holders, lookup, watch };
            let mut server = None;
            let pieces = &mut self.pieces;
            let result = search.connection().map_err(Fault::from).and_then(|connection| {
                server = Some(connection.peer());
                pieces.step_at(step, connection, watch)
            });
            let Err(fault) = result else {
                self.succeeded(step, server);
                return Ok(());
            };
            self.pieces.abandon_window();
            if self.find_here(&fault, lookup, watch)? {
                continue;
            }
            self.recover(server, fault, lookup, watch)?;
        }
    }

    fn succeeded(&mut self, step: Step, server: Option<SocketAddr>) {
        if matches!(step, Step::Fetch) {
            self.failover.gained(self.pieces.last().0.len() as u64);
            self.failover.arrived();
        }
        if let Some(server) = server
            && let Some(lost) = self.failover.served_by(server)
        {
            info!("{}: the stream continues from {server}, not {lost}", self.pieces.wanted.path);
        }
    }

    /// Looks after a failure whether the content has come here; true if it is used from now on.
    fn find_here(
        &mut self,
        fault: &Fault,
        lookup: &dyn HolderLookup,
        watch: &ClientWatch<'_>,
    ) -> Result<bool, TransferError> {
        if self.here_failed || matches!(fault, Fault::Fatal(TransferError::Interrupted)) {
            return Ok(false);
        }
        match watch.during(|keepalive| lookup.open_here(keepalive)) {
            Ok(found) => self.here = found,
            Err(refusal) if refusal.code == ErrorCode::Cut => {
                return Err(TransferError::Interrupted);
            }
            // The path has other content now, or none that this slave can read.
            Err(refusal) => debug!("{}: {refusal}", self.pieces.wanted.path),
        }
        Ok(self.here.is_some())
    }

    /// Has the failover policy decide what follows a failure.
    fn recover(
        &mut self,
        server: Option<SocketAddr>,
        fault: Fault,
        lookup: &dyn HolderLookup,
        watch: &ClientWatch<'_>,
    ) -> Result<(), TransferError> {
        let fault = match fault {
            Fault::Refused(refusal) if is_other_content(refusal.code) => {
                if !lookup.is_current().map_err(TransferError::Refused)? {
                    let why = "the tree has other content now";
                    return Err(TransferError::Refused(Refusal::new(ErrorCode::Changed, why)));
                }
                Fault::Elsewhere(Vec::new())
            }
            Fault::Refused(refusal)
                if matches!(refusal.code, ErrorCode::Damaged | ErrorCode::Storage) =>
            {
                self.holders.exclude(&self.pieces.wanted.path, &refusal.message);
                Fault::Refused(refusal)
            }
            fault => fault,
        };
        let tried = Try {
            purpose: Purpose::Read,
            server,
            unfinished: !matches!(fault, Fault::Refused(_) | Fault::Elsewhere(_)),
            repeatable: true,
            interrupted: &|| watch.is_gone(),
        };
        let mut search = HolderSearch { holders: &mut self.holders, lookup, watch };
        self.failover.recover(&mut search, fault, &tried).map(drop)
    }

    /// Returns the refusal for the client. What other slaves said goes to the log only.
    fn refusal(&self, error: TransferError) -> Refusal {
        let path = &self.pieces.wanted.path;
        info!("{path}: the stream ends: {error}");
        let (code, why) = match error {
            TransferError::Interrupted => {
                return Refusal::new(ErrorCode::Cut, "the client has gone");
            }
            TransferError::Refused(refusal) if refusal.code == ErrorCode::Changed => {
                (ErrorCode::Changed, "the file was replaced or removed while it was sent")
            }
            TransferError::Refused(refusal) if refusal.code == ErrorCode::Damaged => {
                (ErrorCode::Damaged, "no slave that can be reached has an undamaged copy")
            }
            _ => (
                ErrorCode::NoContent,
                "this slave does not have the content, and no slave that has it can send it now",
            ),
        };
        Refusal::at(path, code, why)
    }
}

/// Whether a slave answers so that does not have the content at the path.
///
/// A slave with the content has no other reason for a final refusal.
fn is_other_content(code: ErrorCode) -> bool {
    matches!(action(code, Purpose::Read), Action::Stop | Action::Restart)
}
