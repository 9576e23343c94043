//! The slave's side of the link to its master: registration, heartbeats and changes.
//!
//! The link is opened again whenever it fails, for as long as the slave lives. The log says once
//! what the link waits for. One thread reads and another one sends, so that neither side waits for
//! the other to read.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use log::{debug, info, warn};
use parking_lot::Mutex;
use relais_auth::{ClusterKey, LinkError, LinkRole, decode_link_frame};
use relais_cluster::reconnect::ReconnectPauses;
use relais_engine::{DISPLACED, Protocol};
use relais_net::tls::Dialer;
use relais_net::{Connection, Stream};
use relais_os::{MailboxSender, random};
use relais_proto::{
    ClusterId, ErrorCode, Heartbeat, HttpListeners, LinkMessage, Lsn, PeerSlave, Registration,
    SlaveState, WireError, limits, metric,
};
use relais_storage::{CatalogError, CatalogReader, CatalogStore, LinkEvent};

use super::log_out_relay::{LogOutRelay, LogOutRelayThread};
use super::login_relay::{LoginRelay, LoginRelayThread};
use super::mailbox::{IdConflict, OutgoingMessages};
use super::upload_relay::{UploadRelay, UploadRelayThread};
use crate::agent::prove_key;
use crate::certificate::Certificate;
use crate::config::Cluster;
use crate::context::SlaveContext;
use crate::generation::GenerationFile;
use crate::thread::OwnedThread;
use crate::worker_message::{WorkerMessage, notify};

/// A link that was up for longer fails for a new reason, so the next attempt comes soon.
const STABLE: Duration = Duration::from_secs(2);
/// Time between two checks whether a slave has become ready.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The thread that keeps the link. Its drop ends the link.
pub struct MasterLink {
    stop: Arc<AtomicBool>,
    stream: LinkStream,
    /// None in a standalone slave.
    thread: Option<OwnedThread>,
    logins: Option<LoginRelayThread>,
    uploads: Option<UploadRelayThread>,
    log_outs: LogOutRelayThread,
}

/// The stream of the current link, so that another thread can close it.
type LinkStream = Arc<Mutex<Option<Arc<Stream>>>>;

impl MasterLink {
    /// Starts the thread, if the slave belongs to a cluster. The slave listens on `addresses`.
    ///
    /// # Errors
    /// Those of starting a thread.
    pub fn start(
        context: &Arc<SlaveContext>,
        addresses: &[(Protocol, SocketAddr)],
        events: MailboxSender<LinkEvent>,
        outgoing: Arc<OutgoingMessages>,
    ) -> io::Result<Self> {
        let (stop, stream) = (Arc::new(AtomicBool::new(false)), LinkStream::default());
        let Some(cluster) = context.config.cluster.clone() else {
            let log_outs = Arc::new(LogOutRelay::new(context.clone(), None)?);
            let log_outs = LogOutRelayThread::start(log_outs)?;
            return Ok(Self { stop, stream, thread: None, logins: None, uploads: None, log_outs });
        };
        let log_outs = Arc::new(LogOutRelay::new(context.clone(), Some(outgoing.clone()))?);
        let logins = Arc::new(LoginRelay::new(context.clone(), outgoing.clone()));
        let uploads = Arc::new(UploadRelay::new(context.clone(), outgoing.clone())?);
        let link = LinkThread {
            logins: logins.clone(),
            uploads: uploads.clone(),
            log_outs: log_outs.clone(),
            context: context.clone(),
            cluster,
            addresses: addresses.to_vec(),
            stop: stop.clone(),
            stream: stream.clone(),
            events,
            outgoing,
            number: 0,
            peers: Vec::new(),
            scrubs: None,
            sending: None,
            retries: None,
            id_conflict: IdConflict::default(),
            generation: GenerationFile::open(&context.own.folder)?,
            hashed: 0,
            last_error: String::new(),
            dialer: Dialer::new(context.config.tls.encrypt)?,
            known_slaves: 0,
        };
        let logins = Some(LoginRelayThread::start(logins)?);
        let uploads = Some(UploadRelayThread::start(uploads)?);
        let log_outs = LogOutRelayThread::start(log_outs)?;
        let thread = Some(OwnedThread::spawn("link", move || link.run())?);
        Ok(Self { stop, stream, thread, logins, uploads, log_outs })
    }

    /// Whether a thread has ended without being asked to.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_some_and(OwnedThread::has_ended)
            || self.logins.as_ref().is_some_and(LoginRelayThread::has_ended)
            || self.uploads.as_ref().is_some_and(UploadRelayThread::has_ended)
            || self.log_outs.has_ended()
    }
}

impl Drop for MasterLink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.iter().for_each(OwnedThread::unpark);
        if let Some(stream) = self.stream.lock().take() {
            // The master may have closed it already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// The state of the link's thread.
struct LinkThread {
    context: Arc<SlaveContext>,
    cluster: Cluster,
    /// The listeners of this slave.
    addresses: Vec<(Protocol, SocketAddr)>,
    stop: Arc<AtomicBool>,
    stream: LinkStream,
    events: MailboxSender<LinkEvent>,
    outgoing: Arc<OutgoingMessages>,
    /// The workers' logins on their way to the master.
    logins: Arc<LoginRelay>,
    /// The uploads that slaves report to each other.
    uploads: Arc<UploadRelay>,
    /// The log-outs that servers report to each other.
    log_outs: Arc<LogOutRelay>,
    /// Number of the current link.
    number: u64,
    /// Pages of a list of slaves that is not complete yet.
    peers: Vec<PeerSlave>,
    /// Number of the master's last scrub order; none before the first message.
    scrubs: Option<u64>,
    /// Takes what the sending thread of the current link is given.
    sending: Option<Sender<Outgoing>>,
    /// Number of the master's last order to retry; none before the first message.
    retries: Option<u64>,
    /// Whether the master reports that another slave has the ids of this one.
    id_conflict: IdConflict,
    /// The file with the generation of the accounts.
    generation: GenerationFile,
    /// Index of the worker that has hashed a content for the master last.
    hashed: usize,
    /// The last logged error, so that it is logged once.
    last_error: String,
    dialer: Dialer,
    /// The number of slaves in the master's last list.
    known_slaves: usize,
}

impl LinkThread {
    fn run(mut self) {
        let mut pauses = ReconnectPauses::default();
        while !self.is_stopping() {
            let began = Instant::now();
            let why = self.run_link().err();
            let why = why.unwrap_or_else(|| "the master closed the link".to_owned());
            if self.last_error != why && !self.is_stopping() {
                warn!("{why}; trying again");
                self.last_error = why;
            }
            if began.elapsed() > STABLE {
                pauses.reset();
            }
            // Without a random number the pause is the shortest.
            let random = random().map(u64::from_ne_bytes).unwrap_or_default();
            let pause = pauses.next(self.known_slaves, random);
            // The end of the link wakes this thread.
            if !self.is_stopping() {
                std::thread::park_timeout(pause);
            }
        }
    }

    fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Opens a link, and keeps it until it fails.
    fn run_link(&mut self) -> Result<(), String> {
        let Cluster { master, key_file, .. } = self.cluster.clone();
        let key = ClusterKey::load(&key_file)
            .map_err(|e| e.to_string())?
            .ok_or_else(|| format!("waiting for the cluster key {}", key_file.display()))?;
        let mut connection = self
            .dialer
            .connect_for_proof(&master)
            .map_err(|e| format!("waiting for the master at {master}: {e}"))?;
        *self.stream.lock() = Some(connection.stream().clone());
        connection.set_silence(limits::BEAT_EVERY * limits::BEATS_MISSED);
        let latest = self.register(&mut connection, &key).map_err(|e| {
            let key_file = key_file.display();
            let hint = match e {
                LinkError::BadProof => {
                    format!("; the key file of this slave, {key_file}, is not the master's")
                }
                _ => String::new(),
            };
            format!("cannot register at the master at {master}: {e}{hint}")
        })?;
        info!("registered at the master {master} as {}", self.context.own.slave_id);
        self.last_error.clear();
        self.exchange(connection, key.cluster_id(), latest)
            .map_err(|e| format!("the link to the master {master} failed: {e}"))
    }

    /// Registers this slave; returns the master's last change.
    fn register(
        &mut self,
        connection: &mut Connection,
        key: &ClusterKey,
    ) -> Result<Lsn, LinkError> {
        let SlaveContext { own, scoreboard, .. } = &*self.context;
        prove_key(connection, LinkRole::Slave, own.slave_id, key)?;
        connection.queue_link(&LinkMessage::Register(Registration {
            folder: own.folder_id,
            listen: self.listeners(Protocol::Native),
            advertise: self.cluster.advertise.clone(),
            lsn: scoreboard.progress.applied(),
            http: Some(HttpListeners {
                clear: self.listeners(Protocol::Http),
                encrypted: self.listeners(Protocol::Https),
            }),
        }));
        connection.flush().map_err(WireError::from)?;
        let answer = read_message(connection);
        if let Err(LinkError::Refused(refusal)) = &answer
            && refusal.code == ErrorCode::Exists
        {
            self.id_conflict.record(scoreboard);
        }
        match answer? {
            LinkMessage::Registered { lsn, time_ms } => {
                self.id_conflict = IdConflict::default();
                scoreboard.record_master(time_ms, scoreboard.generation());
                self.events.send(LinkEvent::MasterLsn(lsn));
                Ok(lsn)
            }
            other => Err(WireError::Unexpected(other.frame_type().number()).into()),
        }
    }

    /// Returns the addresses where this slave listens for clients of a protocol.
    fn listeners(&self, protocol: Protocol) -> Vec<SocketAddr> {
        let of_protocol = self.addresses.iter().filter(|(other, _)| *other == protocol);
        of_protocol.map(|(_, addr)| *addr).collect()
    }

    /// Reads the master's messages, while another thread sends.
    fn exchange(
        &mut self,
        mut connection: Connection,
        cluster: ClusterId,
        latest: Lsn,
    ) -> Result<(), String> {
        self.number += 1;
        self.peers.clear();
        let (sender, queue) = channel();
        self.sending = Some(sender.clone());
        self.uploads.link_began();
        self.outgoing.begin(self.number, move |messages| {
            for message in messages {
                // The thread that sends has ended, which it reports itself.
                let _ = sender.send(Outgoing::Message(Box::new(message)));
            }
        });
        self.log_outs.link_began();
        self.events.send(LinkEvent::Linked { link: self.number, cluster, latest });
        let (context, stop) = (self.context.clone(), self.stop.clone());
        context.scoreboard.disconnected.clear();
        context.certificate.iter().for_each(Certificate::request_on_new_link);
        // The end of each thread ends the other one, also by a panic.
        let reader_end = LinkShutdown {
            outgoing: self.outgoing.clone(),
            logins: self.logins.clone(),
            uploads: self.uploads.clone(),
            stream: connection.stream().clone(),
        };
        let writer_end = reader_end.clone();
        let writer = connection.writer();
        let result = std::thread::scope(|scope| {
            let (context, stop) = (&*context, &*stop);
            let send = move || {
                let _end = writer_end;
                send(writer, &queue, context, stop)
            };
            let sender = std::thread::Builder::new().name("heartbeats".to_owned());
            let sender = sender.spawn_scoped(scope, send).map_err(|e| e.to_string())?;
            let read_result = self.read_messages(&mut connection);
            drop((reader_end, self.sending.take()));
            match (read_result, sender.join()) {
                (_, Ok(Err(e))) => Err(e.to_string()),
                (Err(e), _) => Err(e.to_string()),
                (Ok(()), Ok(Ok(()))) => Ok(()),
                (Ok(()), Err(_)) => Err("the sending thread failed".to_owned()),
            }
        });
        context.scoreboard.disconnected.set_now();
        self.events.send(LinkEvent::Unlinked);
        result
    }

    /// Reads and handles the master's messages until the link ends.
    fn read_messages(&mut self, connection: &mut Connection) -> Result<(), LinkError> {
        loop {
            match read_message(connection) {
                Ok(message) => self.handle(message)?,
                Err(LinkError::Wire(WireError::Truncated)) => return Ok(()),
                Err(e) => return Err(e),
            }
        }
    }

    fn handle(&mut self, message: LinkMessage) -> Result<(), LinkError> {
        let event = match message {
            LinkMessage::HeartbeatAck {
                lsn,
                time_ms,
                generation,
                draining,
                scrubs,
                copies,
                retries,
            } => {
                let scoreboard = &self.context.scoreboard;
                scoreboard.record_master(time_ms, generation);
                self.generation.write(generation);
                scoreboard.draining.set(draining);
                scoreboard.set_copies(copies);
                self.events.send(LinkEvent::MasterLsn(lsn));
                // Orders from before this slave connected do not concern it.
                if self.scrubs.replace(scrubs).is_some_and(|before| scrubs > before) {
                    self.events.send(LinkEvent::Scrub(scrubs));
                    // Without the thread the link is about to end.
                    let _ = self.sending.as_ref().map(|to| to.send(Outgoing::ScrubOrdered(scrubs)));
                }
                if self.retries.replace(retries).is_some_and(|before| retries > before) {
                    self.events.send(LinkEvent::Retry);
                }
                return Ok(());
            }
            LinkMessage::Certificate { chain, renew_s } => {
                if let Some(certificate) = &self.context.certificate {
                    certificate.install(&chain, renew_s);
                }
                return Ok(());
            }
            LinkMessage::TicketIssued { query, .. } | LinkMessage::LoginRefused { query, .. } => {
                self.logins.answer(query, message);
                return Ok(());
            }
            LinkMessage::HashContent { path } => {
                let mailboxes = &self.context.mailboxes;
                self.hashed = (self.hashed + 1) % mailboxes.len().max(1);
                notify(mailboxes.get(self.hashed), &WorkerMessage::HashFile(path));
                return Ok(());
            }
            LinkMessage::OtherUploads(keys) => {
                self.uploads.receive(keys);
                return Ok(());
            }
            LinkMessage::OtherLogOuts(rows) => {
                self.log_outs.receive(rows);
                return Ok(());
            }
            LinkMessage::Peers { peers, last } => {
                self.peers.extend(peers);
                if !last {
                    return Ok(());
                }
                self.known_slaves = self.peers.len();
                LinkEvent::Peers(std::mem::take(&mut self.peers))
            }
            LinkMessage::ToSlave(message) => LinkEvent::Message(message),
            LinkMessage::AskPaths { query, list } => LinkEvent::PathQuery { query, list },
            LinkMessage::AskTree { query, ids } => LinkEvent::TreeQuery { query, ids },
            LinkMessage::Recovering { epoch } => LinkEvent::Recovering(epoch),
            other => return Err(WireError::Unexpected(other.frame_type().number()).into()),
        };
        self.events.send(event);
        Ok(())
    }
}

/// Ends the sender and the reader of a link when it is dropped.
#[derive(Clone)]
struct LinkShutdown {
    outgoing: Arc<OutgoingMessages>,
    logins: Arc<LoginRelay>,
    uploads: Arc<UploadRelay>,
    stream: Arc<Stream>,
}

impl Drop for LinkShutdown {
    fn drop(&mut self) {
        self.outgoing.end();
        self.logins.link_ended();
        self.uploads.link_ended();
        // It fails only if the other side was first.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// What the sending thread of a link is given.
enum Outgoing {
    Message(Box<LinkMessage>),
    /// The master has ordered a scrub with this number.
    ScrubOrdered(u64),
}

/// Sends queued messages, and a heartbeat each second.
///
/// A heartbeat that reports the slave as ready, or the end of a scrub, is sent at once.
fn send(
    mut connection: Connection,
    queue: &Receiver<Outgoing>,
    context: &SlaveContext,
    stop: &AtomicBool,
) -> io::Result<()> {
    let mut heartbeats =
        HeartbeatSource { context, reader: CatalogReader::new(&context.own.folder) };
    let (mut next, mut ready, mut scrub) = (Instant::now(), false, None);
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        if scrub.take_if(|order| heartbeats.has_scrubbed(*order)).is_some() {
            next = now;
        }
        if now >= next || !ready && context.scoreboard.alive_workers() > 0 && heartbeats.is_fit() {
            let heartbeat = heartbeats.compose();
            ready = heartbeat.state == SlaveState::InService
                && heartbeat.metrics.get(metric::WORKERS) > 0;
            connection.queue_link(&LinkMessage::Heartbeat(heartbeat));
            next = now + limits::BEAT_EVERY;
        }
        if let Some(query) = context.certificate.as_ref().and_then(Certificate::next_request) {
            connection.queue_link(&query);
        }
        connection.flush()?;
        let wait = next.saturating_duration_since(Instant::now());
        let wait = if ready { wait } else { wait.min(POLL_INTERVAL) };
        match queue.recv_timeout(scrub.map_or(wait, |_| wait.min(SCRUB_INTERVAL))) {
            Ok(first) => {
                // Queued messages are sent in one call.
                for outgoing in std::iter::once(first).chain(queue.try_iter().take(AT_ONCE)) {
                    match outgoing {
                        Outgoing::Message(message) => connection.queue_link(&message),
                        Outgoing::ScrubOrdered(order) => scrub = Some(order),
                    }
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                debug!("the link is being closed");
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Most messages that are sent in one system call.
const AT_ONCE: usize = 256;
/// Interval of checks for the end of a scrub.
const SCRUB_INTERVAL: Duration = Duration::from_millis(20);

/// Makes the heartbeats of one link.
struct HeartbeatSource<'a> {
    context: &'a SlaveContext,
    reader: CatalogReader,
}

impl HeartbeatSource<'_> {
    /// Whether the catalogue is complete and its writer at work.
    fn is_fit(&mut self) -> bool {
        !self.context.scoreboard.is_catalog_writer_stalled()
            && self.query(CatalogStore::is_fit).unwrap_or(false)
    }

    /// Whether the scrub with this number, or a later one, has read all files.
    fn has_scrubbed(&mut self, order: u64) -> bool {
        self.query(CatalogStore::scrub).is_some_and(|scrub| scrub.order >= order && scrub.done)
    }

    /// Queries the catalogue; none if it cannot be read.
    fn query<T: Default>(
        &mut self,
        query: impl FnOnce(&CatalogStore) -> Result<T, CatalogError>,
    ) -> Option<T> {
        self.reader.ask(query).map_err(|e| warn!("cannot read the catalogue: {e}")).ok()
    }

    fn compose(&mut self) -> Heartbeat {
        let scoreboard = &self.context.scoreboard;
        let state = match self.is_fit() {
            _ if scoreboard.draining.get() => SlaveState::Draining,
            true => SlaveState::InService,
            false => SlaveState::CatchingUp,
        };
        let (metrics, mut last_error, scrub) = self
            .query(|store| Ok((store.metrics()?, store.last_error()?, store.scrub()?)))
            .unwrap_or_default();
        if last_error.is_empty() && scoreboard.displaced.get() {
            DISPLACED.clone_into(&mut last_error);
        }
        Heartbeat {
            state,
            lsn: scoreboard.progress.applied(),
            metrics: self.context.with_own_metrics(metrics),
            last_error,
            disk: self.context.disk_space(),
            scrub,
        }
    }
}

/// Reads the next message of the master; a refusal becomes an error.
fn read_message(connection: &mut Connection) -> Result<LinkMessage, LinkError> {
    let header = connection.read_header()?.ok_or(WireError::Truncated)?;
    decode_link_frame(header.kind, connection.read_payload(header)?)
}
