//! Fetching contents from other slaves: several at once, each checked, on the disk before it is told of.
//!
//! A part that was cut off is kept while this process lives, and gone on with from whoever has the content. Where
//! each content goes, and whether it is still wanted, is decided by who gave the order.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use log::{debug, error, warn};
use relais_cluster::replica::{Blame, MissingContent};
use relais_net::Connection;
use relais_net::tls::{Dialer, Trust};
use relais_proto::{FileTime, FolderId, Lsn, Peer, Reply, Request, SlaveId, limits};
use relais_state::{ClusterKey, LinkHandshake, LinkRole};
use relais_transfer::Ranges;
use relais_transfer::fetch::{FetchError, Progress, Resume, Sessions, fetch};
use relais_tree::{TreeError, set_mode, set_times};

use crate::staging::{StagedName, Staging};

/// How many are fetched at the same time.
const THREADS: usize = 8;
/// Time to connect to another slave.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Parts that are remembered, so that they can be gone on with.
const MAX_PARTS: usize = 256;

/// What came of an order.
#[derive(Debug)]
pub struct FetchResult {
    /// The put.
    pub put: Lsn,
    /// Whom it was ordered from.
    pub from: FolderId,
    /// The staged file that holds the content, on the disk.
    pub result: Result<FetchedFile, FetchFailure>,
}

/// Why content did not come.
#[derive(Debug)]
pub struct FetchFailure {
    /// Which side it lies with.
    pub blame: Blame,
    /// The reason where it could not be stored here, and the same would be so at once again.
    pub lasting: Option<String>,
}

impl From<Blame> for FetchFailure {
    fn from(blame: Blame) -> Self {
        Self { blame, lasting: None }
    }
}

/// Content that came whole. As long as its file is held nobody else writes it.
#[derive(Debug)]
pub struct FetchedFile {
    /// Its staged name.
    pub name: StagedName,
    /// Its file, locked.
    pub file: File,
}

struct FetchJob {
    put: Lsn,
    missing: MissingContent,
    from: FolderId,
}

/// What all threads share.
struct FetchContext {
    slave: SlaveId,
    key_file: PathBuf,
    dialer: Dialer,
    staging: Staging,
    peers: Mutex<Vec<Peer>>,
    /// What is known of parts that were cut off.
    parts: Mutex<HashMap<Lsn, Resume>>,
    jobs: Mutex<Receiver<FetchJob>>,
    wake: OwnedFd,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes orders and gives contents back.
pub struct FetchPool {
    orders: Sender<FetchJob>,
    done: Receiver<FetchResult>,
    context: Arc<FetchContext>,
}

impl FetchPool {
    /// Starts the threads. They end when this is dropped, each after what it is doing.
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn start(
        slave: SlaveId,
        key_file: PathBuf,
        dialer: Dialer,
        staging: Staging,
    ) -> io::Result<Self> {
        let ((orders, jobs), (tell, done)) = (channel(), channel());
        let context = Arc::new(FetchContext {
            slave,
            key_file,
            dialer,
            staging,
            peers: Mutex::default(),
            parts: Mutex::default(),
            jobs: Mutex::new(jobs),
            wake: relais_net::wake_fd()?,
        });
        for _ in 0..THREADS {
            let (context, tell) = (context.clone(), tell.clone());
            std::thread::Builder::new()
                .name("fetch".to_owned())
                .spawn(move || run_worker(&context, &tell))?;
        }
        Ok(Self { orders, done, context })
    }

    /// Who the other slaves are.
    pub fn set_peers(&self, peers: Vec<Peer>) {
        *lock(&self.context.peers) = peers;
    }

    /// Has content fetched from one folder's slaves.
    pub fn order(&self, put: Lsn, missing: MissingContent, from: FolderId) {
        if self.orders.send(FetchJob { put, missing, from }).is_err() {
            warn!("nobody fetches content any more");
        }
    }

    /// Frees the parts of contents that nobody wants any more.
    pub fn keep_parts(&self, wanted: impl Fn(Lsn) -> bool) {
        lock(&self.context.parts).retain(|put, _| {
            let keep = wanted(*put);
            if !keep {
                self.context.staging.discard(&StagedName::of_put(*put));
            }
            keep
        });
    }

    /// What was done since.
    #[must_use]
    pub fn take(&self) -> Vec<FetchResult> {
        // The counter starts anew; what comes meanwhile is taken as well.
        let _ = rustix::io::read(&self.context.wake, &mut [0_u8; 8]);
        self.done.try_iter().collect()
    }

    /// Can be read when something was done.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.context.wake.as_fd()
    }
}

/// What `fetch` comes to; none where it panics. Others wait for each result, so that there has to be one.
fn catch_panic<T>(fetch: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(fetch)).ok()
}

fn run_worker(context: &FetchContext, tell: &Sender<FetchResult>) {
    let mut peer = None;
    loop {
        let Ok(FetchJob { put, missing, from }) = lock(&context.jobs).recv() else { return };
        let result = catch_panic(|| fetch_one(context, &mut peer, put, &missing, from));
        if result.is_none() {
            // Whatever it was in the middle of is of no use any more.
            peer = None;
            error!("the thread that fetches {} failed; it is tried again", missing.path);
        }
        let result = result.unwrap_or_else(|| Err(Blame::Holder.into()));
        if tell.send(FetchResult { put, from, result }).is_err() {
            return;
        }
        if let Err(e) = rustix::io::write(&context.wake, &1_u64.to_ne_bytes()) {
            debug!("the keeper has been woken already: {e}");
        }
    }
}

/// An open connection to a slave.
struct PeerConnection {
    folder: FolderId,
    addr: SocketAddr,
    connection: Connection,
    /// The latest change that the other slave was told of.
    seen: Lsn,
}

fn fetch_one(
    context: &FetchContext,
    peer: &mut Option<PeerConnection>,
    put: Lsn,
    missing: &MissingContent,
    from: FolderId,
) -> Result<FetchedFile, FetchFailure> {
    let name = StagedName::of_put(put);
    let here = |what: &str, e: &TreeError| {
        warn!("{} cannot be stored: cannot {what}: {e}", missing.path);
        FetchFailure { blame: Blame::Here, lasting: (!e.is_transient()).then(|| e.reason()) }
    };
    // From here on nobody else frees the part.
    let known = lock(&context.parts).remove(&put);
    let part = context.staging.claim(&name).map_err(|e| here("make its file", &e))?;
    let resume = known.unwrap_or_else(|| Resume {
        size: missing.size,
        mtime: FileTime::default(),
        digest: Some(missing.digest),
        identity: None,
        version: Some(put),
        good: Ranges::new(),
    });
    let mut sessions = FolderSessions { context, peer, put, from, failed: false };
    let mut checkpoint = LastCheckpoint(None);
    let fetched = match fetch(&mut sessions, &missing.path, &part, Some(resume), &mut checkpoint) {
        Ok(fetched) => fetched,
        Err(FetchError::Local { error, what }) => {
            context.staging.discard(&name);
            return Err(here(what, &TreeError::Io(what, error)));
        }
        Err(e) => {
            debug!("{} cannot be fetched from folder {from}: {e}", missing.path);
            match checkpoint.0.filter(|_| e.can_resume()) {
                Some(resume) => remember(context, put, resume),
                None => context.staging.discard(&name),
            }
            return Err(Blame::Holder.into());
        }
    };
    if fetched.digest != missing.digest {
        debug!("{}: folder {from} has other content there", missing.path);
        context.staging.discard(&name);
        return Err(Blame::Holder.into());
    }
    let completed = set_mode(&part, fetched.mode)
        .and_then(|()| set_times(&part, fetched.mtime))
        .and_then(|()| part.sync_all().map_err(|e| TreeError::Io("sync the file", e)));
    completed.map_err(|e| {
        context.staging.discard(&name);
        here("complete it", &e)
    })?;
    Ok(FetchedFile { name, file: part })
}

fn remember(context: &FetchContext, put: Lsn, resume: Resume) {
    let mut parts = lock(&context.parts);
    if parts.len() >= MAX_PARTS
        && let Some(oldest) = parts.keys().min().copied()
    {
        parts.remove(&oldest);
        context.staging.discard(&StagedName::of_put(oldest));
    }
    parts.insert(put, resume);
}

/// Keeps what a later fetch needs to go on.
struct LastCheckpoint(Option<Resume>);

impl Progress for LastCheckpoint {
    fn checkpoint(&mut self, state: &Resume) {
        self.0 = Some(state.clone());
    }
}

/// The slaves of one folder, as where content comes from. One that fails is not tried again for the same content.
struct FolderSessions<'a> {
    context: &'a FetchContext,
    peer: &'a mut Option<PeerConnection>,
    put: Lsn,
    from: FolderId,
    failed: bool,
}

impl Sessions for FolderSessions<'_> {
    fn connection(&mut self) -> Result<&mut Connection, FetchError> {
        if self.failed {
            return Err(FetchError::Unreachable("the other slave failed".to_owned()));
        }
        if self
            .peer
            .as_ref()
            .is_none_or(|peer| peer.folder != self.from || !is_idle(&peer.connection))
        {
            *self.peer = Some(self.dial()?);
        }
        match self.peer.as_mut() {
            Some(peer) => {
                // Whoever took the put may not have made it yet: then it waits until it has.
                if peer.seen < self.put {
                    peer.seen = self.put;
                    peer.connection.queue(&Request::Seen { mark: self.put });
                }
                Ok(&mut peer.connection)
            }
            None => Err(FetchError::Unreachable("there is no connection".to_owned())),
        }
    }

    fn failed(&mut self, why: &str) {
        if let Some(peer) = self.peer.take() {
            debug!("{} failed: {why}", peer.addr);
        }
        self.failed = true;
    }
}

impl FolderSessions<'_> {
    fn dial(&self) -> Result<PeerConnection, FetchError> {
        let peers: Vec<Peer> = lock(&self.context.peers)
            .iter()
            .filter(|peer| peer.folder == self.from)
            .cloned()
            .collect();
        let mut why = "no slave of that folder is known".to_owned();
        for addr in peers.iter().flat_map(|peer| &peer.addrs) {
            match self.open(*addr) {
                Ok(connection) => {
                    return Ok(PeerConnection {
                        folder: self.from,
                        addr: *addr,
                        connection,
                        seen: Lsn::default(),
                    });
                }
                Err(e) => why = format!("{addr}: {e}"),
            }
        }
        Err(FetchError::Unreachable(why))
    }

    fn open(&self, addr: SocketAddr) -> Result<Connection, String> {
        let text = |e: &dyn std::fmt::Display| e.to_string();
        let key = ClusterKey::load(&self.context.key_file)
            .map_err(|e| text(&e))?
            .ok_or("there is no cluster key")?;
        let mut connection = self
            .context
            .dialer
            .connect(addr, CONNECT_TIMEOUT, &Trust::Anyone, "")
            .map_err(|e| text(&e))?;
        connection.set_silence(limits::SILENCE);
        let mut handshake =
            LinkHandshake::new(LinkRole::Peer, self.context.slave, &key, connection.binding())
                .map_err(|e| text(&e))?;
        let (hello, open) = (handshake.hello(crate::agent()), handshake.open());
        connection
            .prove(&hello, &open, |kind, payload| handshake.frame(kind, payload))
            .map_err(|e| text(&e))?;
        connection.flush().map_err(|e| text(&e))?;
        loop {
            match connection
                .read_reply()
                .map_err(|e| text(&e))?
                .ok_or("it closed the connection")?
            {
                Reply::Wait(_) | Reply::Alone { .. } => {}
                Reply::Opened { .. } => return Ok(connection),
                Reply::Error(refusal) => return Err(refusal.message),
                other => return Err(format!("an unexpected answer: {:?}", other.frame_type())),
            }
        }
    }
}

/// Whether a connection on which nothing is asked is still good: open, and nothing has come.
fn is_idle(connection: &Connection) -> bool {
    use rustix::net::RecvFlags;
    let peek =
        rustix::net::recv(connection.stream(), &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT);
    !connection.has_input() && matches!(peek, Err(rustix::io::Errno::WOULDBLOCK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_in_a_fetch_has_a_result() {
        assert_eq!(catch_panic(|| 1), Some(1));
        assert_eq!(catch_panic(|| -> u8 { panic!("a test wants it") }), None);
    }
}
