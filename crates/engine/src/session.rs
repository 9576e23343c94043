//! A session: one user's commands, checked, recorded, and answered in the state that the user has
//! seen.

use std::cell::RefCell;
use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use relais_cluster::freshness::may_read;
use relais_proto::{ErrorCode, LockToken, Lsn, Metrics, Refusal, TreePath, WaitReason};

use crate::active_uploads::Disconnect;
use crate::change::{Committed, PreparedChange, account_tag};
use crate::context::SessionContext;
use crate::cut_upload::ReportedSize;
use crate::engine::{DISPLACED, Engine, HALTED};
use crate::keep_alive::{KeepAlive, poll};
use crate::pending_changes::PendingChanges;
use crate::principal::Principal;
use crate::protocol::Protocol;
use crate::transfer_log::{LoggedCommand, TransferRecord};

/// How long a session waits for changes that its client has seen.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between two checks whether they are applied.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// What one logged-in user does over one connection. It belongs to one thread.
///
/// A command first waits until this slave has the changes that the user has seen, see
/// [`Self::observe`]. Paths are those of the user, also in refusals. Commands that read or that
/// take their time get a [`KeepAlive`]; with an error it cancels the command.
///
/// A refusal with [`ErrorCode::BadTicket`] means that the login has ended: the session answers
/// nothing more.
pub struct Session {
    pub(crate) context: Arc<SessionContext>,
    /// The latest change that the user has seen; every answer has to include it.
    seen_lsn: Lsn,
    pending: PendingChanges,
    /// What the user was last told about the size at a path.
    pub(crate) reported_size: RefCell<Option<ReportedSize>>,
    /// Tokens of the locks that the following changes may use.
    pub(crate) lock_tokens: Vec<LockToken>,
}

/// The state of this slave.
#[derive(Debug, Clone)]
pub struct SlaveStatus {
    /// The latest change that is part of the answer.
    pub lsn: Lsn,
    /// Metrics of folder and pool.
    pub metrics: Metrics,
    /// The last error; empty: none, or the user may not see it.
    pub last_error: String,
}

impl Session {
    /// Opens a session for a user at `address` that a front end for `protocol` serves.
    ///
    /// `disconnect` ends its connection, because its client resumes an upload in another session.
    #[must_use]
    pub fn new(
        engine: Arc<Engine>,
        principal: Principal,
        protocol: Protocol,
        address: SocketAddr,
        disconnect: Disconnect,
    ) -> Self {
        let seen_lsn = principal.seen_lsn;
        let renewed = Arc::default();
        let context =
            Arc::new(SessionContext { engine, principal, protocol, address, disconnect, renewed });
        let pending = PendingChanges::new(context.clone());
        Self {
            pending,
            context,
            seen_lsn,
            reported_size: RefCell::default(),
            lock_tokens: Vec::new(),
        }
    }

    /// Returns the engine.
    #[must_use]
    pub fn engine(&self) -> &Arc<Engine> {
        &self.context.engine
    }

    /// Returns the user.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.context.principal
    }

    /// Renews the login if the accounts have changed or it ends soon. It may wait for the master.
    ///
    /// Front ends whose clients cannot log in again by themselves call it before each command. A
    /// login that is still valid stays in force if it cannot be renewed now. If the accounts change
    /// during a command, the login is renewed then, and has its new rights from the next command
    /// on; an upload also needs the right to write at its end.
    ///
    /// # Errors
    /// [`ErrorCode::BadTicket`] if the login has ended for good; others, such as
    /// [`ErrorCode::Busy`], if it has ended and cannot be renewed now: the next command tries
    /// again.
    pub fn renew_login(&mut self) -> Result<(), Refusal> {
        if let Some(principal) = self.context.renew_login()? {
            self.replace_principal(principal);
        }
        Ok(())
    }

    /// Has all later commands run with the rights of another login of the same user.
    fn replace_principal(&mut self, principal: Principal) {
        self.observe(principal.seen_lsn);
        let context = Arc::new(SessionContext {
            principal,
            renewed: Arc::default(),
            ..(*self.context).clone()
        });
        self.pending.set_context(context.clone());
        self.context = context;
    }

    /// Has all later answers include a change, and those before it.
    pub fn observe(&mut self, lsn: Lsn) {
        self.seen_lsn = self.seen_lsn.max(lsn);
    }

    /// Counts a transfer that continues here after another server failed.
    pub fn count_failover(&self) {
        if !self.context.principal.is_peer {
            self.context.host().transfer_failed_over();
        }
    }

    /// Records a command that the front end refuses, because its path breaks the rules of names.
    pub fn record_refused(&self, command: LoggedCommand, code: ErrorCode) {
        self.context.record(command, None, None).end(Err(code));
    }

    /// Makes a file for what an answer has to remember, which has no name and ends when closed.
    ///
    /// # Errors
    /// [`ErrorCode::NoSpace`] and [`ErrorCode::Storage`].
    pub fn scratch_file(&self) -> Result<File, Refusal> {
        let file = self.context.staging.staged.create_unnamed();
        file.map_err(|e| Refusal::new(e.code(), e.public_text()))
    }

    /// Checks, without waiting, that the login is valid and that the slave keeps its sessions.
    ///
    /// # Errors
    /// [`ErrorCode::BadTicket`] and [`ErrorCode::Draining`].
    pub fn check_open(&self) -> Result<(), Refusal> {
        self.context.check_open()
    }

    /// Waits until this slave has the changes that the user has seen. All commands begin so.
    ///
    /// # Errors
    /// [`ErrorCode::Behind`] if it does not get them in time; the reason why the session may send
    /// no more commands.
    pub fn check_ready(&self, keepalive: &mut dyn KeepAlive) -> Result<(), Refusal> {
        self.check_ready_after(Lsn::default(), keepalive)
    }

    /// As [`Self::check_ready`], and waits for another change that the user has seen.
    pub(crate) fn check_ready_after(
        &self,
        seen: Lsn,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<(), Refusal> {
        let (context, host) = (&self.context, self.context.host());
        let seen = seen.max(self.seen_lsn);
        context.check_open()?;
        if !context.settings.is_cluster_member {
            return Ok(());
        }
        let limits = (CATCH_UP_TIMEOUT, POLL_INTERVAL);
        let caught_up = poll(limits, WaitReason::CatchingUp, keepalive, |_| {
            let may_read = may_read(seen, host.applied_lsn());
            Ok((may_read || context.is_stopping()).then_some(may_read))
        })?;
        if caught_up == Some(true) {
            return Ok(());
        }
        let applied = host.applied_lsn();
        let message = format!(
            "this slave has changes up to {applied}, but this client has seen change {seen}"
        );
        Err(Refusal::new(ErrorCode::Behind, message))
    }

    /// Begins a command that is recorded in the transfer log.
    pub(crate) fn begin(
        &self,
        command: LoggedCommand,
        path: &TreePath,
        to: Option<&TreePath>,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<TransferRecord, Refusal> {
        let mut record = self.context.record(command, Some(path), to);
        let ready = self.check_ready(keepalive).and_then(|()| match command {
            LoggedCommand::Get => Ok(()),
            _ => self.context.check_writable(),
        });
        self.context.recorded(&mut record, ready)?;
        Ok(record)
    }

    /// Returns the state of this slave.
    ///
    /// # Errors
    /// [`ErrorCode::Storage`], and those of [`Self::check_ready`].
    pub fn status(&self, keepalive: &mut dyn KeepAlive) -> Result<SlaveStatus, Refusal> {
        self.check_ready(keepalive)?;
        let (metrics, mut last_error) = self.context.metrics()?;
        if last_error.is_empty() && self.context.host().is_displaced() {
            DISPLACED.clone_into(&mut last_error);
        }
        if !self.context.principal.root.is_root() {
            // The error may contain paths that this user may not see.
            last_error.clear();
        }
        if self.context.host().is_halted() {
            HALTED.clone_into(&mut last_error);
        }
        Ok(SlaveStatus { lsn: self.context.visible_lsn(), metrics, last_error })
    }

    /// Returns how many bytes the disk has space for; `None` if the system does not tell.
    #[must_use]
    pub fn disk_space(&self) -> Option<u64> {
        self.context.disk_space()
    }

    /// Hands a change in; returns it if answers have to be taken first.
    ///
    /// # Errors
    /// The refusal if the change cannot be handed in.
    pub fn submit(
        &mut self,
        change: PreparedChange,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<Option<PreparedChange>, Refusal> {
        self.pending.submit(change, keepalive)
    }

    /// Hands a change in and waits for its answer. No other change may be pending.
    ///
    /// # Errors
    /// The reason why the change was not made.
    pub fn commit(
        &mut self,
        change: PreparedChange,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<Committed, Refusal> {
        self.pending.commit(change, keepalive)
    }

    /// Whether changes have been handed in that have no answer yet.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether all pending changes must be answered before another upload begins.
    ///
    /// The user's uploads are near their limits, and those that are complete count.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.context.host().uploads().is_crowded(account_tag(&self.context.principal.user))
    }

    /// Sends the queued changes, and returns the descriptor that is readable when an answer has
    /// come.
    #[must_use]
    pub fn prepare_wait(&self) -> Option<BorrowedFd<'_>> {
        self.pending.channel().map(|channel| channel.prepare_wait())
    }

    /// Returns the answer to the oldest pending change, if it has come.
    pub fn answer(&mut self, keepalive: &mut dyn KeepAlive) -> Option<Result<Committed, Refusal>> {
        self.pending.answer(keepalive)
    }
}
