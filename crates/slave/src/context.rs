//! What all processes of a slave have from before the first fork.
//!
//! It starts no thread and no process. Each process has a copy; what they share is in the mailboxes
//! and on the scoreboard.

use std::sync::Arc;

use log::{error, info};
use relais_engine::TransferLog;
use relais_net::tls::TicketSecret;
use relais_os::ProcessMailbox;
use relais_proto::{DiskSpace, Metrics, metric};
use relais_storage::SlaveIdentity;
use relais_tree::Folder;

use crate::certificate::Certificate;
use crate::config::Config;
use crate::hints::Hint;
use crate::log_outs::SharedLogOuts;
use crate::login_message::LoginMailboxes;
use crate::passwords::SharedPasswords;
use crate::remote_uploads::RemoteUploads;
use crate::scoreboard::Scoreboard;
use crate::secrets::Secrets;
use crate::worker_message::WorkerMessage;

/// A slave's settings, folder and identity, and what its processes share.
pub struct SlaveContext {
    /// The settings.
    pub config: Config,
    /// The served folder.
    pub folder: Folder,
    /// The ids, and the slave's own folder in the served one.
    pub own: SlaveIdentity,
    /// Counters and flags of all processes.
    pub scoreboard: Arc<Scoreboard>,
    /// The mailboxes of all workers.
    pub mailboxes: Vec<ProcessMailbox<WorkerMessage>>,
    /// The mailboxes for logins that only the master can decide.
    pub logins: LoginMailboxes,
    /// The unfinished uploads by path of other slaves.
    pub remote_uploads: RemoteUploads,
    /// The file of log-outs, and the wake-up of the thread that passes them on.
    pub log_outs: SharedLogOuts,
    /// Where workers report files that differ from the catalogue.
    pub hints: Arc<ProcessMailbox<Hint>>,
    /// The accounts of a standalone slave; none if it has no state folder to keep them in.
    pub passwords: Option<SharedPasswords>,
    /// Cluster key and accounts, whose files workers may not read.
    pub secrets: Secrets,
    /// The transfer log, if there is one.
    pub transfers: Option<Arc<TransferLog>>,
    /// The certificate; none if no connection is encrypted.
    pub certificate: Option<Certificate>,
    /// The secret of TLS session tickets, so that each worker accepts those of the others.
    pub tickets: TicketSecret,
}

impl SlaveContext {
    /// Adds the metrics of pool, transfers and disk to those of the folder.
    #[must_use]
    pub fn with_own_metrics(&self, metrics: Metrics) -> Metrics {
        let disk = self.disk_space();
        self.scoreboard
            .with_pool_metrics(metrics)
            .with(metric::DISK_FREE, disk.free)
            .with(metric::DISK_SIZE, disk.size)
    }

    /// Returns the space in the folder's file system. Zeros mean that it is unknown.
    #[must_use]
    pub fn disk_space(&self) -> DiskSpace {
        rustix::fs::fstatvfs(self.own.folder.folder()).map_or_else(
            |_| DiskSpace::default(),
            |disk| DiskSpace {
                free: disk.f_bavail.saturating_mul(disk.f_frsize),
                size: disk.f_blocks.saturating_mul(disk.f_frsize),
            },
        )
    }

    /// Checks the secrets' files, and sends the workers what has changed.
    pub fn check_secrets(&self) {
        self.secrets.tick(&self.scoreboard);
    }

    /// Reads accounts and key again, and reopens the transfer log.
    pub fn reload(&self) {
        info!("SIGHUP: reloading accounts, key and certificate, reopening the transfer log");
        self.reopen_log();
        self.passwords.iter().for_each(|passwords| passwords.accounts.reload());
        self.check_secrets();
    }

    /// Reopens the transfer log after it was moved away, and sends it to the workers.
    ///
    /// Workers that start later inherit it from here.
    pub fn reopen_log(&self) {
        let Some(file) = self.transfers.as_ref().and_then(|log| log.reopen()) else { return };
        for mailbox in &self.mailboxes {
            let sent = file.try_clone().map(WorkerMessage::TransferLog);
            if let Err(e) = sent.and_then(|message| mailbox.send(&message)) {
                error!(
                    "cannot pass the reopened transfer log to a worker: {e}; it keeps the old one"
                );
            }
        }
    }
}
