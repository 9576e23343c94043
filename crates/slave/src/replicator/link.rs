//! The slave's side of the link to its master: registers, sends heartbeats, and carries what both say about changes.
//!
//! It begins anew whenever the link fails, for as long as the slave lives, and says once what it is waiting for.
//! One thread reads, another one sends, so that neither side ever waits for the other to read.

use std::io;
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use log::{debug, info, warn};
use relais_net::tls::{Dialer, Trust};
use relais_net::{Connection, Socket};
use relais_proto::{
    DiskSpace, ErrorCode, FolderId, Heartbeat, LinkMessage, Peer, Registration, SlaveId,
    SlaveState, WireError, limits,
};
use relais_state::{ClusterKey, LinkError, LinkHandshake, LinkRole, link_frame};

use super::ReplicatorSetup;
use super::mailbox::{IdConflict, LinkEvent, LinkEventSender, OutgoingMessages};
use crate::catalogue::{CatalogReader, MetadataFolder};
use crate::certificate::Certificate;
use crate::config::Cluster;
use crate::generation::GenerationFile;
use crate::scoreboard::Scoreboard;
use crate::serving::{DISPLACED, with_pool};

/// Shortest and longest pause between two tries to reach the master.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// How often a slave that is not ready yet looks whether it is.
const LOOK: Duration = Duration::from_millis(50);

/// The threads that keep the link.
pub struct Link {
    thread: Option<JoinHandle<()>>,
    socket: LinkSocket,
}

/// The socket of the link that is there, for whoever ends it.
type LinkSocket = Arc<Mutex<Option<Arc<Socket>>>>;

impl Link {
    /// Starts the thread, where the slave belongs to a cluster.
    ///
    /// # Errors
    /// Those of starting a thread.
    pub fn start(
        setup: &ReplicatorSetup,
        stop: Arc<AtomicBool>,
        events: LinkEventSender,
        outgoing: Arc<OutgoingMessages>,
    ) -> io::Result<Self> {
        let socket = LinkSocket::default();
        let Some(cluster) = setup.config.cluster.clone() else {
            return Ok(Self { thread: None, socket });
        };
        let keeper = LinkThread {
            cluster,
            slave: setup.slave_id,
            folder: setup.folder_id,
            listen: setup.listen,
            heartbeats: HeartbeatSender {
                own: setup.own.clone(),
                scoreboard: setup.scoreboard.clone(),
                reader: None,
            },
            stop,
            socket: socket.clone(),
            events,
            outgoing,
            number: 0,
            scrubs: None,
            retries: None,
            id_conflict: IdConflict::default(),
            generation: GenerationFile::open(&setup.own)?,
            said: String::new(),
            certificate: setup.certificate.clone(),
            dialer: Dialer::new(setup.config.tls.encrypt)?,
        };
        let thread =
            std::thread::Builder::new().name("link".to_owned()).spawn(move || keeper.run())?;
        Ok(Self { thread: Some(thread), socket })
    }

    /// Whether the thread ended though nobody asked it to.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Ends the thread, whose flag is set already.
    pub fn end(mut self) {
        shut(&self.socket);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the link's thread failed");
        }
    }
}

fn shut(socket: &LinkSocket) {
    if let Some(socket) = socket.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // It may have been closed by the master already.
        let _ = socket.shutdown(Shutdown::Both);
    }
}

struct LinkThread {
    cluster: Cluster,
    slave: SlaveId,
    folder: FolderId,
    listen: SocketAddr,
    heartbeats: HeartbeatSender,
    stop: Arc<AtomicBool>,
    socket: LinkSocket,
    events: LinkEventSender,
    outgoing: Arc<OutgoingMessages>,
    /// Counts links.
    number: u64,
    /// What the master last said of it; none before it said anything.
    scrubs: Option<u64>,
    /// How often the master has said that what was refused is to be tried again; none before it said anything.
    retries: Option<u64>,
    /// Whether the master says that another slave has our id.
    id_conflict: IdConflict,
    /// Where the accounts' generation is kept.
    generation: GenerationFile,
    /// The last complaint, so that it is not said again and again.
    said: String,
    certificate: Option<Arc<Certificate>>,
    dialer: Dialer,
}

impl LinkThread {
    fn run(mut self) {
        let mut pause = PAUSES.0;
        while !self.stopping() {
            let began = Instant::now();
            match self.hold() {
                Ok(()) => self.say("the master closed the link".to_owned()),
                Err(why) => self.say(why),
            }
            // A link that held for a while failed for a new reason: try again soon.
            pause =
                if began.elapsed() > PAUSES.1 * 2 { PAUSES.0 } else { (pause * 2).min(PAUSES.1) };
            self.rest(pause);
        }
    }

    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn say(&mut self, what: String) {
        if self.said != what && !self.stopping() {
            warn!("{what}; trying again");
            self.said = what;
        }
    }

    fn rest(&self, pause: Duration) {
        let until = Instant::now() + pause;
        while !self.stopping() && Instant::now() < until {
            std::thread::sleep(LOOK.min(until.saturating_duration_since(Instant::now())));
        }
    }

    /// Opens a link and keeps it until it fails.
    fn hold(&mut self) -> Result<(), String> {
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
        let mut connection = connect(&self.dialer, &master)
            .map_err(|e| format!("waiting for the master at {master}: {e}"))?;
        *self.socket.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(connection.stream().clone());
        connection.set_silence(limits::BEAT_EVERY * limits::BEATS_MISSED);
        self.register(&mut connection, &key)
            .map_err(|e| format!("the master at {master} refuses this slave: {e}"))?;
        info!("registered at the master {master} as {}", self.slave);
        self.said.clear();
        self.talk(connection).map_err(|e| format!("the link to the master {master} failed: {e}"))
    }

    fn register(&mut self, connection: &mut Connection, key: &ClusterKey) -> Result<(), String> {
        let text = |e: &dyn std::fmt::Display| e.to_string();
        let mut handshake =
            LinkHandshake::new(LinkRole::Slave, self.slave, key, connection.binding())
                .map_err(|e| text(&e))?;
        let (hello, open) = (handshake.hello(crate::agent()), handshake.open());
        connection
            .prove(&hello, &open, |kind, payload| handshake.frame(kind, payload))
            .map_err(|e| text(&e))?;
        connection.queue_link(&LinkMessage::Register(Registration {
            folder: self.folder,
            listen: vec![self.listen],
            advertise: self.cluster.advertise.clone(),
            mark: self.heartbeats.scoreboard.applied_lsn(),
        }));
        connection.flush().map_err(|e| text(&e))?;
        let answer = read(connection);
        if let Err(LinkError::Refused(refusal)) = &answer
            && refusal.code == ErrorCode::Exists
        {
            self.id_conflict.note(&self.heartbeats.scoreboard);
        }
        match answer.map_err(|e| text(&e))? {
            LinkMessage::Registered { mark, time_ms } => {
                self.id_conflict = IdConflict::default();
                self.heartbeats
                    .scoreboard
                    .record_master(time_ms, self.heartbeats.scoreboard.generation());
                self.events.put(LinkEvent::MasterLsn(mark));
                Ok(())
            }
            other => Err(format!("an unexpected answer: {:?}", other.frame_type())),
        }
    }

    /// Reads what the master says, while another thread sends.
    fn talk(&mut self, mut connection: Connection) -> Result<(), String> {
        self.number += 1;
        let queue = self.outgoing.begin(self.number);
        self.events.put(LinkEvent::Linked(self.number));
        self.heartbeats.scoreboard.set_master_connected(true);
        let certificate = self.certificate.as_deref();
        certificate.iter().for_each(|certificate| certificate.request_on_new_link());
        let stream = connection.stream().clone();
        let result = std::thread::scope(|scope| {
            // A thread that panics ends the other one, so that the link's end is noticed.
            let _end = LinkShutdown { outgoing: &self.outgoing, stream: &stream };
            let scoreboard = self.heartbeats.scoreboard.clone();
            let (heartbeats, stop, stream, writing) =
                (&mut self.heartbeats, &self.stop, &stream, connection.writer());
            let sender = std::thread::Builder::new().name("beats".to_owned()).spawn_scoped(
                scope,
                move || {
                    let _shutdown = SocketShutdown(stream);
                    send(writing, &queue, heartbeats, stop, certificate)
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
            let heard = reader.listen(&mut connection);
            // The sender sees that its queue is closed.
            self.outgoing.end();
            let _ = stream.shutdown(Shutdown::Both);
            match (heard, sender.join()) {
                (_, Ok(Err(e))) => Err(e.to_string()),
                (Err(e), _) => Err(e.to_string()),
                (Ok(()), Ok(Ok(()))) => Ok(()),
                (Ok(()), Err(_)) => Err("the sending thread failed".to_owned()),
            }
        });
        self.outgoing.end();
        self.heartbeats.scoreboard.set_master_connected(false);
        self.events.put(LinkEvent::Unlinked);
        result
    }
}

/// Wakes the reader, which ends then, however the sender's thread ends.
struct SocketShutdown<'a>(&'a Socket);

impl Drop for SocketShutdown<'_> {
    fn drop(&mut self) {
        // It fails only where the other side was first.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// Ends the sender, however the reader's thread ends.
struct LinkShutdown<'a> {
    outgoing: &'a OutgoingMessages,
    stream: &'a Socket,
}

impl Drop for LinkShutdown<'_> {
    fn drop(&mut self) {
        self.outgoing.end();
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// Takes what the master says.
struct LinkReader<'a> {
    scoreboard: Arc<Scoreboard>,
    events: &'a LinkEventSender,
    /// Pages of a list of slaves that is not whole yet.
    peers: Vec<Peer>,
    scrubs: &'a mut Option<u64>,
    retries: &'a mut Option<u64>,
    generation: &'a mut GenerationFile,
    certificate: Option<&'a Certificate>,
}

impl LinkReader<'_> {
    /// Until the link ends.
    fn listen(&mut self, connection: &mut Connection) -> Result<(), LinkError> {
        loop {
            match read(connection) {
                Ok(message) => self.take(message)?,
                Err(LinkError::Wire(WireError::Truncated)) => return Ok(()),
                Err(e) => return Err(e),
            }
        }
    }

    fn take(&mut self, message: LinkMessage) -> Result<(), LinkError> {
        match message {
            LinkMessage::HeartbeatAck {
                mark,
                time_ms,
                generation,
                draining,
                scrubs,
                copies,
                retries,
            } => {
                self.scoreboard.record_master(time_ms, generation);
                self.generation.note(generation);
                self.scoreboard.set_draining(draining);
                self.scoreboard.set_copies(copies);
                self.events.put(LinkEvent::MasterLsn(mark));
                // What was ordered before this slave came concerns it no more.
                if self.scrubs.replace(scrubs).is_some_and(|before| scrubs > before) {
                    self.events.put(LinkEvent::Scrub(scrubs));
                }
                if self.retries.replace(retries).is_some_and(|before| retries > before) {
                    self.events.put(LinkEvent::Retry);
                }
            }
            LinkMessage::Certificate { chain, renew_s } => {
                if let Some(certificate) = self.certificate {
                    certificate.install(&chain, renew_s);
                }
            }
            LinkMessage::ToSlave(message) => self.events.put(LinkEvent::Message(message)),
            LinkMessage::Peers { peers, last } => {
                self.peers.extend(peers);
                if last {
                    self.events.put(LinkEvent::Peers(std::mem::take(&mut self.peers)));
                }
            }
            LinkMessage::AskPaths { query, list } => {
                self.events.put(LinkEvent::PathQuery { query, list });
            }
            LinkMessage::AskTree { query, ids } => {
                self.events.put(LinkEvent::TreeQuery { query, ids })
            }
            LinkMessage::Recovering { epoch } => self.events.put(LinkEvent::Recovering(epoch)),
            other => return Err(WireError::Unexpected(other.frame_type().number()).into()),
        }
        Ok(())
    }
}

/// Sends what is queued, and a heartbeat each second; one that brings good news is not put off.
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
            ready = beat.state == SlaveState::InService && beat.counters.workers > 0;
            connection.queue_link(&LinkMessage::Heartbeat(beat));
            next = now + limits::BEAT_EVERY;
        }
        if let Some(question) = certificate.and_then(Certificate::next_request) {
            connection.queue_link(&question);
        }
        connection.flush()?;
        let wait = next.saturating_duration_since(Instant::now());
        match queue.recv_timeout(if ready { wait } else { wait.min(LOOK) }) {
            Ok(message) => {
                connection.queue_link(&message);
                // What lies ready goes out in one call.
                for message in queue.try_iter().take(AT_ONCE) {
                    connection.queue_link(&message);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                debug!("the link is to be closed");
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Most messages that are sent in one call of the system.
const AT_ONCE: usize = 256;

/// Knows what a heartbeat says.
struct HeartbeatSender {
    own: MetadataFolder,
    scoreboard: Arc<Scoreboard>,
    reader: Option<CatalogReader>,
}

impl HeartbeatSender {
    /// Whether sessions can be served.
    fn is_ready(&mut self) -> bool {
        self.scoreboard.alive_workers() > 0
            && !self.scoreboard.is_catalog_writer_stalled()
            && self.ask(CatalogReader::is_fit).unwrap_or(false)
    }

    /// Asks the catalogue; none while it cannot be read.
    fn ask<T>(
        &mut self,
        question: impl FnOnce(&mut CatalogReader) -> Result<T, crate::catalogue::CatalogError>,
    ) -> Option<T> {
        if self.reader.is_none() {
            self.reader = CatalogReader::open(&self.own)
                .map_err(|e| warn!("the catalogue cannot be read: {e}"))
                .ok();
        }
        question(self.reader.as_mut()?).map_err(|e| warn!("the catalogue cannot be read: {e}")).ok()
    }

    /// The room in the folder's file system; nothing where that cannot be told.
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
            && self.ask(CatalogReader::is_fit).unwrap_or(false);
        let (counters, mut last_error, scrub) = self
            .ask(|reader| Ok((reader.counters()?, reader.last_error()?, reader.scrub()?)))
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
            mark: self.scoreboard.applied_lsn(),
            counters: with_pool(counters, &self.scoreboard),
            last_error,
            disk: self.disk(),
            scrub,
        }
    }
}

fn connect(dialer: &Dialer, master: &str) -> io::Result<Connection> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for addr in master.to_socket_addrs()? {
        // Who it is the proof of the key tells, on this very line.
        match dialer.connect(addr, limits::CONNECT_TIME, &Trust::Anyone, master) {
            Ok(connection) => return Ok(connection),
            Err(e) => last = e.into(),
        }
    }
    Err(last)
}

/// The next message of the master; its refusal is an error.
fn read(connection: &mut Connection) -> Result<LinkMessage, LinkError> {
    let header = connection.read_header()?.ok_or(WireError::Truncated)?;
    link_frame(header.kind, connection.read_payload(header)?)
}
