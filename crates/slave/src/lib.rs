//! A slave: a pool of pre-forked processes that serves one folder.
//!
//! [`Slave::run`] takes a bound listener and blocks until a signal ends the slave. Three kinds of
//! process do the work: one supervisor, some workers, one replicator. `docs/architecture.md` says
//! what each may do. Only the supervisor forks, and only `sys` is unsafe.

mod address_sessions;
mod agent;
mod certificate;
mod changes;
pub mod config;
mod confine;
mod front;
mod generation;
mod hints;
mod host;
mod passwords;
pub mod privileges;
mod replicator;
mod scoreboard;
mod secrets;
mod slots;
mod supervisor;
mod sys;
mod worker;
mod worker_message;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use log::{error, info, warn};
use relais_auth::{AccountsError, AccountsFile, LiveAccounts};
use relais_engine::{Authenticator, Engine, EngineSettings, LoginPolicy, TransferLog};
use relais_net::tls::{ServerCertificate, TlsMode, TlsServer};
use relais_os::ProcessMailbox;
use relais_proto::{ClusterId, Confinement, FolderId, SlaveId};
use relais_storage::{
    CatalogError, SlaveIdentity, StartParameters,
    upload_table::{DISK_PART, UploadLimits},
};
use relais_tree::Folder;
use thiserror::Error;

use crate::certificate::Certificate;
use crate::changes::channel::ProposalSocket;
use crate::config::Config;
use crate::confine::confine;
use crate::front::native::login::LoginService;
use crate::generation::GenerationFile;
use crate::hints::Hint;
use crate::host::WorkerHost;
use crate::passwords::SharedPasswords;
use crate::scoreboard::Scoreboard;
use crate::secrets::Secrets;
pub use crate::supervisor::ExitReason;
use crate::supervisor::{Supervisor, Task};
use crate::worker_message::WorkerMessage;

/// Errors that keep a slave from starting or end it.
#[derive(Debug, Error)]
pub enum SlaveError {
    /// A setting is out of its range.
    #[error("{0}")]
    Config(String),
    /// The folder cannot be served.
    #[error("cannot serve {folder}: {cause}")]
    #[allow(missing_docs, reason = "the fields' names and types say everything")]
    Folder { folder: String, cause: relais_tree::TreeError },
    /// The state of the slave in the folder cannot be used.
    #[error("cannot use {folder}/.relais: {cause}")]
    #[allow(missing_docs, reason = "the fields' names and types say everything")]
    State { folder: String, cause: CatalogError },
    /// The accounts cannot be used.
    #[error(transparent)]
    Accounts(#[from] AccountsError),
    /// The slave has no certificate.
    #[error("cannot encrypt connections: {0}")]
    Certificate(String),
    /// The transfer log cannot be written to.
    #[error("cannot write to the transfer log {}: {cause}", path.display())]
    #[allow(missing_docs, reason = "the fields' names and types say everything")]
    TransferLog { path: PathBuf, cause: io::Error },
    /// A system call failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A slave's folder, identity and settings, which all its processes use.
pub struct Slave {
    config: Config,
    folder: Folder,
    own: SlaveIdentity,
    scoreboard: Arc<Scoreboard>,
    mailboxes: Arc<Vec<ProcessMailbox<WorkerMessage>>>,
    hints: Arc<ProcessMailbox<Hint>>,
    proposal_socket: Arc<ProposalSocket>,
    /// The accounts of a standalone slave; none if it has no state folder to keep them in.
    passwords: Option<SharedPasswords>,
    /// Cluster key and accounts, whose files workers may not read.
    secrets: Secrets,
    /// The transfer log, if there is one.
    transfers: Option<Arc<TransferLog>>,
    /// The certificate; none if no connection is encrypted.
    certificate: Option<Arc<Certificate>>,
}

impl Slave {
    /// Opens the folder and takes an identity in it. Starts no thread and no process.
    ///
    /// The identity is that of an earlier slave of the same kind that was started for the same
    /// port, and listened on `bound`.
    ///
    /// # Errors
    /// The reason why this folder cannot be served.
    pub fn new(config: Config, bound: u16) -> Result<Self, SlaveError> {
        config.check().map_err(SlaveError::Config)?;
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
        let scoreboard = Scoreboard::new(
            config.workers,
            config.sessions_per_worker.into(),
            config.queue.into(),
        )?;
        let scoreboard = scoreboard.limit_uploads(UploadLimits {
            number: config.uploads,
            bytes: config.upload_bytes.unwrap_or_else(|| default_upload_bytes(&folder)),
        })?;
        let scoreboard = Arc::new(match config.sessions_per_address {
            Some(most) => scoreboard.limit_addresses(most)?,
            None => scoreboard,
        });
        let mailboxes =
            (0..config.workers).map(|_| ProcessMailbox::new()).collect::<io::Result<Vec<_>>>()?;
        let (hints, proposal_socket) =
            (Arc::new(ProcessMailbox::new()?), Arc::new(ProposalSocket::new()?));
        let passwords = match config.accounts.clone() {
            Some(path) => {
                let accounts = LiveAccounts::open(AccountsFile::new(path))?;
                Some(SharedPasswords::new(accounts)?)
            }
            None => None,
        };
        let secrets = Secrets::new(
            config.workers,
            config.cluster.as_ref().map(|cluster| cluster.key_file.clone()),
            passwords.as_ref().map(|passwords| Arc::clone(passwords.accounts())),
        )?;
        if config.cluster.is_some() {
            // Sessions check against this generation until the master is heard, so it has to be
            // known before the first session.
            scoreboard.raise_generation(GenerationFile::open(&own.folder)?.known());
        }
        let certificate = match config.tls.encrypt {
            TlsMode::Never => None,
            _ => Some(Arc::new(
                Certificate::open(&own.folder, &config.tls, config.cluster.is_none())
                    .map_err(SlaveError::Certificate)?,
            )),
        };
        let open = |path: &PathBuf| {
            TransferLog::open(path)
                .map_err(|cause| SlaveError::TransferLog { path: path.clone(), cause })
        };
        let transfers = config.transfer_log.as_ref().map(open).transpose()?.map(Arc::new);
        Ok(Self {
            config,
            folder,
            own,
            scoreboard,
            mailboxes: Arc::new(mailboxes),
            hints,
            proposal_socket,
            passwords,
            secrets,
            transfers,
            certificate,
        })
    }

    /// Returns the id of this slave.
    #[must_use]
    pub fn id(&self) -> SlaveId {
        self.own.slave_id
    }

    /// Returns the id of the served folder.
    #[must_use]
    pub fn folder_id(&self) -> FolderId {
        self.own.folder_id
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
        listener: TcpListener,
        stops_on_hangup: bool,
    ) -> Result<ExitReason, SlaveError> {
        let listen = listener.local_addr()?;
        let body = |task, listener, control| self.child(task, listener, control, listen);
        info!(
            "slave {} serves {} with {}",
            self.id(),
            self.config.root.display(),
            relais_proto::pluralize(self.config.workers, "worker")
        );
        let reopen = || self.reopen_log();
        let tick = || self.secrets.tick(&self.scoreboard);
        tick();
        let reload = || {
            info!("SIGHUP: reloading accounts, key and certificate, reopening the transfer log");
            self.reopen_log();
            self.passwords.iter().for_each(|passwords| passwords.accounts().reload());
            tick();
        };
        let ended = Supervisor::new(
            listener,
            self.config.workers,
            self.scoreboard.clone(),
            self.config.grace,
            &body,
            &reopen,
            self.secrets.is_needed().then_some(&tick),
        )?
        .on_hangup((!stops_on_hangup).then_some(&reload))
        .run()?;
        info!("stopped");
        Ok(ended)
    }

    /// Reopens the transfer log after it was moved away, and sends it to the workers.
    ///
    /// Workers that start later inherit it from here.
    fn reopen_log(&self) {
        let Some(file) = self.transfers.as_ref().and_then(|log| log.reopen()) else { return };
        let send = |mailbox: &ProcessMailbox<WorkerMessage>| {
            mailbox.send(&WorkerMessage::TransferLog(file.try_clone()?))
        };
        for e in self.mailboxes.iter().filter_map(|mailbox| send(mailbox).err()) {
            error!("cannot pass the reopened transfer log to a worker: {e}; it keeps the old one");
        }
    }

    /// Runs a forked child; returns its exit status.
    fn child(
        &self,
        task: Task,
        listener: TcpListener,
        control: OwnedFd,
        listen: SocketAddr,
    ) -> i32 {
        self.own.close_in_child();
        let result = match task {
            Task::Worker(index) => {
                let confinement = confine(&self.folder);
                if index == 0 {
                    log_confinement(confinement, &self.config.root);
                }
                self.scoreboard.set_confinement(index, confinement);
                self.work(index, listener, control)
            }
            Task::Replicator => {
                drop(listener);
                self.transfers.iter().for_each(|log| log.close());
                self.replicate(control, listen)
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

    fn work(&self, index: usize, listener: TcpListener, control: OwnedFd) -> io::Result<()> {
        let host = WorkerHost {
            worker: index,
            scoreboard: self.scoreboard.clone(),
            hints: self.hints.clone(),
            proposal_socket: self.proposal_socket.clone(),
            mailboxes: self.mailboxes.clone(),
        };
        let read_only = self.read_only(listener.local_addr()?);
        let engine = Engine::new(EngineSettings {
            folder: self.folder.try_clone().map_err(io::Error::other)?,
            own: self.own.folder.clone(),
            folder_id: self.folder_id(),
            slave_id: self.id(),
            umask: self.config.umask,
            read_only,
            is_cluster_member: self.config.cluster.is_some(),
            parallel_hashes: parallel_hashes(self.config.workers),
            transfer_log: self.transfers.clone(),
            host: Box::new(host.clone()),
        })
        .map_err(io::Error::other)?;
        let secrets = self.secrets.of_worker(index);
        let start_verifier = |passwords: &SharedPasswords| {
            passwords.start_worker(self.scoreboard.clone(), secrets.shared_accounts())
        };
        let policy = match &self.config.cluster {
            None => LoginPolicy::Standalone {
                writable: read_only.is_none(),
                passwords: self.passwords.as_ref().map(start_verifier).transpose()?,
            },
            Some(_) => LoginPolicy::Cluster,
        };
        let logins = LoginService {
            authenticator: Authenticator::new(policy, secrets),
            host,
            master: self.config.cluster.as_ref().map(|cluster| cluster.master.clone()),
            // A client resumes only in the same folder, so the folder's id identifies the server,
            // whatever slave serves it.
            standalone_id: ClusterId(self.folder_id().0),
        };
        let certificate =
            Arc::new(ServerCertificate::from_files(vec![certificate::file_in(&self.own.folder)]));
        let tls = TlsServer::new(self.config.tls.encrypt, certificate)?;
        let result = worker::run(worker::WorkerSetup {
            index,
            listener,
            control,
            engine: Arc::new(engine),
            block_size: self.config.block_size,
            logins,
            tls,
        });
        self.transfers.iter().for_each(|log| log.finish());
        result
    }

    /// Returns why sessions without an account may change nothing; none if they may.
    fn read_only(&self, listen: SocketAddr) -> Option<&'static str> {
        match &self.config.cluster {
            // The ticket decides.
            Some(_) => None,
            None if listen.ip().to_canonical().is_loopback() => None,
            None => {
                Some("without accounts a server takes changes only if it listens on loopback alone")
            }
        }
    }

    fn replicate(&self, control: OwnedFd, listen: SocketAddr) -> io::Result<()> {
        replicator::run(replicator::ReplicatorSetup {
            config: self.config.clone(),
            folder: self.folder.try_clone().map_err(io::Error::other)?,
            own: self.own.folder.clone(),
            folder_id: self.folder_id(),
            slave_id: self.id(),
            scoreboard: self.scoreboard.clone(),
            hints: self.hints.clone(),
            proposal_socket: self.proposal_socket.clone(),
            listen,
            control,
            certificate: self.certificate.clone(),
        })
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
