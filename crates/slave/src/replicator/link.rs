//! The slave's side of the link to its master: registration, heartbeats and changes.
//!
//! The link is opened again whenever it fails, for as long as the slave lives. The log says once
//! what the link waits for. One thread reads and another one sends, so that neither side waits for
//! the other to read.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use log::{debug, info, warn};
use relais_auth::{ClusterKey, LinkError, LinkHandshake, LinkRole, decode_link_frame};
use relais_net::tls::Dialer;
use relais_net::{Connection, Stream};
use relais_os::MailboxSender;
use relais_proto::{
    ClusterId, DiskSpace, ErrorCode, FolderId, Heartbeat, LinkMessage, Lsn, PeerSlave,
    Registration, SlaveId, SlaveState, WireError, limits, metric,
};
use relais_storage::{CatalogReader, CatalogStore, LinkEvent, MetadataFolder};

use super::mailbox::{IdConflict, OutgoingMessages};
use super::setup::ReplicatorSetup;
use crate::certificate::Certificate;
use crate::config::Cluster;
use crate::generation::GenerationFile;
use crate::scoreboard::Scoreboard;
use relais_engine::DISPLACED;

/// Shortest and longest pause between two attempts to reach the master.
const RETRY_PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// Time between two checks whether a slave has become ready.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The thread that keeps the link.
pub struct MasterLink {
    thread: Option<JoinHandle<()>>,
    stream: LinkStream,
}

/// The stream of the current link, so that another thread can close it.
type LinkStream = Arc<Mutex<Option<Arc<Stream>>>>;

impl MasterLink {
    /// Starts the thread, if the slave belongs to a cluster.
    ///
    /// # Errors
    /// Those of starting a thread.
    pub fn start(
        setup: &ReplicatorSetup,
        stop: Arc<AtomicBool>,
        events: MailboxSender<LinkEvent>,
        outgoing: Arc<OutgoingMessages>,
    ) -> io::Result<Self> {
        let stream = LinkStream::default();
        let Some(cluster) = setup.config.cluster.clone() else {
            return Ok(Self { thread: None, stream });
        };
        let link = LinkThread {
            cluster,
            slave: setup.slave_id,
            folder: setup.folder_id,
            listen: setup.listen,
            heartbeats: HeartbeatSender {
                own: setup.own.clone(),
                scoreboard: setup.scoreboard.clone(),
                reader: CatalogReader::new(&setup.own),
            },
            stop,
            stream: stream.clone(),
            events,
            outgoing,
            number: 0,
            latest: Lsn::default(),
            scrubs: None,
            retries: None,
            id_conflict: IdConflict::default(),
            generation: GenerationFile::open(&setup.own)?,
            last_error: String::new(),
            certificate: setup.certificate.clone(),
            dialer: Dialer::new(setup.config.tls.encrypt)?,
        };
        let thread =
            std::thread::Builder::new().name("link".to_owned()).spawn(move || link.run())?;
        Ok(Self { thread: Some(thread), stream })
    }

    /// Whether the thread has ended without being asked to.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Ends the thread, whose stop flag is set already.
    pub fn end(mut self) {
        shut_down(&self.stream);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the link's thread has panicked");
        }
    }
}

fn shut_down(stream: &LinkStream) {
    if let Some(stream) = stream.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // The master may have closed it already.
        let _ = stream.shutdown(Shutdown::Both);
    }
}

/// The state of the link's thread.
struct LinkThread {
    cluster: Cluster,
    slave: SlaveId,
    folder: FolderId,
    listen: SocketAddr,
    heartbeats: HeartbeatSender,
    stop: Arc<AtomicBool>,
    stream: LinkStream,
    events: MailboxSender<LinkEvent>,
    outgoing: Arc<OutgoingMessages>,
    /// Number of the current link.
    number: u64,
    /// The master's last change when the slave registered.
    latest: Lsn,
    /// Number of the master's last scrub order; none before the first message.
    scrubs: Option<u64>,
    /// Number of the master's last order to retry; none before the first message.
    retries: Option<u64>,
    /// Whether the master reports that another slave has the ids of this one.
    id_conflict: IdConflict,
    /// The file with the generation of the accounts.
    generation: GenerationFile,
    /// The last logged error, so that it is logged once.
    last_error: String,
    certificate: Option<Arc<Certificate>>,
    dialer: Dialer,
}

impl LinkThread {
    fn run(mut self) {
        let mut pause = RETRY_PAUSES.0;
        while !self.is_stopping() {
            let began = Instant::now();
            match self.run_link() {
                Ok(()) => self.log_once("the master closed the link".to_owned()),
                Err(why) => self.log_once(why),
            }
            // A link that was up for a while failed for a new reason, so the next attempt comes
            // soon.
            pause = if began.elapsed() > RETRY_PAUSES.1 * 2 {
                RETRY_PAUSES.0
            } else {
                (pause * 2).min(RETRY_PAUSES.1)
            };
            self.pause(pause);
        }
    }

    fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn log_once(&mut self, error: String) {
        if self.last_error != error && !self.is_stopping() {
            warn!("{error}; trying again");
            self.last_error = error;
        }
    }

    fn pause(&self, pause: Duration) {
        let until = Instant::now() + pause;
        while !self.is_stopping() && Instant::now() < until {
            std::thread::sleep(POLL_INTERVAL.min(until.saturating_duration_since(Instant::now())));
        }
    }

    /// Opens a link, and keeps it until it fails.
    fn run_link(&mut self) -> Result<(), String> {
        let key = match ClusterKey::load(&self.cluster.key_file) {
            Ok(Some(key)) => key,
            Ok(None) => {
                return Err(format!(
                    "waiting for the cluster key {}",
                    self.cluster.key_file.display()
                ));
            }
            Err(e) => return Err(e.to_string()),
        };
        let master = self.cluster.master.clone();
        let mut connection = self
            .dialer
            .connect_for_proof(&master)
            .map_err(|e| format!("waiting for the master at {master}: {e}"))?;
        *self.stream.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(connection.stream().clone());
        connection.set_silence(limits::BEAT_EVERY * limits::BEATS_MISSED);
        self.register(&mut connection, &key)
            .map_err(|e| format!("cannot register at the master at {master}: {e}"))?;
        info!("registered at the master {master} as {}", self.slave);
        self.last_error.clear();
        self.exchange(connection, key.cluster_id())
            .map_err(|e| format!("the link to the master {master} failed: {e}"))
    }

    fn register(&mut self, connection: &mut Connection, key: &ClusterKey) -> Result<(), String> {
        let text = |e: &dyn std::fmt::Display| e.to_string();
        let mut handshake =
            LinkHandshake::new(LinkRole::Slave, self.slave, key, connection.binding())
                .map_err(|e| text(&e))?;
        let (hello, open) = (handshake.hello(crate::agent::agent()), handshake.open());
        connection
            .prove(&hello, &open, |kind, payload| handshake.on_frame(kind, payload))
            .map_err(|e| match e {
                LinkError::BadProof => format!(
                    "{e}; the key file of this slave, {}, is not the master's",
                    self.cluster.key_file.display()
                ),
                e => text(&e),
            })?;
        connection.queue_link(&LinkMessage::Register(Registration {
            folder: self.folder,
            listen: vec![self.listen],
            advertise: self.cluster.advertise.clone(),
            lsn: self.heartbeats.scoreboard.progress().applied(),
        }));
        connection.flush().map_err(|e| text(&e))?;
        let answer = read_message(connection);
        if let Err(LinkError::Refused(refusal)) = &answer
            && refusal.code == ErrorCode::Exists
        {
            self.id_conflict.record(&self.heartbeats.scoreboard);
        }
        match answer.map_err(|e| text(&e))? {
            LinkMessage::Registered { lsn, time_ms } => {
                self.id_conflict = IdConflict::default();
                self.heartbeats
                    .scoreboard
                    .record_master(time_ms, self.heartbeats.scoreboard.generation());
                self.latest = lsn;
                self.events.send(LinkEvent::MasterLsn(lsn));
                Ok(())
            }
            other => Err(format!("an unexpected answer: {:?}", other.frame_type())),
        }
    }

    /// Reads the master's messages, while another thread sends.
    fn exchange(&mut self, mut connection: Connection, cluster: ClusterId) -> Result<(), String> {
        self.number += 1;
        let (sender, queue) = channel();
        self.outgoing.begin(self.number, move |messages| {
            for message in messages {
                // The thread that sends has ended, which it reports itself.
                let _ = sender.send(message);
            }
        });
        self.events.send(LinkEvent::Linked { link: self.number, cluster, latest: self.latest });
        self.heartbeats.scoreboard.set_master_connected(true);
        let certificate = self.certificate.as_deref();
        certificate.iter().for_each(|certificate| certificate.request_on_new_link());
        let stream = connection.stream().clone();
        let result = std::thread::scope(|scope| {
            // A thread that panics ends the other one, so that the end of the link is noticed.
            let _end = LinkShutdown { outgoing: &self.outgoing, stream: &stream };
            let scoreboard = self.heartbeats.scoreboard.clone();
            let (heartbeats, stop, stream, writer) =
                (&mut self.heartbeats, &self.stop, &stream, connection.writer());
            let sender = std::thread::Builder::new().name("heartbeats".to_owned()).spawn_scoped(
                scope,
                move || {
                    let _shutdown = StreamShutdown(stream);
                    send(writer, &queue, heartbeats, stop, certificate)
                },
            );
            let sender = sender.map_err(|e| e.to_string())?;
            let generation = &mut self.generation;
            let mut reader = LinkReader {
                scoreboard,
                events: &self.events,
                peers: Vec::new(),
                scrubs: &mut self.scrubs,
                retries: &mut self.retries,
                generation,
                certificate,
            };
            let read_result = reader.run(&mut connection);
            // The sender ends when its queue is closed.
            self.outgoing.end();
            let _ = stream.shutdown(Shutdown::Both);
            match (read_result, sender.join()) {
                (_, Ok(Err(e))) => Err(e.to_string()),
                (Err(e), _) => Err(e.to_string()),
                (Ok(()), Ok(Ok(()))) => Ok(()),
                (Ok(()), Err(_)) => Err("the sending thread failed".to_owned()),
            }
        });
        self.outgoing.end();
        self.heartbeats.scoreboard.set_master_connected(false);
        self.events.send(LinkEvent::Unlinked);
        result
    }
}

/// Shuts the stream down when the sender's thread ends, so that the reader ends too.
struct StreamShutdown<'a>(&'a Stream);

impl Drop for StreamShutdown<'_> {
    fn drop(&mut self) {
        // It fails only if the other side was first.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// Ends the sender when the reader's thread ends.
struct LinkShutdown<'a> {
    outgoing: &'a OutgoingMessages,
    stream: &'a Stream,
}

impl Drop for LinkShutdown<'_> {
    fn drop(&mut self) {
        self.outgoing.end();
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// Reads and handles the master's messages.
struct LinkReader<'a> {
    scoreboard: Arc<Scoreboard>,
    events: &'a MailboxSender<LinkEvent>,
    /// Pages of a list of slaves that is not complete yet.
    peers: Vec<PeerSlave>,
    scrubs: &'a mut Option<u64>,
    retries: &'a mut Option<u64>,
    generation: &'a mut GenerationFile,
    certificate: Option<&'a Certificate>,
}

impl LinkReader<'_> {
    /// Reads messages until the link ends.
    fn run(&mut self, connection: &mut Connection) -> Result<(), LinkError> {
        loop {
            match read_message(connection) {
                Ok(message) => self.handle(message)?,
                Err(LinkError::Wire(WireError::Truncated)) => return Ok(()),
                Err(e) => return Err(e),
            }
        }
    }

    fn handle(&mut self, message: LinkMessage) -> Result<(), LinkError> {
        match message {
            LinkMessage::HeartbeatAck {
                lsn,
                time_ms,
                generation,
                draining,
                scrubs,
                copies,
                retries,
            } => {
                self.scoreboard.record_master(time_ms, generation);
                self.generation.write(generation);
                self.scoreboard.set_draining(draining);
                self.scoreboard.set_copies(copies);
                self.events.send(LinkEvent::MasterLsn(lsn));
                // Orders from before this slave connected do not concern it.
                if self.scrubs.replace(scrubs).is_some_and(|before| scrubs > before) {
                    self.events.send(LinkEvent::Scrub(scrubs));
                }
                if self.retries.replace(retries).is_some_and(|before| retries > before) {
                    self.events.send(LinkEvent::Retry);
                }
            }
            LinkMessage::Certificate { chain, renew_s } => {
                if let Some(certificate) = self.certificate {
                    certificate.install(&chain, renew_s);
                }
            }
            LinkMessage::ToSlave(message) => {
                self.events.send(LinkEvent::Message(message));
            }
            LinkMessage::Peers { peers, last } => {
                self.peers.extend(peers);
                if last {
                    self.events.send(LinkEvent::Peers(std::mem::take(&mut self.peers)));
                }
            }
            LinkMessage::AskPaths { query, list } => {
                self.events.send(LinkEvent::PathQuery { query, list });
            }
            LinkMessage::AskTree { query, ids } => {
                self.events.send(LinkEvent::TreeQuery { query, ids });
            }
            LinkMessage::Recovering { epoch } => {
                self.events.send(LinkEvent::Recovering(epoch));
            }
            other => return Err(WireError::Unexpected(other.frame_type().number()).into()),
        }
        Ok(())
    }
}

/// Sends queued messages, and a heartbeat each second.
///
/// A heartbeat that reports the slave as ready is sent at once.
fn send(
    mut connection: Connection,
    queue: &Receiver<LinkMessage>,
    heartbeats: &mut HeartbeatSender,
    stop: &AtomicBool,
    certificate: Option<&Certificate>,
) -> io::Result<()> {
    let (mut next, mut ready) = (Instant::now(), false);
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        if now >= next || !ready && heartbeats.is_ready() {
            let beat = heartbeats.compose();
            ready = beat.state == SlaveState::InService && beat.metrics.get(metric::WORKERS) > 0;
            connection.queue_link(&LinkMessage::Heartbeat(beat));
            next = now + limits::BEAT_EVERY;
        }
        if let Some(query) = certificate.and_then(Certificate::next_request) {
            connection.queue_link(&query);
        }
        connection.flush()?;
        let wait = next.saturating_duration_since(Instant::now());
        match queue.recv_timeout(if ready { wait } else { wait.min(POLL_INTERVAL) }) {
            Ok(message) => {
                connection.queue_link(&message);
                // Queued messages are sent in one call.
                for message in queue.try_iter().take(AT_ONCE) {
                    connection.queue_link(&message);
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

/// Makes the heartbeats.
struct HeartbeatSender {
    own: MetadataFolder,
    scoreboard: Arc<Scoreboard>,
    reader: CatalogReader,
}

impl HeartbeatSender {
    /// Whether the slave can serve sessions.
    fn is_ready(&mut self) -> bool {
        self.scoreboard.alive_workers() > 0
            && !self.scoreboard.is_catalog_writer_stalled()
            && self.with_catalogue(CatalogStore::is_fit).unwrap_or(false)
    }

    /// Queries the catalogue; `None` if it cannot be read.
    fn with_catalogue<T: Default>(
        &mut self,
        query: impl FnOnce(&CatalogStore) -> Result<T, relais_storage::CatalogError>,
    ) -> Option<T> {
        self.reader.ask(query).map_err(|e| warn!("cannot read the catalogue: {e}")).ok()
    }

    /// Returns the space in the folder's file system; zeros if it is unknown.
    fn disk(&self) -> DiskSpace {
        rustix::fs::fstatvfs(self.own.folder()).map_or_else(
            |_| DiskSpace::default(),
            |disk| DiskSpace {
                free: disk.f_bavail.saturating_mul(disk.f_frsize),
                size: disk.f_blocks.saturating_mul(disk.f_frsize),
            },
        )
    }

    fn compose(&mut self) -> Heartbeat {
        let fit = !self.scoreboard.is_catalog_writer_stalled()
            && self.with_catalogue(CatalogStore::is_fit).unwrap_or(false);
        let (metrics, mut last_error, scrub) = self
            .with_catalogue(|store| Ok((store.metrics()?, store.last_error()?, store.scrub()?)))
            .unwrap_or_default();
        if last_error.is_empty() && self.scoreboard.is_displaced() {
            DISPLACED.clone_into(&mut last_error);
        }
        let state = match fit {
            _ if self.scoreboard.is_draining() => SlaveState::Draining,
            true => SlaveState::InService,
            false => SlaveState::CatchingUp,
        };
        Heartbeat {
            state,
            lsn: self.scoreboard.progress().applied(),
            metrics: self.scoreboard.with_pool_metrics(metrics),
            last_error,
            disk: self.disk(),
            scrub,
        }
    }
}

/// Reads the next message of the master; a refusal becomes an error.
fn read_message(connection: &mut Connection) -> Result<LinkMessage, LinkError> {
    let header = connection.read_header()?.ok_or(WireError::Truncated)?;
    decode_link_frame(header.kind, connection.read_payload(header)?)
}
