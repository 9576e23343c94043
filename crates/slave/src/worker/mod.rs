//! A worker process: accepts connections, gives each session a thread, and keeps the queue.
//!
//! It opens the served folder and the catalogue for reading, and changes neither. It shares the
//! scoreboard and the mailboxes with other processes. It ends when the supervisor says so through
//! the control socket, or is gone.

pub mod wait_queue;

use std::collections::HashMap;
use std::io;
use std::net::{Shutdown, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use log::{debug, warn};
use parking_lot::{Condvar, Mutex};
use relais_engine::Engine;
use relais_net::tls::TlsServer;
use relais_net::{
    Connection, FrameLogin, PreAuthListener, PreAuthPool, Stream, TlsRule, raise_fd_limit,
};
use relais_proto::LogRateLimiter;

use self::wait_queue::WaitQueue;
use crate::front::native::login::{LoginService, SlaveLogin};
use crate::front::native::session;
use crate::host::WorkerHost;
use crate::poll::wait_readable;
use crate::scoreboard::PEER_SLOTS;
use crate::slots::{Admission, SlotClaim};
use crate::worker_message::{WorkerMessage, notify};

/// Connections without a login that one worker keeps.
///
/// A login takes microseconds once its bytes are there. Each unauthenticated peer can make the
/// worker hold the bytes of one ticket.
const PRE_AUTH_CONNECTIONS: usize = 512;
/// Descriptors that a session may have open.
///
/// The socket, the channel to the replicator, a file, and a folder or second file take one each.
/// One more is open while the session changes from one file to the next.
const DESCRIPTORS_PER_SESSION: u64 = 5;
/// Descriptors that a worker reserves for everything else, catalogue connections above all.
const RESERVED_DESCRIPTORS: u64 = 128;
/// Longest time between two rounds of the worker's loop.
const LOOP_INTERVAL: Duration = Duration::from_millis(500);
/// Bytes of requests that a session reads ahead; more wait in the socket.
const READ_AHEAD: usize = 8 * 1024;
/// Stack of a session's thread; SQLite and the frames here need far less.
const STACK: usize = 512 * 1024;

/// The sessions of a worker, shared by their threads.
struct SessionPool {
    host: WorkerHost,
    engine: Arc<Engine>,
    sessions: Mutex<HashMap<u64, Arc<Stream>>>,
    ended: Condvar,
    next: AtomicU64,
}

/// Runs a worker until it is told to end, by a `control` socket that becomes readable.
///
/// # Errors
/// Those that affect the whole worker; errors of single connections are not among them.
pub fn run(
    listener: TcpListener,
    control: &OwnedFd,
    engine: Arc<Engine>,
    logins: LoginService,
    tls: TlsServer,
) -> io::Result<()> {
    let host = logins.host.clone();
    let (worker, scoreboard) = (host.worker, host.scoreboard().clone());
    let pool = Arc::new(SessionPool {
        host,
        engine,
        sessions: Mutex::default(),
        ended: Condvar::new(),
        next: AtomicU64::new(0),
    });
    let logins = Arc::new(logins);
    let reserve = RESERVED_DESCRIPTORS
        + (scoreboard.slots + PEER_SLOTS) * DESCRIPTORS_PER_SESSION
        + scoreboard.queue;
    let listener = PreAuthListener::new(listener, TlsRule::Detect(tls));
    let mut pre_auth =
        PreAuthPool::new(vec![listener], raise_fd_limit(reserve, PRE_AUTH_CONNECTIONS))?;
    let mut queue = WaitQueue::default();
    let mut drain_state = DrainState::Serving;
    loop {
        scoreboard.tick(worker);
        // What comes after this call wakes the poll below.
        logins.handle_wake();
        let wake: Vec<BorrowedFd<'_>> = [control.as_fd(), pool.host.mailbox().as_fd()]
            .into_iter()
            .chain(logins.wake_fds())
            .collect();
        let arrivals = pre_auth.poll(
            scoreboard.may_accept(worker),
            &wake,
            Some(LOOP_INTERVAL),
            &mut |new| {
                let login = SlaveLogin::new(logins.clone(), new.peer, new.local);
                FrameLogin::new(new.peer, login)
            },
        )?;
        for arrival in arrivals {
            queue.join(arrival.stream, arrival.value);
        }
        pool.read_mailbox();
        while let Some((stream, admission)) = queue.next_with_slot() {
            pool.start(stream, admission);
        }
        queue.send_keepalives();
        pool.drain(&mut drain_state);
        if wait_readable(control, Duration::ZERO)? {
            break;
        }
    }
    drop(pre_auth);
    drop(queue);
    pool.stop_sessions();
    Ok(())
}

/// How far the sessions of a draining slave have been ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DrainState {
    /// The slave is not draining.
    Serving,
    /// Since this time the sessions read no further request.
    ReadsEnded(Instant),
    /// The sessions were cut.
    Cut,
}

/// How long a session of a draining slave may take to end its answer.
const LAST_ANSWER_TIME: Duration = Duration::from_secs(2);

impl SessionPool {
    /// Ends the sessions of a draining slave, so that clients continue on another slave.
    ///
    /// First they read no further request. After a while they are cut, and clients resume at the
    /// next byte.
    fn drain(&self, drain_state: &mut DrainState) {
        *drain_state = match (*drain_state, self.host.scoreboard().draining.get()) {
            (_, false) => DrainState::Serving,
            (DrainState::Serving, true) => {
                self.shut_down_all(Shutdown::Read);
                DrainState::ReadsEnded(Instant::now())
            }
            (DrainState::ReadsEnded(since), true) if since.elapsed() >= LAST_ANSWER_TIME => {
                self.shut_down_all(Shutdown::Both);
                DrainState::Cut
            }
            (other, true) => other,
        }
    }

    fn shut_down_all(&self, which: Shutdown) {
        for stream in self.sessions.lock().values() {
            if let Err(e) = stream.shutdown(which) {
                debug!("cannot shut down a session that has ended: {e}");
            }
        }
    }

    fn read_mailbox(&self) {
        for message in self.host.mailbox().take() {
            match message {
                WorkerMessage::Slots => {}
                WorkerMessage::TransferLog(file) => {
                    if let Some(log) = self.engine.transfer_log() {
                        log.replace_file(file);
                    }
                }
                WorkerMessage::EndUpload(name) => self.engine.end_upload(&name),
            }
        }
    }

    /// Starts the thread of a session that has a slot.
    fn start(self: &Arc<Self>, stream: Stream, Admission { principal, claim }: Admission) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let slot = SessionSlot { pool: self.clone(), number, claim: Some(claim) };
        if self.host.scoreboard().has_full_share(self.host.worker) {
            // The others may have to accept now.
            notify(&self.host.context.mailboxes, &WorkerMessage::Slots);
        }
        let connection = match Connection::from_stream(stream, READ_AHEAD) {
            Ok(connection) => connection,
            Err(e) => return debug!("a client disconnected before its session began: {e}"),
        };
        self.sessions.lock().insert(slot.number, connection.stream().clone());
        let (pool, stream) = (self.clone(), connection.stream().clone());
        let run = move || {
            // The slot is freed when the thread ends, also by a panic.
            let _slot = slot;
            session::serve(
                connection,
                principal,
                &pool.engine,
                pool.host.context.config.block_size,
            );
        };
        if let Err(e) =
            std::thread::Builder::new().name("session".to_owned()).stack_size(STACK).spawn(run)
        {
            static NO_THREAD: LogRateLimiter = LogRateLimiter::new();
            if let Some(more) = NO_THREAD.allow(Instant::now()) {
                warn!("cannot start a thread for a session: {e}{more}");
            }
            wait_queue::refuse_session(&stream);
        }
    }

    /// Stops all sessions: each ends its current answer, and reads no further request.
    fn stop_sessions(&self) {
        self.engine.begin_stop();
        self.shut_down_all(Shutdown::Read);
        let mut sessions = self.sessions.lock();
        // After the grace time the supervisor kills the worker.
        while !sessions.is_empty() {
            self.host.scoreboard().tick(self.host.worker);
            self.ended.wait_for(&mut sessions, LOOP_INTERVAL);
        }
    }
}

/// A session's slot in the pool, freed when the session ends.
struct SessionSlot {
    pool: Arc<SessionPool>,
    number: u64,
    claim: Option<SlotClaim>,
}

impl Drop for SessionSlot {
    fn drop(&mut self) {
        let WorkerHost { worker, context } = &self.pool.host;
        self.pool.sessions.lock().remove(&self.number);
        self.pool.ended.notify_all();
        let was_full = context.scoreboard.has_full_share(*worker);
        drop(self.claim.take());
        // If it was full, this worker may accept again.
        let workers = context.scoreboard.workers_with_queue().chain(was_full.then_some(*worker));
        notify(workers.map(|worker| &context.mailboxes[worker]), &WorkerMessage::Slots);
    }
}
