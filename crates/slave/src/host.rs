//! A worker process as the engine sees it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use relais_auth::EndedTickets;
use relais_engine::{Host, Owner, ProposalChannel, Protocol};
use relais_os::ProcessMailbox;
use relais_proto::{Lsn, Metrics, TreePath};
use relais_storage::StagedName;
use relais_storage::upload_table::UploadTable;

use crate::changes::channel::SessionEnd;
use crate::context::SlaveContext;
use crate::hints::Hint;
use crate::scoreboard::Scoreboard;
use crate::worker_message::{WorkerMessage, notify};

/// A worker, and what it shares with the other processes of the slave.
#[derive(Clone)]
pub struct WorkerHost {
    /// Index of the worker.
    pub worker: usize,
    /// What it has from before the fork.
    pub context: Arc<SlaveContext>,
}

impl WorkerHost {
    /// Returns the scoreboard.
    #[must_use]
    pub fn scoreboard(&self) -> &Arc<Scoreboard> {
        &self.context.scoreboard
    }

    /// Returns the mailbox of this worker.
    #[must_use]
    pub fn mailbox(&self) -> &ProcessMailbox<WorkerMessage> {
        &self.context.mailboxes[self.worker]
    }

    fn report(&self, hint: &Hint) {
        if let Err(e) = self.context.hints.send(hint) {
            log::trace!("a hint was lost: {e}");
        }
    }
}

impl Host for WorkerHost {
    fn visible_lsn(&self) -> Lsn {
        self.scoreboard().progress.visible()
    }

    fn applied_lsn(&self) -> Lsn {
        self.scoreboard().progress.applied()
    }

    fn generation(&self) -> u64 {
        self.scoreboard().generation()
    }

    fn now_ms(&self) -> u64 {
        self.scoreboard().master_ms()
    }

    fn ended_tickets(&self) -> EndedTickets<'_> {
        EndedTickets::new(self.scoreboard().ended_tickets)
    }

    fn is_draining(&self) -> bool {
        self.scoreboard().draining.get()
    }

    fn disconnected_for(&self) -> Option<Duration> {
        self.scoreboard().disconnected.elapsed()
    }

    fn copies(&self) -> u16 {
        self.scoreboard().copies()
    }

    fn with_pool_metrics(&self, metrics: Metrics) -> Metrics {
        self.context.with_own_metrics(metrics)
    }

    fn is_displaced(&self) -> bool {
        self.scoreboard().displaced.get()
    }

    fn is_halted(&self) -> bool {
        self.scoreboard().halted.get()
    }

    fn uploads(&self) -> &UploadTable {
        &self.scoreboard().uploads
    }

    fn begin_large_transfer(&self) -> bool {
        self.scoreboard().begin_large_transfer(self.worker)
    }

    fn end_large_transfer(&self) {
        self.scoreboard().end_large_transfer(self.worker);
    }

    fn transfer_began(&self) {
        self.scoreboard().activity.begin_transfer(self.worker);
    }

    fn transfer_resumed(&self) {
        self.scoreboard().activity.count_resume();
    }

    fn transfer_failed_over(&self) {
        self.scoreboard().activity.count_failover();
    }

    fn transfer_moved(&self, protocol: Protocol, is_upload: bool, bytes: u64) {
        self.scoreboard().transfers.add_bytes(protocol, is_upload, bytes);
    }

    fn transfer_ended(&self, protocol: Protocol, is_upload: bool, bytes: u64, time: Duration) {
        self.scoreboard().activity.end_transfer(self.worker);
        self.scoreboard().transfers.count(protocol, is_upload, bytes, time);
    }

    fn report_different(&self, path: &TreePath) {
        self.report(&Hint::Different(path.clone()));
    }

    fn report_damaged(&self, path: &TreePath) {
        self.report(&Hint::Suspect(path.clone()));
    }

    fn end_upload_elsewhere(&self, name: &StagedName) {
        notify(&self.context.mailboxes, &WorkerMessage::EndUpload(*name));
    }

    fn path_upload_began(&self, name: &StagedName) {
        // Nothing takes the reports of a standalone slave.
        if self.context.config.cluster.is_some() {
            self.context.remote_uploads.began_here(name.id.0);
        }
    }

    fn path_upload_ended(&self) {
        self.context.remote_uploads.changed.wake();
    }

    fn is_upload_elsewhere(&self, name: &StagedName) -> Option<bool> {
        if self.context.config.cluster.is_none() {
            return Some(false);
        }
        self.context.remote_uploads.contains(&name.id.0)
    }

    fn open_channel(&self, owner: &Owner) -> io::Result<Box<dyn ProposalChannel>> {
        Ok(Box::new(SessionEnd::open(&self.context.own.folder, owner)?))
    }
}
