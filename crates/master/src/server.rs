//! The main loop of the master: runs logins, starts link threads and ends them.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use log::{error, info, warn};
use relais_auth::{LogOutFile, SecretFileError};
use relais_cluster::Registry;
use relais_coordinator::{CoordinatorDriver, OrderCommand, OrderHandle, Store};
use relais_net::{
    AuthenticatedConnection, Connection, FrameLogin, NewConnection, PreAuthListener, PreAuthPool,
    TlsRule, raise_fd_limit,
};
use relais_os::Mailbox;
use thiserror::Error;

use crate::core::{Config, Core};
use crate::http::{HttpConnection, HttpSite};
use crate::http_config::HttpListener;
use crate::log_outs::LogOuts;
use crate::login::{LinkPeer, MasterLogin};
use crate::open_links::PeerKind;
use crate::peer_login::PeerLogin;
use crate::{operator, slave_link};

/// Cap on connections before their login. A full pool evicts one of them.
const PRE_AUTH_CONNECTIONS: usize = 2048;
/// Read-ahead of a link.
const READ_AHEAD: usize = 64 * 1024;
/// Descriptors reserved for links (three for each encrypted one), files and libraries.
const RESERVE: u64 = 3296;
/// Time between two checks for silent slaves, for the log. Redirects check each time.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// Time between two checks whether slaves can serve the HTTP requests that wait for them.
const WAIT_CHECK_EVERY: Duration = Duration::from_millis(20);
/// Time between two checks for news while there are event streams.
const STREAM_CHECK_EVERY: Duration = Duration::from_millis(250);
/// Time between two checks for unfinished logins while the master stops.
const STOP_CHECK_EVERY: Duration = Duration::from_millis(50);

/// A request to a running master.
#[derive(Debug, Clone, Copy)]
pub enum MasterRequest {
    /// It ends.
    Stop,
    /// It reloads accounts and certificates.
    Reload,
}

/// The reason why a master ended without a stop request.
#[derive(Debug, Error)]
pub enum MasterError {
    /// A system call failed.
    #[error("cannot continue serving")]
    Io(#[from] io::Error),
    /// The file of log-outs cannot be used.
    #[error(transparent)]
    LogOuts(#[from] SecretFileError),
    /// The thread of the order has ended, which is a bug.
    #[error("the thread that numbers changes has ended")]
    NoOrder,
}

/// Serves clients, slaves and operators on `listener`, and HTTP clients on those of `http`.
///
/// It ends by a stop request.
/// `store` is the persistent state. It then ends all links and threads.
///
/// # Errors
/// The reason why the master cannot continue.
pub fn run(
    listener: TcpListener,
    http: Vec<HttpListener>,
    store: Store,
    config: Config,
    requests: &Mailbox<MasterRequest>,
) -> Result<(), MasterError> {
    let (orders, commands) = OrderHandle::new();
    let is_open = listener.local_addr()?.ip().to_canonical().is_loopback();
    let tls = config.certifier.server()?;
    let registry = Registry::new(config.balance).with_known(store.slaves());
    let log_outs = LogOuts::open(LogOutFile::new(config.log_outs.clone()))?;
    let core = Arc::new(Core::new(config, registry, orders, log_outs, is_open)?);
    let clock = {
        let core = Arc::clone(&core);
        Box::new(move || core.time_ms())
    };
    let status = Arc::clone(&core.order_status);
    let driver = CoordinatorDriver::new(clock, status, store, core.config.remember);
    let site = Arc::new(HttpSite::new(Arc::clone(&core), driver.view(), core.config.http.clone())?);
    let order =
        thread::Builder::new().name("order".to_owned()).spawn(move || driver.run(&commands))?;
    let encrypted = http.iter().map(|listener| listener.encrypted).collect();
    let logins = Logins { core: Arc::clone(&core), site, encrypted };
    let mut listeners = vec![PreAuthListener::new(listener, TlsRule::Detect(tls))];
    for HttpListener { socket, encrypted } in http {
        let rule = if encrypted {
            TlsRule::Detect(core.config.certifier.http_server()?)
        } else {
            TlsRule::Explicit(None)
        };
        listeners.push(PreAuthListener::new(socket, rule));
    }
    let mut pool = PreAuthPool::new(listeners, raise_fd_limit(RESERVE, PRE_AUTH_CONNECTIONS))?;
    info!("cluster {}", core.cluster);
    let mut is_stopping = false;
    while !is_stopping {
        // Later events wake the following poll.
        core.passwords.clear_wake();
        for arrival in pool.poll(
            true,
            &[requests.as_fd(), core.passwords.wake_fd()],
            Some(logins.check_every()),
            &mut |new| logins.begin(new),
        )? {
            receive(&core, arrival);
        }
        for request in requests.take() {
            match request {
                MasterRequest::Stop => is_stopping = true,
                MasterRequest::Reload => core.reload(),
            }
        }
        core.answer_logins();
        core.send_generation();
        core.announce_all();
        core.slaves.send_peers();
        logins.update_status();
        core.config.certifier.tick();
        if order.is_finished() {
            return Err(MasterError::NoOrder);
        }
    }
    let now = Instant::now();
    let finished = finish(&logins, pool, now.checked_add(core.config.grace).unwrap_or(now));
    core.order.send(OrderCommand::End);
    // The order writes its last batch before its thread ends.
    order.join().map_err(|_| MasterError::NoOrder)?;
    info!("stopped");
    finished
}

/// Makes the login handlers of new connections.
struct Logins {
    core: Arc<Core>,
    site: Arc<HttpSite>,
    /// Whether each of the listeners for HTTP, which follow the native one, is encrypted.
    encrypted: Vec<bool>,
}

impl Logins {
    /// Returns the longest time between two checks of what nothing wakes the thread for.
    fn check_every(&self) -> Duration {
        if self.site.has_waiting() {
            WAIT_CHECK_EVERY
        } else if self.site.has_streams() {
            STREAM_CHECK_EVERY
        } else {
            CHECK_EVERY
        }
    }

    /// Updates the status page, if there is one.
    fn update_status(&self) {
        if !self.encrypted.is_empty() {
            self.site.update_status();
        }
    }

    fn begin(&self, new: NewConnection) -> PeerLogin {
        match new.listener.checked_sub(1).and_then(|http| self.encrypted.get(http)) {
            Some(encrypted) => {
                PeerLogin::Http(HttpConnection::new(Arc::clone(&self.site), new, *encrypted))
            }
            None => {
                let login = MasterLogin::new(Arc::clone(&self.core), new.peer, new.local);
                PeerLogin::Frames(FrameLogin::new(new.peer, login))
            }
        }
    }
}

/// Serves a link in a thread of its own. A panic closes the link and is logged.
fn receive(core: &Arc<Core>, arrival: AuthenticatedConnection<LinkPeer>) {
    let (peer, core) = (arrival.stream.peer, Arc::clone(core));
    let attend = move || {
        if catch_unwind(AssertUnwindSafe(|| serve(&core, arrival))).is_err() {
            error!("the thread of the link of {peer} panicked: link closed");
        }
    };
    if let Err(error) = thread::Builder::new().name("link".to_owned()).spawn(attend) {
        warn!("cannot start a thread for the link of {peer}: {error}");
    }
}

fn serve(core: &Core, arrival: AuthenticatedConnection<LinkPeer>) {
    let LinkPeer { id, slot, agent } = arrival.value;
    let peer = arrival.stream.peer;
    let connection = match Connection::from_stream(arrival.stream, READ_AHEAD) {
        Ok(connection) => connection,
        Err(error) => return info!("the link of {peer} ended: {error}"),
    };
    slot.attach(Arc::clone(connection.stream()));
    match slot.kind {
        // The link came while the master stops, after all links were shut down.
        PeerKind::Slave if core.stopping.load(Ordering::SeqCst) => {}
        PeerKind::Slave => slave_link::serve(core, connection, &slot, (id, agent)),
        PeerKind::Operator => operator::serve(core, connection),
    }
}

/// Waits until logins and operators have finished, at most until `until`.
///
/// Slaves' links end at once, because slaves reconnect by themselves.
fn finish(
    logins: &Logins,
    mut pool: PreAuthPool<PeerLogin>,
    until: Instant,
) -> Result<(), MasterError> {
    let core = &logins.core;
    info!("stopping");
    core.stopping.store(true, Ordering::SeqCst);
    core.open_links.shut_all(PeerKind::Slave);
    while core.has_logins() && Instant::now() < until {
        let wait = STOP_CHECK_EVERY.min(until.saturating_duration_since(Instant::now()));
        core.passwords.clear_wake();
        let wake = &[core.passwords.wake_fd()];
        for arrival in pool.poll(false, wake, Some(wait), &mut |new| logins.begin(new))? {
            receive(core, arrival);
        }
    }
    drop(pool);
    if !core.open_links.wait_until_empty(until) {
        core.open_links.shut_all(PeerKind::Operator);
        warn!("some links did not end within the grace period");
    }
    Ok(())
}
