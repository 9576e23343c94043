//! The state that all threads of the master share.
//!
//! It has the registry behind its lock, the key, the master's time, the links and the handle of the
//! order. No code here waits for a peer while it holds a lock.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use log::{debug, info, warn};
use relais_auth::{
    AuthenticatedUser, ClusterKey, FailedLogins, LiveAccounts, LocalLoginState, PasswordVerifier,
    PendingLogin, Rights, Ticket,
};
use relais_cluster::{
    Conflict, ConnectionAddrs, CoordinatorEvent, JoinRequest, LinkId, NoSlave, Registry,
    SlaveAddresses, SlaveStateChange, same_host,
};
use relais_coordinator::{OrderCommand, OrderHandle, SharedOrderStatus};
use relais_proto::{
    ClusterId, Endpoint, ErrorCode, Heartbeat, LinkMessage, LogRateLimiter, Login, PathPage,
    Refusal, Registration, Reply, Scrub, SlaveId, SlaveReport, SlaveState, TreePage, TreePath,
    limits, quote, sanitize,
};

use crate::certifier::Certifier;
use crate::linked_slaves::LinkedSlaves;
use crate::open_links::OpenLinks;
use crate::queries::Queries;

/// Retry delay of a client in seconds while no slave is in service.
const RETRY_AFTER: u16 = 1;

/// The first result of a client's login.
pub(crate) enum LoginStart {
    Answer(Reply),
    Pending(PendingLogin),
}

pub(crate) struct Core {
    pub key: ClusterKey,
    pub cluster: ClusterId,
    pub open_links: Arc<OpenLinks>,
    /// Whether the master is stopping.
    pub stopping: AtomicBool,
    /// The number of logins in progress.
    pub logins: Arc<AtomicUsize>,
    pub slaves: LinkedSlaves,
    pub order: OrderHandle,
    pub order_status: Arc<SharedOrderStatus>,
    /// Open queries for slaves' trees.
    pub queries: Queries<TreePage>,
    /// Open queries for lists of paths.
    pub lists: Queries<PathPage>,
    /// The number of scrubs that operators have ordered.
    pub scrubs: AtomicU64,
    accounts: Arc<LiveAccounts>,
    pub passwords: PasswordVerifier,
    pub certifier: Certifier,
    /// The generation of the accounts that was last sent to the slaves.
    sent_generation: AtomicU64,
    /// Default number of disks that must hold the content of a put.
    copies: u16,
    /// Whether clients on this host may make changes without an account.
    is_open: bool,
    registry: Mutex<Registry>,
    settings: Mutex<SlaveSettings>,
    started: Instant,
    started_ms: u64,
}

/// Operators' settings for slaves, and the slaves' last heartbeats.
#[derive(Debug, Default)]
struct SlaveSettings {
    /// Slaves that get no clients until an operator makes them ready.
    draining: BTreeSet<SlaveId>,
    /// Slaves that an operator has removed.
    forgotten: BTreeSet<SlaveId>,
    /// How often each slave was made ready.
    readies: BTreeMap<SlaveId, u64>,
    /// The last heartbeat of each link, unmodified.
    beats: BTreeMap<LinkId, (SlaveId, Heartbeat)>,
}

impl Core {
    /// Makes the shared state. `open`: the master listens on loopback only.
    ///
    /// # Errors
    /// The threads for passwords cannot be started.
    pub fn new(
        key: ClusterKey,
        registry: Registry,
        orders: OrderHandle,
        open: bool,
        copies: u16,
        accounts: Arc<LiveAccounts>,
        certifier: Certifier,
    ) -> std::io::Result<Self> {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // One thread for each core, because a hash keeps a core busy.
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let passwords = PasswordVerifier::start(
            Arc::clone(&accounts),
            FailedLogins::new()?,
            Box::new(LocalLoginState::new()),
            threads,
        )?;
        Ok(Self {
            cluster: key.cluster_id(),
            key,
            open_links: Arc::default(),
            stopping: AtomicBool::new(false),
            logins: Arc::default(),
            slaves: LinkedSlaves::default(),
            order: orders,
            order_status: Arc::default(),
            queries: Queries::default(),
            lists: Queries::default(),
            scrubs: AtomicU64::new(0),
            sent_generation: AtomicU64::new(accounts.generation()),
            accounts,
            passwords,
            certifier,
            copies,
            is_open: open,
            settings: Mutex::default(),
            registry: Mutex::new(registry),
            started: Instant::now(),
            started_ms: milliseconds(since_1970),
        })
    }

    /// The master's time in milliseconds since 1970 UTC.
    ///
    /// It is the wall clock at the start plus the monotonic time since, so that a later change of
    /// the
    /// wall clock expires no ticket.
    pub fn time_ms(&self) -> u64 {
        self.started_ms.saturating_add(milliseconds(self.started.elapsed()))
    }

    /// Starts a client's login: returns the answer, or the pending verification of the password.
    pub fn log_in(&self, login: &Login, peer: SocketAddr, local: SocketAddr) -> LoginStart {
        let refuse =
            |code, message: &str| LoginStart::Answer(Reply::Error(Refusal::new(code, message)));
        match (self.accounts.current(), login.user.is_empty()) {
            (None, true) => LoginStart::Answer(self.redirect(
                login,
                peer,
                local,
                self.ticket_without_account(peer.ip()),
            )),
            (None, false) => {
                static REFUSED: LogRateLimiter = LogRateLimiter::new();
                if let Some(more) = REFUSED.allow(Instant::now()) {
                    info!(
                        "{peer}: login as {} refused: there are no accounts{more}",
                        quote(&login.user)
                    );
                }
                refuse(
                    ErrorCode::LoginRefused,
                    "there are no accounts on this server; log in without a name",
                )
            }
            (Some(_), true) => {
                refuse(ErrorCode::LoginNeeded, "a user name and a password are needed here")
            }
            (Some(_), false) => {
                match self.passwords.submit(peer.ip(), &login.user, &login.password) {
                    Ok(pending) => LoginStart::Pending(pending),
                    Err(refusal) => LoginStart::Answer(Reply::Error(refusal)),
                }
            }
        }
    }

    /// Answers a user whose password was right.
    pub fn welcome(
        &self,
        login: &Login,
        user: AuthenticatedUser,
        peer: SocketAddr,
        local: SocketAddr,
    ) -> Reply {
        let AuthenticatedUser { name, rights, root, generation } = user;
        self.redirect(login, peer, local, self.ticket(name, rights, root, generation))
    }

    fn redirect(
        &self,
        login: &Login,
        peer: SocketAddr,
        local: SocketAddr,
        ticket: Ticket,
    ) -> Reply {
        let client = ConnectionAddrs::new(peer.ip(), local.ip());
        let writes = ticket.rights == Rights::Write;
        let slaves: Result<Vec<Endpoint>, NoSlave> =
            self.registry().redirect(client, &login.avoid, login.prefer, writes, self.now());
        match slaves {
            Ok(slaves) => {
                debug!(
                    "{peer}: sent to {}",
                    slaves.first().map_or_else(String::new, |s| format!("{} {:?}", s.id, s.addrs))
                );
                Reply::Redirect {
                    ticket: ticket.mint(&self.key),
                    lsn: self.order_status.lsn(),
                    slaves,
                }
            }
            Err(error) => {
                debug!("{peer}: {error}");
                Reply::Error(Refusal {
                    retry_after: RETRY_AFTER,
                    ..Refusal::new(ErrorCode::NoSlave, error.to_string())
                })
            }
        }
    }

    /// The ticket of an anonymous client.
    ///
    /// Anonymous clients may write only if the master listens on loopback alone.
    fn ticket_without_account(&self, client: IpAddr) -> Ticket {
        let rights = if self.is_open && client.to_canonical().is_loopback() {
            Rights::Write
        } else {
            Rights::Read
        };
        self.ticket(String::new(), rights, TreePath::root(), 0)
    }

    /// Reloads accounts and certificates at once.
    pub fn reload(&self) {
        self.accounts.reload();
        self.certifier.reload();
    }

    /// Sends a changed generation of the accounts to the slaves at once.
    pub fn send_generation(&self) {
        let generation = self.accounts.generation();
        if self.sent_generation.swap(generation, Ordering::Relaxed) == generation {
            return;
        }
        self.send_heartbeat_acks();
    }

    /// Sends all slaves the heartbeat acknowledgement at once, not only after their next heartbeat.
    pub fn send_heartbeat_acks(&self) {
        for linked in self.slaves.all() {
            let ack = self.beat_ack(linked.slave);
            linked.outbox.send(&ack);
        }
    }

    /// The progress of a slave's scrub by its last heartbeat.
    pub fn scrub_of(&self, link: LinkId) -> Option<Scrub> {
        self.settings().beats.get(&link).map(|(_, beat)| beat.scrub)
    }

    /// Registers a slave on a link, and returns its addresses.
    ///
    /// # Errors
    /// The refusal to send to the slave.
    pub fn register(
        &self,
        id: SlaveId,
        link: LinkId,
        wish: &Registration,
        peer: IpAddr,
        local: IpAddr,
    ) -> Result<SlaveAddresses, Refusal> {
        let place = SlaveAddresses {
            listen: wish.listen.clone(),
            advertised: resolve(&wish.advertise)?,
            peer: peer.to_canonical(),
            same_host: same_host(peer, local),
        };
        let joining =
            JoinRequest { id, link, place: place.clone(), folder: wish.folder, lsn: wish.lsn };
        loop {
            let result = self.registry().register(joining.clone(), self.now());
            match result {
                Ok(registered) => {
                    registered.replaced.iter().for_each(|old| self.open_links.shut(*old));
                    self.settings().forgotten.remove(&id);
                    self.announce();
                    return Ok(place);
                }
                // A restarted slave may register before the thread of its old link has seen the
                // end.
                Err(conflict) => {
                    match conflict.holder().filter(|holder| self.open_links.has_ended(*holder)) {
                        Some(gone) => self.registry().closed(gone),
                        None => return Err(Refusal::new(code(conflict), conflict.to_string())),
                    }
                }
            }
        }
    }

    /// Handles a heartbeat, and returns its acknowledgement; none if the link was replaced.
    pub fn beat(&self, id: SlaveId, link: LinkId, beat: Heartbeat) -> Option<LinkMessage> {
        let draining = {
            let mut settings = self.settings();
            settings.beats.insert(link, (id, beat.clone()));
            settings.draining.contains(&id)
        };
        let counts = self.note(link, beat, draining);
        self.announce();
        counts.then(|| self.beat_ack(id))
    }

    fn beat_ack(&self, slave: SlaveId) -> LinkMessage {
        let (draining, retries) = {
            let settings = self.settings();
            let retries = settings.readies.get(&slave).copied().unwrap_or_default();
            (settings.draining.contains(&slave), retries)
        };
        LinkMessage::HeartbeatAck {
            lsn: self.order_status.lsn(),
            time_ms: self.time_ms(),
            generation: self.accounts.generation(),
            draining,
            scrubs: self.scrubs.load(Ordering::Relaxed),
            copies: self.copies,
            retries,
        }
    }

    /// Passes a heartbeat to the registry. A draining slave gets no clients, whatever it reports.
    fn note(&self, link: LinkId, beat: Heartbeat, draining: bool) -> bool {
        let state = if draining { SlaveState::Draining } else { beat.state };
        self.registry().beat(link, Heartbeat { state, ..beat }, self.now())
    }

    /// Handles the end of a slave's link.
    pub fn closed(&self, link: LinkId) {
        self.registry().closed(link);
        self.settings().beats.remove(&link);
        self.slaves.remove(link);
        self.queries.ended(link);
        self.lists.ended(link);
        self.order.send(OrderCommand::Events(vec![CoordinatorEvent::LinkClosed { link }]));
        self.announce();
    }

    /// Drains a slave or makes it ready, at once and for its later links too.
    pub fn drain(&self, slave: SlaveId, draining: bool) {
        let beats: Vec<(LinkId, Heartbeat)> = {
            let mut settings = self.settings();
            if draining {
                settings.draining.insert(slave)
            } else {
                *settings.readies.entry(slave).or_default() += 1;
                settings.draining.remove(&slave)
            };
            settings
                .beats
                .iter()
                .filter(|(_, (id, _))| *id == slave)
                .map(|(link, (_, beat))| (*link, beat.clone()))
                .collect()
        };
        for (link, beat) in beats {
            self.note(link, beat, draining);
        }
        self.send_heartbeat_acks();
        self.announce();
    }

    /// Removes a slave from the reports.
    pub fn forget(&self, slave: SlaveId) {
        let mut settings = self.settings();
        settings.draining.remove(&slave);
        settings.forgotten.insert(slave);
    }

    /// Reports on all slaves, with addresses for an operator at this viewpoint.
    pub fn reports(&self, asker: ConnectionAddrs) -> Vec<SlaveReport> {
        let mut reports = self.registry().reports(asker, self.now());
        let settings = self.settings();
        reports.retain(|report| !settings.forgotten.contains(&report.id));
        reports
    }

    /// Logs changes of slaves' states since the last call.
    pub fn announce(&self) {
        let notices = self.registry().notices(self.now());
        notices.iter().for_each(log_notice);
    }

    fn ticket(&self, user: String, rights: Rights, root: TreePath, generation: u64) -> Ticket {
        let issued_ms = self.time_ms();
        let ends_ms = issued_ms.saturating_add(milliseconds(limits::TICKET_TIME));
        Ticket { cluster: self.cluster, user, rights, root, generation, issued_ms, ends_ms }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settings(&self) -> MutexGuard<'_, SlaveSettings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn code(conflict: Conflict) -> ErrorCode {
    match conflict {
        // The slave itself detects whether its disk is a copy of another slave's disk.
        Conflict::SameId { .. } => ErrorCode::Exists,
        Conflict::SameAddress { .. } => ErrorCode::Conflict,
        Conflict::Nowhere => ErrorCode::BadRequest,
        Conflict::Full => ErrorCode::Busy,
    }
}

/// Resolves a slave's `--advertise` to addresses; none for an empty one.
fn resolve(advertise: &str) -> Result<Vec<SocketAddr>, Refusal> {
    if advertise.is_empty() {
        return Ok(Vec::new());
    }
    let bad = |why: String| {
        Refusal::new(
            ErrorCode::BadRequest,
            format!("cannot advertise {}: {why}", sanitize(advertise)),
        )
    };
    let found: Vec<SocketAddr> =
        advertise.to_socket_addrs().map_err(|e| bad(e.to_string()))?.collect();
    if found.iter().any(|addr| addr.port() != 0 && !addr.ip().is_unspecified()) {
        Ok(found)
    } else {
        Err(bad("it names no address and port that a client could use".to_owned()))
    }
}

fn log_notice(notice: &SlaveStateChange) {
    let who = match notice.addr {
        Some(addr) => format!("slave {} at {addr}", notice.id),
        None => format!("slave {}", notice.id),
    };
    match (notice.from, notice.to) {
        (_, SlaveState::InService) => info!("{who} is in service"),
        (None, SlaveState::CatchingUp) => info!("{who} joined"),
        (Some(SlaveState::Down), SlaveState::CatchingUp) => info!("{who} came back"),
        (_, SlaveState::Down) => warn!("{who} left: it is out of service"),
        (_, state) => info!("{who} is {}", state.text()),
    }
}
