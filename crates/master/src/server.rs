//! The master's main loop: one thread that leads connections through their
//! login, hands links to threads, and ends it all.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use log::{error, info, warn};
use relais_cluster::{Balance, Registry};
use relais_net::tls::wait_until_delivered;
use relais_net::{AuthenticatedConnection, Connection, PreAuthPool, raise_fd_limit};
use relais_state::{ClusterKey, LiveAccounts};
use thiserror::Error;

use crate::certifier::Certifier;
use crate::core::Core;
use crate::lines::Kind;
use crate::login::{MasterLogin, Visitor};
use crate::order::{Engine, Job, Orders, Store};
use crate::stop::Stop;
use crate::{operator, slave_link};

/// Most connections that wait for their login; when more come, the oldest silent one goes.
const WAITING: usize = 2048;
/// Bytes of a link that are read at once.
const READ_AHEAD: usize = 64 * 1024;
/// Descriptors kept back for links, each of which has three where it is encrypted, for files and for what libraries open.
const RESERVE: u64 = 992;
/// Time between two looks for slaves that have fallen silent, for the log; redirects look each time.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Time between two looks whether the last logins are done, while stopping.
const STOP_LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a master is started with.
pub struct Config {
    /// What it has on its disk.
    pub store: Store,
    /// The cluster's key.
    pub key: ClusterKey,
    /// How clients are spread.
    pub balance: Balance,
    /// How long logins and operators may go on after the wish to stop.
    pub grace: Duration,
    /// How many disks must hold a content before its put is answered, where the client says nothing else.
    pub copies: u16,
    /// How long removed and replaced content is remembered.
    pub remember: Duration,
    /// Who may log in.
    pub accounts: LiveAccounts,
    /// What certifies the cluster's servers.
    pub certifier: Certifier,
}

/// Why a master ended that was not asked to.
#[derive(Debug, Error)]
pub enum MasterError {
    /// The system refused something without which nothing goes on.
    #[error("cannot go on serving")]
    Io(#[from] io::Error),
    /// The order's thread has ended, which it does only where it is broken.
    #[error("the thread that numbers changes has ended")]
    NoOrder,
}

/// Serves clients, slaves and operators on `listener` until `stop` is asked
/// for, and ends all its links and threads then.
///
/// # Errors
/// What made it impossible to go on.
pub fn run(listener: TcpListener, config: Config, stop: &Stop) -> Result<(), MasterError> {
    let (orders, jobs) = Orders::new();
    let open = listener.local_addr()?.ip().to_canonical().is_loopback();
    let tls = config.certifier.server()?;
    let core = Arc::new(Core::new(
        config.key,
        Registry::new(config.balance).with_known(config.store.slaves()),
        orders,
        open,
        config.copies,
        Arc::new(config.accounts),
        config.certifier,
    )?);
    let engine = Engine::new(Arc::clone(&core), config.store, config.remember);
    let order = thread::Builder::new().name("order".to_owned()).spawn(move || engine.run(&jobs))?;
    let mut room = PreAuthPool::new(listener, raise_fd_limit(RESERVE, WAITING), Some(tls))?;
    info!("cluster {}", core.cluster);
    while !stop.is_asked() {
        // What comes behind this wakes the poll that follows.
        core.desk.clear_wake();
        for arrival in room.poll(
            true,
            &[stop.as_fd(), core.desk.wake_fd()],
            Some(LOOK_EVERY),
            &mut |peer, local| MasterLogin::new(core.clone(), peer, local),
        )? {
            receive(&core, arrival);
        }
        if stop.takes_reload() {
            core.reload();
        }
        core.tell_generation();
        core.announce();
        core.certifier.tick();
        if order.is_finished() {
            return Err(MasterError::NoOrder);
        }
    }
    let now = Instant::now();
    let finished = finish(&core, room, now.checked_add(config.grace).unwrap_or(now));
    core.orders.tell(Job::End);
    // What was decided is written; then there is nothing left to wait for.
    order.join().map_err(|_| MasterError::NoOrder)?;
    info!("stopped");
    finished
}

/// Gives a link its thread.
fn receive(core: &Arc<Core>, arrival: AuthenticatedConnection<Visitor>) {
    let (peer, core) = (arrival.stream.peer, Arc::clone(core));
    let spawned =
        thread::Builder::new().name("link".to_owned()).spawn(move || attend(&core, arrival));
    if let Err(error) = spawned {
        warn!("cannot start a thread for the link of {peer}: {error}");
    }
}

/// Serves a link to its end. Where its thread panics the link has ended, as for its peer, and the log says so.
fn attend(core: &Core, arrival: AuthenticatedConnection<Visitor>) {
    let peer = arrival.stream.peer;
    if catch_unwind(AssertUnwindSafe(|| serve(core, arrival))).is_err() {
        error!("the thread of the link of {peer} failed: the link is closed");
    }
}

fn serve(core: &Core, arrival: AuthenticatedConnection<Visitor>) {
    let Visitor { id, place } = arrival.value;
    let peer = arrival.stream.peer;
    let connection = match Connection::from_stream(arrival.stream, READ_AHEAD) {
        Ok(connection) => connection,
        Err(error) => return info!("the link of {peer} ended: {error}"),
    };
    place.attach(Arc::clone(connection.stream()));
    match place.kind {
        // One that comes while the master stops: it was not among those that were shut.
        Kind::Slave if core.stopping.load(Ordering::SeqCst) => {}
        Kind::Slave => slave_link::serve(core, connection, &place, id),
        Kind::Operator => operator::serve(core, connection),
    }
}

/// Lets logins that have begun and operators come to their end, until `until`.
/// Slaves' links end at once: a slave comes back by itself.
fn finish(
    core: &Arc<Core>,
    mut room: PreAuthPool<MasterLogin>,
    until: Instant,
) -> Result<(), MasterError> {
    info!("stopping");
    core.stopping.store(true, Ordering::SeqCst);
    core.lines.shut_all(Kind::Slave);
    while core.logins.load(Ordering::Relaxed) > 0 && Instant::now() < until {
        let wait = STOP_LOOK_EVERY.min(until.saturating_duration_since(Instant::now()));
        core.desk.clear_wake();
        for arrival in
            room.poll(false, &[core.desk.wake_fd()], Some(wait), &mut |peer, local| {
                MasterLogin::new(core.clone(), peer, local)
            })?
        {
            receive(core, arrival);
        }
    }
    drop(room);
    if !core.lines.wait_until_empty(until) {
        core.lines.shut_all(Kind::Operator);
        warn!("some links had not ended when the time for it was over");
    }
    if !wait_until_delivered(until.saturating_duration_since(Instant::now())) {
        warn!("what was said last is not delivered to all");
    }
    Ok(())
}
