//! A worker process: accepts connections, gives each session a thread, and keeps the queue.
//!
//! It opens the served folder and the catalogue for reading, and changes neither. It shares the
//! scoreboard and the mailboxes with other processes. It ends when the supervisor says so through
//! the control socket, or is gone.

mod content_hash;
mod session_pool;
mod wait_queue;
mod worker_login;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use log::debug;
use relais_engine::{Engine, Protocol};
use relais_net::{PreAuthPool, raise_fd_limit};

use self::session_pool::{DrainState, LOOP_INTERVAL, Returned, SessionPool};
use self::wait_queue::WaitQueue;
pub use self::worker_login::FrontEnds;
use self::worker_login::{LoginAgain, WorkerLogin};
use crate::front::native::login::LoginService;
use crate::listeners::Listeners;
use crate::poll::wait_readable;
use crate::scoreboard::PEER_SLOTS;
use crate::worker_message::WorkerMessage;

/// Connections without a login that one worker keeps.
///
/// A login takes microseconds once its bytes are there. Each unauthenticated peer can make the
/// worker hold the bytes of one ticket.
const PRE_AUTH_CONNECTIONS: usize = 512;
/// Descriptors that a session may have open.
///
/// The socket, the channel to the replicator, a file, and a folder or second file take one each.
/// One more is open while the session changes from one file to the next. A session of FTP also has
/// a data connection, and listens for the next one.
const DESCRIPTORS_PER_SESSION: u64 = 7;
/// Descriptors that a worker reserves for everything else, catalogue connections above all.
const RESERVED_DESCRIPTORS: u64 = 128;

/// The connections before their sessions.
struct Arrivals {
    pre_auth: PreAuthPool<WorkerLogin>,
    /// The protocol of each listener.
    protocols: Vec<Protocol>,
    logins: Arc<LoginService>,
    fronts: FrontEnds,
}

/// Runs a worker until it is told to end, by a `control` socket that becomes readable.
///
/// # Errors
/// Those that affect the whole worker; errors of single connections are not among them.
pub fn run(
    listeners: Listeners,
    control: &OwnedFd,
    engine: Arc<Engine>,
    logins: Arc<LoginService>,
    fronts: FrontEnds,
) -> io::Result<()> {
    let host = logins.host.clone();
    let (worker, scoreboard) = (host.worker, host.scoreboard().clone());
    let contexts = (fronts.ftp.clone(), fronts.http.clone());
    let pool = Arc::new(SessionPool::new(host.clone(), engine, logins.clone(), contexts));
    let reserve = RESERVED_DESCRIPTORS
        + (scoreboard.slots + PEER_SLOTS) * DESCRIPTORS_PER_SESSION
        + scoreboard.queue;
    let listeners = listeners.into_vec();
    let protocols = listeners.iter().map(|listener| listener.protocol).collect();
    let trusted = &host.context.config.trusted_proxies;
    let listeners = listeners.into_iter().map(|listener| fronts.rules(listener, trusted));
    let pre_auth =
        PreAuthPool::new(listeners.collect(), raise_fd_limit(reserve, PRE_AUTH_CONNECTIONS))?;
    let mut arrivals = Arrivals { pre_auth, protocols, logins: logins.clone(), fronts };
    let mut queue = WaitQueue::default();
    let mut drain_state = DrainState::Serving;
    loop {
        scoreboard.tick(worker);
        // What comes after this call wakes the poll below.
        logins.handle_wake();
        let wake: Vec<BorrowedFd<'_>> = [control.as_fd(), host.mailbox().as_fd()]
            .into_iter()
            .chain(logins.wake_fds())
            .collect();
        arrivals.poll(scoreboard.may_accept(worker), &wake, &mut queue)?;
        read_mailbox(&pool);
        arrivals.readmit(&pool);
        while let Some((stream, admission)) = queue.next_with_slot() {
            pool.start(stream, admission);
        }
        queue.send_keepalives();
        pool.drain(&mut drain_state);
        if wait_readable(control, Duration::ZERO)? {
            break;
        }
    }
    drop(arrivals);
    drop(queue);
    pool.stop_sessions();
    Ok(())
}

fn read_mailbox(pool: &SessionPool) {
    for message in pool.host.mailbox().take() {
        match message {
            WorkerMessage::Slots => {}
            WorkerMessage::TransferLog(file) => {
                if let Some(log) = pool.engine.transfer_log() {
                    log.replace_file(file);
                }
            }
            WorkerMessage::EndUpload(name) => pool.engine.end_upload(&name),
            WorkerMessage::HashFile(path) => content_hash::begin(&pool.engine, path),
        }
    }
}

impl Arrivals {
    /// Runs logins until a descriptor of `wake` is readable; those that succeeded join the queue.
    fn poll(
        &mut self,
        accept: bool,
        wake: &[BorrowedFd<'_>],
        queue: &mut WaitQueue,
    ) -> io::Result<()> {
        let Self { pre_auth, protocols, logins, fronts } = self;
        let arrivals = pre_auth.poll(accept, wake, Some(LOOP_INTERVAL), &mut |new| {
            fronts.login(logins, protocols[new.listener], new)
        })?;
        for arrival in arrivals {
            queue.join(arrival.stream, arrival.value);
        }
        Ok(())
    }

    /// Takes back the connections whose clients log in again.
    fn readmit(&mut self, pool: &SessionPool) {
        let Self { pre_auth, protocols, logins, fronts } = self;
        for returned in pool.take_returned() {
            let Returned { stream, protocol, .. } = &returned;
            let (peer, protocol) = (stream.peer, *protocol);
            let Some(listener) = protocols.iter().position(|other| *other == protocol) else {
                continue;
            };
            let Some(again) = fronts.login_again(logins, returned) else { continue };
            let LoginAgain { stream, input, login } = again;
            if let Err(e) = pre_auth.readmit(listener, stream, input, login) {
                debug!("{peer}: cannot continue after a session: {e}");
            }
        }
    }
}
