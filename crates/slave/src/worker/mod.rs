//! A worker process: accepts connections, gives each session a thread, and keeps the queue.
//!
//! It opens the served folder and the catalogue for reading, and never changes either. What it
//! shares with other processes is the scoreboard and the mailboxes. It ends when the supervisor
//! says so through the control socket, or is gone.

pub mod active_uploads;
pub mod login;
pub mod mailbox;
pub mod passwords;
mod pending_changes;
mod send;
mod session;
mod upload_receiver;
mod wait_queue;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Shutdown, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::{debug, error, warn};
use relais_net::tls::{TlsServer, all_delivered};
use relais_net::{Connection, PreAuthPool, Socket, Stream, room_beside};
use relais_proto::LogRateLimiter;

use self::login::{LoginPolicy, SlaveLogin};
use self::mailbox::{WorkerMailbox, WorkerMessage};
use self::wait_queue::WaitQueue;
use crate::scoreboard::{PEER_SLOTS, Scoreboard};
use crate::serving::{ServingContext, Session};

/// Connections without a login that one worker keeps. A login takes microseconds once its bytes are there, and each
/// stranger may make the worker hold a ticket's worth of bytes.
const PRE_AUTH_CONNECTIONS: usize = 512;
/// Descriptors that a session may have open: its socket, three where that is encrypted, the way to the replicator, a file, a folder or
/// a second file, and one more on the way from one to the other.
const DESCRIPTORS_PER_SESSION: u64 = 7;
/// Those of a session that waits: one, and two more where it is encrypted.
const DESCRIPTORS_PER_QUEUED_SESSION: u64 = 3;
/// Descriptors that a worker keeps for everything else: catalogue connections above all.
const RESERVED_DESCRIPTORS: u64 = 128;
/// Longest time between two rounds of the worker's loop.
const LOOP_INTERVAL: Duration = Duration::from_millis(500);
/// Bytes of requests that a session reads ahead; more wait in the socket.
const READ_AHEAD: usize = 8 * 1024;
/// Stack of a session's thread: SQLite and our frames need far less.
const STACK: usize = 512 * 1024;

/// What a worker is given at its setup.
pub struct WorkerSetup {
    /// Its row on the scoreboard and its mailbox.
    pub index: usize,
    /// The shared listening socket.
    pub listener: TcpListener,
    /// Can be read when the worker shall end.
    pub control: OwnedFd,
    /// The folder and what goes with it.
    pub serving: ServingContext,
    /// Who may open a session.
    pub policy: LoginPolicy,
    /// Every worker's mailbox.
    pub mailboxes: Arc<Vec<WorkerMailbox>>,
    /// How connections are encrypted.
    pub tls: TlsServer,
}

/// What the threads of a worker share.
struct SessionPool {
    index: usize,
    serving: ServingContext,
    scoreboard: Arc<Scoreboard>,
    mailboxes: Arc<Vec<WorkerMailbox>>,
    sessions: Mutex<HashMap<u64, Arc<Socket>>>,
    ended: Condvar,
    next: AtomicU64,
}

/// Runs a worker until it is told to end.
///
/// # Errors
/// Those that make the worker useless; single connections never do.
pub fn run(setup: WorkerSetup) -> io::Result<()> {
    let WorkerSetup { index, listener, control, serving, policy, mailboxes, tls } = setup;
    let scoreboard = serving.scoreboard.clone();
    let pool = Arc::new(SessionPool {
        index,
        scoreboard: scoreboard.clone(),
        serving,
        mailboxes,
        sessions: Mutex::default(),
        ended: Condvar::new(),
        next: AtomicU64::new(0),
    });
    let policy = Arc::new(policy);
    let reserve = RESERVED_DESCRIPTORS
        + (scoreboard.slots() + PEER_SLOTS) * DESCRIPTORS_PER_SESSION
        + scoreboard.queue() * DESCRIPTORS_PER_QUEUED_SESSION;
    let mut pre_auth =
        PreAuthPool::new(listener, room_beside(reserve, PRE_AUTH_CONNECTIONS), Some(tls))?;
    let mut queue = WaitQueue::default();
    pool.start_inherited();
    let mut drained = DrainState::No;
    loop {
        scoreboard.tick(index);
        // What comes behind this wakes the poll that follows.
        policy.drain();
        let wake: Vec<BorrowedFd<'_>> = [control.as_fd(), pool.mailboxes[index].as_fd()]
            .into_iter()
            .chain(policy.wake())
            .collect();
        let arrivals = pre_auth.poll(true, &wake, Some(LOOP_INTERVAL), &mut |peer, local| {
            SlaveLogin::new(policy.clone(), scoreboard.clone(), index, peer, local)
        })?;
        for arrival in arrivals {
            queue.join(arrival.stream, arrival.value);
        }
        pool.read_mailbox();
        while let Some((worker, stream, session)) = queue.next_with_place() {
            pool.place(worker, stream, session);
        }
        queue.send_keepalives();
        pool.drain(&mut drained);
        if is_readable(&control)? {
            break;
        }
    }
    drop(pre_auth);
    drop(queue);
    pool.wind_down();
    Ok(())
}

/// Whether there is something to read, or the other side is gone.
fn is_readable(fd: &OwnedFd) -> io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    match poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// How far sessions were told to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DrainState {
    No,
    /// They read no further request, since then.
    ReadsEnded(Instant),
    Cut,
}

/// How long a session that is to go may end its answer.
const LAST_ANSWER_TIME: Duration = Duration::from_secs(2);

impl SessionPool {
    /// Where the slave is being drained, has its sessions move on: soon they are cut, and go on elsewhere at the next byte.
    fn drain(&self, drained: &mut DrainState) {
        *drained = match (*drained, self.scoreboard.is_draining()) {
            (_, false) => DrainState::No,
            (DrainState::No, true) => {
                self.shut_all(Shutdown::Read);
                DrainState::ReadsEnded(Instant::now())
            }
            (DrainState::ReadsEnded(since), true) if since.elapsed() >= LAST_ANSWER_TIME => {
                self.shut_all(Shutdown::Both);
                DrainState::Cut
            }
            (other, true) => other,
        }
    }

    fn shut_all(&self, how: Shutdown) {
        for stream in self.lock().values() {
            if let Err(e) = stream.shutdown(how) {
                debug!("a session has ended already: {e}");
            }
        }
    }

    /// Starts the sessions that were on their way to a worker that died. Their places went with its row,
    /// and nobody sends more before this worker has ticked.
    fn start_inherited(self: &Arc<Self>) {
        while let Ok(Some(mail)) = self.mailboxes[self.index].receive() {
            match mail {
                WorkerMessage::Session(stream, session)
                    if self.scoreboard.take_slot(self.index) =>
                {
                    self.scoreboard.move_address_session(self.index, stream.peer.ip());
                    self.start(stream, session);
                }
                WorkerMessage::TransferLog(file) => self.take_log(file),
                _ => {}
            }
        }
    }

    fn read_mailbox(self: &Arc<Self>) {
        loop {
            match self.mailboxes[self.index].receive() {
                Ok(Some(WorkerMessage::Session(stream, session))) => self.start(stream, session),
                Ok(Some(WorkerMessage::SlotFree)) => {}
                Ok(Some(WorkerMessage::TransferLog(file))) => self.take_log(file),
                Ok(Some(WorkerMessage::EndUpload(name))) => self.serving.uploads.end_here(&name),
                Ok(None) => return,
                Err(e) => {
                    error!("a message to this worker was lost: {e}");
                    return;
                }
            }
        }
    }

    fn take_log(&self, file: File) {
        if let Some(log) = &self.serving.transfers {
            log.take(file);
        }
    }

    /// Brings a session to the worker in which a place was taken for it.
    fn place(self: &Arc<Self>, worker: usize, stream: Stream, session: Session) {
        if worker == self.index {
            return self.start(stream, session);
        }
        if let Err(e) = self.mailboxes[worker].send_session(&stream, &session) {
            warn!("a session could not be handed to worker {worker}: {e}");
            self.scoreboard.remove_address_session(worker, stream.peer.ip());
            self.scoreboard.free_slot(worker);
        }
    }

    /// Gives a session that has a place in this worker its thread.
    fn start(self: &Arc<Self>, stream: Stream, session: Session) {
        let (number, addr) = (
            self.next.fetch_add(1, Ordering::Relaxed),
            (!session.peer).then_some(stream.peer.ip()),
        );
        let slot = SessionSlot { pool: self.clone(), number, addr };
        let connection = match Connection::over(stream, READ_AHEAD) {
            Ok(connection) => connection,
            Err(e) => return debug!("a client left before its session began: {e}"),
        };
        self.lock().insert(slot.number, connection.stream().clone());
        let (pool, socket) = (self.clone(), connection.stream().clone());
        let run = move || {
            // Ends with the thread, however that ends.
            let _slot = slot;
            session::serve(connection, &session, &pool.serving);
        };
        if let Err(e) =
            std::thread::Builder::new().name("session".to_owned()).stack_size(STACK).spawn(run)
        {
            static NO_THREAD: LogRateLimiter = LogRateLimiter::new();
            if let Some(more) = NO_THREAD.turn(Instant::now()) {
                warn!("no thread for a session: {e}{more}");
            }
            wait_queue::refuse_session(&socket);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Socket>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets each session end the answer that it is giving, and reads no further request.
    fn wind_down(&self) {
        self.serving.wind_down();
        let mut sessions = self.lock();
        for stream in sessions.values() {
            if let Err(e) = stream.shutdown(Shutdown::Read) {
                debug!("a session has ended already: {e}");
            }
        }
        // The supervisor kills whoever takes longer than the grace.
        while !sessions.is_empty() {
            self.scoreboard.tick(self.index);
            sessions = self
                .ended
                .wait_timeout(sessions, LOOP_INTERVAL)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        drop(sessions);
        // What they said last may be on its way through the encryption still.
        while !all_delivered(LOOP_INTERVAL) {
            self.scoreboard.tick(self.index);
        }
    }
}

/// A place in the pool, given back when the session ends.
struct SessionSlot {
    pool: Arc<SessionPool>,
    number: u64,
    /// Which client's it is; none for another slave.
    addr: Option<IpAddr>,
}

impl Drop for SessionSlot {
    fn drop(&mut self) {
        self.pool.lock().remove(&self.number);
        self.pool.ended.notify_all();
        let Some(addr) = self.addr else {
            return self.pool.scoreboard.free_peer_slot(self.pool.index);
        };
        self.pool.scoreboard.remove_address_session(self.pool.index, addr);
        self.pool.scoreboard.free_slot(self.pool.index);
        for worker in self.pool.scoreboard.workers_with_queue() {
            self.pool.mailboxes[worker].notify_slot_free();
        }
    }
}
