//! A slave: a pool of pre-forked processes that serves one folder.
//!
//! [`Slave::run`] takes bound listeners and blocks until a signal ends the slave. Three kinds of
//! process do the work: one supervisor, some workers, one replicator. `docs/architecture.md` says
//! what each may do. Only the supervisor forks, and only `sys` is unsafe.

mod activity;
mod address_sessions;
mod agent;
mod certificate;
mod changes;
pub mod config;
mod confine;
mod context;
mod front;
mod generation;
mod hints;
mod host;
mod listeners;
mod log_outs;
mod login_message;
mod master_logins;
mod passwords;
mod peer_login;
mod poll;
pub mod privileges;
mod remote_uploads;
mod replicator;
mod scoreboard;
mod secrets;
mod slots;
mod supervisor;
mod sys;
mod thread;
mod transfer_counters;
mod worker;
mod worker_message;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use log::{error, info, warn};
use relais_auth::{AccountsError, AccountsFile, EndedTickets, LiveAccounts};
pub use relais_engine::Protocol;
use relais_engine::{Authenticator, Engine, EngineSettings, LoginPolicy, TransferLog};
use relais_journal::JournalError;
use relais_net::tls::{ServerCertificate, TicketSecret, TlsServer};
use relais_os::ProcessMailbox;
use relais_proto::{Confinement, pluralize};
use relais_storage::{
    CatalogError, SlaveIdentity, StartParameters,
    upload_table::{DISK_PART, UploadLimits},
};
use relais_tree::Folder;
use thiserror::Error;

use crate::certificate::Certificate;
use crate::config::{Config, FtpTls};
use crate::confine::confine;
use crate::context::SlaveContext;
use crate::front::ftp::FtpContext;
use crate::front::http::HttpContext;
use crate::front::native::login::LoginService;
use crate::front::replica_stream::ReplicaDialer;
use crate::generation::GenerationFile;
use crate::host::WorkerHost;
pub use crate::listeners::{Listener, Listeners};
use crate::log_outs::SharedLogOuts;
use crate::login_message::LoginMailboxes;
use crate::master_logins::WorkerLogins;
use crate::passwords::SharedPasswords;
use crate::remote_uploads::RemoteUploads;
use crate::replicator::local_coordinator::check_journal;
use crate::scoreboard::Scoreboard;
use crate::secrets::Secrets;
pub use crate::supervisor::ExitReason;
use crate::supervisor::{Supervisor, Task};
use crate::worker::FrontEnds;

/// Errors that keep a slave from starting or end it.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the fields' names and types say everything")]
pub enum SlaveError {
    /// The folder cannot be served.
    #[error("cannot serve {folder}: {cause}")]
    Folder { folder: String, cause: relais_tree::TreeError },
    /// The state of the slave in the folder cannot be used.
    #[error("cannot use {folder}/.relais: {cause}")]
    State { folder: String, cause: CatalogError },
    /// The journal of a standalone slave is damaged.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The accounts cannot be used.
    #[error(transparent)]
    Accounts(#[from] AccountsError),
    /// The slave has no certificate.
    #[error("cannot encrypt connections: {0}")]
    Certificate(String),
    /// The transfer log cannot be written to.
    #[error("cannot write to the transfer log {}: {cause}", path.display())]
    TransferLog { path: PathBuf, cause: io::Error },
    /// A system call failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A slave, of which no process but this one runs yet.
pub struct Slave(Arc<SlaveContext>);

impl Slave {
    /// Opens the folder and takes an identity in it. Starts no thread and no process.
    ///
    /// The caller has called [`Config::check`].
    ///
    /// The identity is that of an earlier slave of the same kind that was started for the same
    /// port, and listened on `bound`.
    ///
    /// # Errors
    /// The reason why this folder cannot be served.
    pub fn new(config: Config, bound: u16) -> Result<Self, SlaveError> {
        supervisor::block_signals()?;
        let name = config.root.display().to_string();
        let folder = Folder::open(&config.root)
            .map_err(|cause| SlaveError::Folder { folder: name.clone(), cause })?;
        let started = StartParameters {
            standalone: config.cluster.is_none(),
            requested_port: config.port,
            bound_port: bound,
        };
        let own = SlaveIdentity::acquire(&folder, started)
            .map_err(|cause| SlaveError::State { folder: name, cause })?;
        if config.cluster.is_none() {
            check_journal(&own.folder, own.folder_id)?;
        }
        let scoreboard = Arc::new(Scoreboard::new(
            config.workers,
            config.sessions_per_worker,
            config.queue,
            config.sessions_per_address,
            UploadLimits {
                number: config.uploads,
                bytes: config.upload_bytes.unwrap_or_else(|| default_upload_bytes(&folder)),
            },
        )?);
        let accounts = config.accounts.clone().map(AccountsFile::new).map(LiveAccounts::open);
        let passwords = accounts.transpose()?.map(SharedPasswords::new).transpose()?;
        let secrets = Secrets::new(
            config.workers,
            config.cluster.as_ref().map(|cluster| cluster.key_file.clone()),
            passwords.as_ref().map(|passwords| passwords.accounts.clone()),
        )?;
        if config.cluster.is_some() {
            // Sessions check against this generation until the master is heard, so it has to be
            // known before the first session.
            scoreboard.raise_generation(GenerationFile::open(&own.folder)?.known);
        }
        let ended_tickets = EndedTickets::new(scoreboard.ended_tickets);
        let log_outs = SharedLogOuts::open(&own.folder, ended_tickets)?;
        let certificate = config
            .needs_certificate()
            .then(|| {
                let is_standalone = config.cluster.is_none();
                Certificate::open(&own.folder, &config.tls, is_standalone, &scoreboard)
            })
            .transpose()
            .map_err(SlaveError::Certificate)?;
        let open = |path: &PathBuf| {
            TransferLog::open(path)
                .map_err(|cause| SlaveError::TransferLog { path: path.clone(), cause })
        };
        let transfers = config.transfer_log.as_ref().map(open).transpose()?.map(Arc::new);
        Ok(Self(Arc::new(SlaveContext {
            folder,
            own,
            scoreboard,
            mailboxes: (0..config.workers)
                .map(|_| ProcessMailbox::new())
                .collect::<io::Result<_>>()?,
            logins: LoginMailboxes::new(config.workers)?,
            remote_uploads: RemoteUploads::new()?,
            log_outs,
            hints: Arc::new(ProcessMailbox::new()?),
            passwords,
            secrets,
            transfers,
            certificate,
            tickets: TicketSecret::generate()?,
            config,
        })))
    }

    /// Serves until a signal ends the slave, or until it has to restart with other ids.
    ///
    /// The process must have one thread. Without `stops_on_hangup`, SIGHUP has the slave read
    /// accounts, key and certificate again and reopen the transfer log.
    ///
    /// # Errors
    /// Those of the supervisor.
    pub fn run(
        self,
        listeners: Listeners,
        stops_on_hangup: bool,
    ) -> Result<ExitReason, SlaveError> {
        let addresses = listeners.addresses()?;
        let body = |task, listeners, control| self.child(task, listeners, control, &addresses);
        let SlaveContext { config, own, .. } = &*self.0;
        info!(
            "slave {} serves {} with {}",
            own.slave_id,
            config.root.display(),
            pluralize(config.workers, "worker")
        );
        let ended = Supervisor::new(&self.0, listeners, stops_on_hangup, &body)?.run()?;
        info!("stopped");
        Ok(ended)
    }

    /// Runs a forked child; returns its exit status.
    fn child(
        &self,
        task: Task,
        listeners: Listeners,
        control: OwnedFd,
        addresses: &[(Protocol, SocketAddr)],
    ) -> i32 {
        let context = &self.0;
        context.own.close_in_child();
        let result = match task {
            Task::Worker(index) => {
                let confinement = confine(&context.folder);
                if index == 0 {
                    log_confinement(confinement, &context.config.root);
                }
                context.scoreboard.set_confinement(index, confinement);
                let result = self.work(index, listeners, control);
                context.transfers.iter().for_each(|log| log.finish());
                result
            }
            Task::Replicator => {
                drop(listeners);
                context.transfers.iter().for_each(|log| log.close());
                replicator::run(context, &control, addresses)
            }
        };
        match result {
            Ok(()) => 0,
            Err(e) => {
                error!("{e}");
                match e.kind() {
                    io::ErrorKind::InvalidData => supervisor::EXIT_FATAL,
                    io::ErrorKind::AlreadyExists => supervisor::EXIT_IDS_REPLACED,
                    _ => 1,
                }
            }
        }
    }

    fn work(&self, index: usize, listeners: Listeners, control: OwnedFd) -> io::Result<()> {
        let SlaveContext { config, own, .. } = &*self.0;
        let is_cluster_member = config.cluster.is_some();
        let is_local = listeners.are_on_loopback()?;
        // In a cluster the ticket decides.
        let writable = is_cluster_member || is_local;
        let host = WorkerHost { worker: index, context: self.0.clone() };
        let engine = Engine::new(EngineSettings {
            folder: self.0.folder.try_clone().map_err(io::Error::other)?,
            own: own.folder.clone(),
            folder_id: own.folder_id,
            slave_id: own.slave_id,
            umask: config.umask,
            read_only: (!writable).then_some(
                "without accounts a server takes changes only if it listens on loopback alone",
            ),
            is_cluster_member,
            parallel_hashes: parallel_hashes(config.workers),
            hashes_uploads: config.sha256,
            transfer_log: self.0.transfers.clone(),
            host: Box::new(host.clone()),
        })
        .map_err(io::Error::other)?;
        let secrets = self.0.secrets.of_worker(index);
        let mut master = None;
        let policy = if is_cluster_member {
            let logins = Arc::new(WorkerLogins::new(index, self.0.clone(), is_local)?);
            master = Some(logins.clone());
            LoginPolicy::Cluster { master: logins }
        } else {
            let verifier = self.0.passwords.as_ref().map(|passwords| {
                passwords.start_worker(self.0.scoreboard.failed_logins, secrets.shared_accounts())
            });
            LoginPolicy::Standalone { writable, passwords: verifier.transpose()? }
        };
        let authenticator = Arc::new(Authenticator::new(policy, secrets));
        engine.renew_logins_by(authenticator.clone());
        let certificate = ServerCertificate::from_files(vec![certificate::file_in(&own.folder)]);
        let certificate = Arc::new(certificate);
        let tls = TlsServer::new(config.tls.encrypt, certificate.clone())?;
        let logins = Arc::new(LoginService { authenticator, master, host });
        let replicas = Arc::new(ReplicaDialer::new(&logins)?);
        let ftp = self.ftp_context(certificate.clone(), &replicas)?.map(Arc::new);
        let http = self.http_context(certificate, &replicas, &logins)?.map(Arc::new);
        let fronts = FrontEnds { tls, ftp, http };
        worker::run(listeners, &control, Arc::new(engine), logins, fronts)
    }

    /// Returns what the FTP sessions of a worker share; none if FTP is not served.
    fn ftp_context(
        &self,
        certificate: Arc<ServerCertificate>,
        replicas: &Arc<ReplicaDialer>,
    ) -> io::Result<Option<FtpContext>> {
        let SlaveContext { config, tickets, .. } = &*self.0;
        let Some(ftp) = config.ftp.clone() else { return Ok(None) };
        let tls = (ftp.tls != FtpTls::Off)
            .then(|| TlsServer::for_ftp(certificate, tickets.clone()))
            .transpose()?;
        Ok(Some(FtpContext { config: ftp, tls, replicas: replicas.clone() }))
    }

    /// Returns what the HTTP sessions of a worker share; none if HTTP is not served.
    fn http_context(
        &self,
        certificate: Arc<ServerCertificate>,
        replicas: &Arc<ReplicaDialer>,
        logins: &Arc<LoginService>,
    ) -> io::Result<Option<HttpContext>> {
        let SlaveContext { config, tickets, .. } = &*self.0;
        let Some(http) = config.http.clone() else { return Ok(None) };
        let tls = http
            .is_encrypted
            .then(|| TlsServer::for_http(certificate, tickets.clone()))
            .transpose()?;
        HttpContext::new(http, tls, replicas.clone(), logins.clone()).map(Some)
    }
}

/// Returns how many pieces each worker may hash at a time, so that all use the cores once.
fn parallel_hashes(workers: usize) -> usize {
    std::thread::available_parallelism().map_or(1, usize::from) / workers.max(1)
}

/// Logs what confines the workers, and warns if that leaves other files within their reach.
fn log_confinement(confinement: Confinement, root: &Path) {
    let names = confinement.names();
    info!(
        "workers are confined by: {}",
        if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
    );
    if !confinement.has(Confinement::FOLDER) {
        warn!(
            "this kernel does not confine workers to {} (Landlock is not in force): \
             a compromised worker can use all files of this slave's user; \
             use a kernel with Landlock, or --user with a user that owns nothing else",
            root.display()
        );
    }
}

/// Returns the default limit for bytes of unfinished uploads: half of the disk.
///
/// There is no limit if the size of the disk is unknown.
fn default_upload_bytes(folder: &Folder) -> u64 {
    let bytes = rustix::fs::fstatvfs(folder)
        .map_or(0, |disk| disk.f_blocks.saturating_mul(disk.f_frsize) / DISK_PART);
    if bytes == 0 { u64::MAX } else { bytes }
}
