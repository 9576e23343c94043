//! The sessions of a worker: each has a thread and a slot.

use std::collections::HashMap;
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use log::{debug, warn};
use parking_lot::{Condvar, Mutex};
use relais_engine::{Engine, Principal, Protocol};
use relais_ftp::LineBuffer;
use relais_net::{Connection, Stream};
use relais_proto::LogRateLimiter;

use super::wait_queue::refuse_session;
use crate::front::ftp::FtpContext;
use crate::front::ftp::serve::{LoginRenewal, SessionExit};
use crate::front::ftp::session::FtpStart;
use crate::front::http::HttpContext;
use crate::front::http::request::{FollowingRequest, HttpStart};
use crate::front::{ftp, http, native};
use crate::host::WorkerHost;
use crate::slots::{Admission, AdmittedFront, SlotClaim};
use crate::worker_message::{WorkerMessage, notify};

/// Longest time between two signs of life of a worker.
pub const LOOP_INTERVAL: Duration = Duration::from_millis(500);
/// Bytes of requests that a native session reads ahead; more wait in the socket.
const READ_AHEAD: usize = 8 * 1024;
/// Stack of a session's thread; SQLite and the frames here need far less.
const STACK: usize = 512 * 1024;
/// How long a session of a draining slave may take to end its answer.
const LAST_ANSWER_TIME: Duration = Duration::from_secs(2);

/// The sessions of a worker, shared by their threads.
pub struct SessionPool {
    pub host: WorkerHost,
    pub engine: Arc<Engine>,
    /// Renews the logins of FTP sessions.
    logins: Arc<dyn LoginRenewal>,
    /// What FTP sessions share; none if FTP is not served.
    ftp: Option<Arc<FtpContext>>,
    /// What HTTP sessions share; none if HTTP is not served.
    http: Option<Arc<HttpContext>>,
    sessions: Mutex<HashMap<u64, Arc<Stream>>>,
    ended: Condvar,
    next: AtomicU64,
    /// Connections whose clients log in again.
    returned: Mutex<Vec<Returned>>,
}

/// A connection whose client logs in again, with what was read ahead.
pub struct Returned {
    pub stream: Stream,
    pub protocol: Protocol,
    pub input: ReturnedInput,
}

/// What was read ahead.
pub enum ReturnedInput {
    /// Lines, after REIN.
    Ftp(LineBuffer),
    /// The next request of a kept connection, or a part of it.
    Http(FollowingRequest),
}

/// How far the sessions of a draining slave have been ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainState {
    /// The slave is not draining.
    Serving,
    /// Since this time the sessions read no further request.
    ReadsEnded(Instant),
    /// The sessions were cut.
    Cut,
}

/// A session that is about to begin.
enum SessionStart {
    Native(Box<Connection>, Principal),
    Ftp(FtpStart, Arc<FtpContext>),
    Http(HttpStart, Arc<HttpContext>),
}

impl SessionPool {
    /// Makes a pool without sessions.
    pub fn new(
        host: WorkerHost,
        engine: Arc<Engine>,
        logins: Arc<dyn LoginRenewal>,
        (ftp, http): (Option<Arc<FtpContext>>, Option<Arc<HttpContext>>),
    ) -> Self {
        Self {
            host,
            engine,
            logins,
            ftp,
            http,
            sessions: Mutex::default(),
            ended: Condvar::new(),
            next: AtomicU64::new(0),
            returned: Mutex::default(),
        }
    }

    /// Ends the sessions of a draining slave, so that clients continue on another slave.
    ///
    /// First they read no further request. After a while they are cut, and clients resume at the
    /// next byte.
    pub fn drain(&self, drain_state: &mut DrainState) {
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

    /// Starts the thread of a session that has a slot.
    pub fn start(self: &Arc<Self>, stream: Stream, admission: Admission) {
        let Admission { principal, mut claim, front } = admission;
        claim.begin_session(front.protocol());
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let slot = SessionSlot { pool: self.clone(), number, claim: Some(claim) };
        if self.host.scoreboard().has_full_share(self.host.worker) {
            // The others may have to accept now.
            notify(&self.host.context.mailboxes, &WorkerMessage::Slots);
        }
        let Some(session) = self.prepare(stream, principal, front) else { return };
        let (stream, busy) = (session.stream().clone(), session.busy());
        self.sessions.lock().insert(slot.number, stream.clone());
        let pool = self.clone();
        let run = move || {
            let protocol = session.protocol();
            let returned = pool.serve(session);
            // The slot is freed when the thread ends, also by a panic.
            drop(slot);
            if let Some((stream, input)) = returned {
                pool.give_back(stream, input, protocol);
            }
        };
        if let Err(e) =
            std::thread::Builder::new().name("session".to_owned()).stack_size(STACK).spawn(run)
        {
            static NO_THREAD: LogRateLimiter = LogRateLimiter::new();
            if let Some(more) = NO_THREAD.allow(Instant::now()) {
                warn!("cannot start a thread for a session: {e}{more}");
            }
            refuse_session(&stream, &busy);
        }
    }

    fn prepare(
        &self,
        stream: Stream,
        principal: Principal,
        front: AdmittedFront,
    ) -> Option<SessionStart> {
        match (front, &self.ftp, &self.http) {
            (AdmittedFront::Ftp { protocol, input, settings }, Some(context), _) => {
                let stream = Arc::new(stream);
                let start = FtpStart { stream, input, protocol, principal, settings };
                Some(SessionStart::Ftp(start, context.clone()))
            }
            (AdmittedFront::Http(request), _, Some(context)) => {
                let stream = Arc::new(stream);
                let start = HttpStart { stream, principal, request: *request };
                Some(SessionStart::Http(start, context.clone()))
            }
            _ => match Connection::from_stream(stream, READ_AHEAD) {
                Ok(connection) => Some(SessionStart::Native(Box::new(connection), principal)),
                Err(e) => {
                    debug!("a client disconnected before its session began: {e}");
                    None
                }
            },
        }
    }

    /// Serves a session; returns its connection if the client logs in again.
    fn serve(&self, session: SessionStart) -> Option<(Arc<Stream>, ReturnedInput)> {
        match session {
            SessionStart::Native(connection, principal) => {
                let block_size = self.host.context.config.block_size;
                native::session::serve(*connection, principal, &self.engine, block_size);
                None
            }
            SessionStart::Ftp(start, context) => {
                if let Err(e) = ftp::login::confirm(&start.stream) {
                    debug!("a client disconnected before its session began: {e}");
                    return None;
                }
                match ftp::serve::serve(start, &self.logins, &self.engine, &context) {
                    SessionExit::Closed => None,
                    SessionExit::Reinitialized(stream, input) => {
                        Some((stream, ReturnedInput::Ftp(input)))
                    }
                }
            }
            SessionStart::Http(start, context) => {
                let kept = http::serve::serve(start, &self.engine, &context)?;
                Some((kept.stream, ReturnedInput::Http(kept.next)))
            }
        }
    }

    /// Returns a connection to the main loop, because its client logs in again.
    fn give_back(&self, mut stream: Arc<Stream>, input: ReturnedInput, protocol: Protocol) {
        // The slot is free, so only the session uses the stream. The thread that has started the
        // session may hold it for a moment longer.
        let stream = loop {
            match Arc::try_unwrap(stream) {
                Ok(stream) => break stream,
                Err(shared) => stream = shared,
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        self.returned.lock().push(Returned { stream, protocol, input });
        notify([self.host.mailbox()], &WorkerMessage::Slots);
    }

    /// Takes the connections whose clients log in again.
    pub fn take_returned(&self) -> Vec<Returned> {
        std::mem::take(&mut self.returned.lock())
    }

    /// Stops all sessions: each ends its current answer, and reads no further request.
    pub fn stop_sessions(&self) {
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

impl SessionStart {
    fn stream(&self) -> &Arc<Stream> {
        match self {
            Self::Native(connection, _) => connection.stream(),
            Self::Ftp(start, _) => &start.stream,
            Self::Http(start, _) => &start.stream,
        }
    }

    fn protocol(&self) -> Protocol {
        match self {
            Self::Native(..) => Protocol::Native,
            Self::Ftp(start, _) => start.protocol,
            Self::Http(start, _) => start.request.protocol,
        }
    }

    /// The bytes that refuse the session if it gets no thread.
    fn busy(&self) -> Vec<u8> {
        match self {
            Self::Native(..) => native::replies::busy(),
            Self::Ftp(..) => ftp::login::busy(),
            Self::Http(start, _) => http::login::busy(&start.request),
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
