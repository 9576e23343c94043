//! The slave's side of the link to its master: registers, and sends heartbeats.
//!
//! It begins anew whenever the link fails, for as long as the slave lives, and says once what it is waiting for.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use log::{info, warn};
use relais_net::Connection;
use relais_proto::{Beat, FolderId, LinkMessage, Registration, SlaveId, SlaveState, WireError, limits};
use relais_state::{ClusterKey, LinkError, LinkHandshake, LinkRole, link_frame};

use super::Birth;
use crate::board::Board;
use crate::catalogue::Reader;
use crate::config::Cluster;
use crate::serving::with_pool;

/// Shortest and longest pause between two tries to reach the master.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// How often a slave that is not ready yet looks whether it is.
const LOOK: Duration = Duration::from_millis(50);

/// The thread that keeps the link.
pub struct Link {
    thread: Option<JoinHandle<()>>,
    socket: Arc<Mutex<Option<Arc<TcpStream>>>>,
}

impl Link {
    /// Starts the thread, where the slave belongs to a cluster.
    ///
    /// # Errors
    /// Those of starting a thread.
    pub fn start(birth: &Birth, stop: Arc<AtomicBool>) -> io::Result<Self> {
        let socket = Arc::new(Mutex::new(None));
        let Some(cluster) = birth.config.cluster.clone() else { return Ok(Self { thread: None, socket }) };
        let keeper = LinkThread {
            cluster,
            root: birth.config.root.clone(),
            slave: birth.slave_id,
            folder: birth.folder_id,
            listen: birth.listen,
            board: birth.board.clone(),
            stop,
            socket: socket.clone(),
            reader: None,
            said: String::new(),
        };
        let thread = std::thread::Builder::new().name("link".to_owned()).spawn(move || keeper.run())?;
        Ok(Self { thread: Some(thread), socket })
    }

    /// Whether the thread ended though nobody asked it to.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Ends the thread, whose flag is set already.
    pub fn end(mut self) {
        if let Some(socket) = self.socket.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // It may have been closed by the master already.
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the link's thread failed");
        }
    }
}

struct LinkThread {
    cluster: Cluster,
    root: PathBuf,
    slave: SlaveId,
    folder: FolderId,
    listen: SocketAddr,
    board: Arc<Board>,
    stop: Arc<AtomicBool>,
    socket: Arc<Mutex<Option<Arc<TcpStream>>>>,
    reader: Option<Reader>,
    /// The last complaint, so that it is not said again and again.
    said: String,
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
            pause = if began.elapsed() > PAUSES.1 * 2 { PAUSES.0 } else { (pause * 2).min(PAUSES.1) };
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
            Ok(None) => return Err(format!("waiting for the cluster key {}", self.cluster.key_file.display())),
            Err(e) => return Err(e.to_string()),
        };
        let master = self.cluster.master.clone();
        let mut connection = connect(&master).map_err(|e| format!("waiting for the master at {master}: {e}"))?;
        *self.socket.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection.stream().clone());
        connection.set_silence(limits::BEAT_EVERY * limits::BEATS_MISSED);
        self.register(&mut connection, &key).map_err(|e| format!("the master at {master} refuses this slave: {e}"))?;
        info!("registered at the master {master} as {}", self.slave);
        self.said.clear();
        self.beat(&mut connection).map_err(|e| format!("the link to the master {master} failed: {e}"))
    }

    fn register(&self, connection: &mut Connection, key: &ClusterKey) -> Result<(), String> {
        let text = |e: &dyn std::fmt::Display| e.to_string();
        let mut handshake = LinkHandshake::new(LinkRole::Slave, self.slave, key).map_err(|e| text(&e))?;
        connection.queue(&handshake.hello(crate::agent()));
        connection.queue_link(&handshake.open());
        connection.flush().map_err(|e| text(&e))?;
        let proof = loop {
            let header = connection.read_header().map_err(|e| text(&e))?.ok_or("it closed the connection")?;
            let payload = connection.read_payload(header).map_err(|e| text(&e))?;
            if let Some(proof) = handshake.frame(header.kind, payload).map_err(|e| text(&e))? {
                break proof;
            }
        };
        connection.queue_link(&proof);
        connection.queue_link(&LinkMessage::Register(Registration {
            folder: self.folder,
            listen: vec![self.listen],
            advertise: self.cluster.advertise.clone(),
            mark: self.board.mark(),
        }));
        connection.flush().map_err(|e| text(&e))?;
        match read(connection).map_err(|e| text(&e))? {
            LinkMessage::Registered { mark, time_ms } => {
                self.board.heard_master(mark, time_ms, self.board.generation());
                Ok(())
            }
            other => Err(format!("an unexpected answer: {:?}", other.frame_type())),
        }
    }

    fn beat(&mut self, connection: &mut Connection) -> Result<(), String> {
        while !self.stopping() {
            let beat = self.compose();
            let ready = beat.state == SlaveState::InService && beat.counters.workers > 0;
            connection.queue_link(&LinkMessage::Beat(beat));
            connection.flush().map_err(|e| e.to_string())?;
            match read(connection).map_err(|e| e.to_string())? {
                LinkMessage::BeatAck { mark, time_ms, generation } => self.board.heard_master(mark, time_ms, generation),
                other => return Err(format!("an unexpected answer: {:?}", other.frame_type())),
            }
            self.rest_until_news(ready);
        }
        Ok(())
    }

    /// Waits for the next beat's time; one that brings good news is not put off.
    fn rest_until_news(&mut self, ready: bool) {
        let until = Instant::now() + limits::BEAT_EVERY;
        while !self.stopping() && Instant::now() < until {
            self.rest(if ready { limits::BEAT_EVERY } else { LOOK });
            if !ready && self.board.alive() > 0 && self.is_complete() {
                return;
            }
        }
    }

    fn is_complete(&mut self) -> bool {
        self.ask(Reader::is_complete).unwrap_or(false)
    }

    /// Asks the catalogue; none while it cannot be read.
    fn ask<T>(&mut self, question: impl FnOnce(&mut Reader) -> Result<T, crate::catalogue::CatalogueError>) -> Option<T> {
        if self.reader.is_none() {
            self.reader = Reader::open(&self.root).map_err(|e| warn!("the catalogue cannot be read: {e}")).ok();
        }
        question(self.reader.as_mut()?).map_err(|e| warn!("the catalogue cannot be read: {e}")).ok()
    }

    fn compose(&mut self) -> Beat {
        let complete = self.is_complete();
        let (counters, last_error) = self.ask(|reader| Ok((reader.counters()?, reader.last_error()?))).unwrap_or_default();
        Beat {
            state: if complete { SlaveState::InService } else { SlaveState::CatchingUp },
            mark: self.board.mark(),
            counters: with_pool(counters, &self.board),
            last_error,
        }
    }
}

fn connect(master: &str) -> io::Result<Connection> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for addr in master.to_socket_addrs()? {
        match Connection::connect(addr, limits::CONNECT_TIME) {
            Ok(connection) => return Ok(connection),
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// The next message of the master; its refusal is an error.
fn read(connection: &mut Connection) -> Result<LinkMessage, LinkError> {
    let header = connection.read_header()?.ok_or(WireError::Truncated)?;
    link_frame(header.kind, connection.read_payload(header)?)
}
