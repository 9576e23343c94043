//! What all threads of the master share: the registry behind its lock, the
//! key, the master's time, the links, and the way to the order. Nothing here waits for a peer while
//! a lock is held.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use log::{debug, info, warn};
use relais_cluster::{
    Conflict, ConnectionAddrs, Event, JoinRequest, LinkId, NoSlave, Registry, SlaveAddresses,
    SlaveStateChange, same_host,
};
use relais_proto::{
    ClusterId, Endpoint, ErrorCode, Heartbeat, LinkMessage, LogRateLimiter, Login, PathPage,
    Refusal, Registration, Reply, Scrub, SlaveId, SlaveReport, SlaveState, TreePage, TreePath,
    limits, quote, sanitize,
};
use relais_state::{
    AuthenticatedUser, ClusterKey, FailedLogins, LiveAccounts, LocalLoginState, PasswordVerifier,
    PendingLogin, Rights, Ticket,
};

use crate::certifier::Certifier;
use crate::lines::Lines;
use crate::links::Links;
use crate::order::{Job, Orders};
use crate::queries::Queries;
use crate::shown::Shown;

/// Seconds after which a client may ask again while no slave is in service.
const RETRY_AFTER: u16 = 1;

/// What a client's login comes to at first.
pub(crate) enum Entry {
    Answer(Reply),
    Pending(PendingLogin),
}

pub(crate) struct Core {
    pub key: ClusterKey,
    pub cluster: ClusterId,
    pub lines: Arc<Lines>,
    /// Whether the master is about to end.
    pub stopping: AtomicBool,
    /// Logins that have begun and are not answered yet.
    pub logins: Arc<AtomicUsize>,
    /// The slaves that are linked.
    pub links: Links,
    /// The way to the order.
    pub orders: Orders,
    /// What everybody is told of the order.
    pub shown: Shown,
    /// Questions for slaves' trees.
    pub queries: Queries<TreePage>,
    /// Questions for lists of paths.
    pub lists: Queries<PathPage>,
    /// How often all contents were to be read and checked.
    pub scrubs: AtomicU64,
    /// Who may log in.
    accounts: Arc<LiveAccounts>,
    /// Where their passwords are looked at.
    pub desk: PasswordVerifier,
    /// Who certifies.
    pub certifier: Certifier,
    /// The generation of the accounts that the slaves were told last.
    told_generation: AtomicU64,
    /// How many disks must hold the content of a put whose client does not say.
    copies: u16,
    /// Whether clients on this host may change things without an account.
    open: bool,
    registry: Mutex<Registry>,
    marked: Mutex<Marked>,
    started: Instant,
    started_ms: u64,
}

/// What operators have said of slaves.
#[derive(Debug, Default)]
struct Marked {
    /// Those that get no clients until they are ready again.
    draining: BTreeSet<SlaveId>,
    /// Those that will not come back.
    forgotten: BTreeSet<SlaveId>,
    /// How often each was made ready.
    readies: BTreeMap<SlaveId, u64>,
    /// The last heartbeat of each link, as it came.
    beats: BTreeMap<LinkId, (SlaveId, Heartbeat)>,
}

impl Core {
    /// `open`: the master listens on loopback alone.
    ///
    /// # Errors
    /// Where there can be no threads for passwords.
    pub fn new(
        key: ClusterKey,
        registry: Registry,
        orders: Orders,
        open: bool,
        copies: u16,
        accounts: Arc<LiveAccounts>,
        certifier: Certifier,
    ) -> std::io::Result<Self> {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Each keeps a core busy.
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let desk = PasswordVerifier::start(
            Arc::clone(&accounts),
            FailedLogins::new()?,
            Box::new(LocalLoginState::new()),
            threads,
        )?;
        Ok(Self {
            cluster: key.cluster_id(),
            key,
            lines: Arc::default(),
            stopping: AtomicBool::new(false),
            logins: Arc::default(),
            links: Links::default(),
            orders,
            shown: Shown::default(),
            queries: Queries::default(),
            lists: Queries::default(),
            scrubs: AtomicU64::new(0),
            told_generation: AtomicU64::new(accounts.generation()),
            accounts,
            desk,
            certifier,
            copies,
            open,
            marked: Mutex::default(),
            registry: Mutex::new(registry),
            started: Instant::now(),
            started_ms: milliseconds(since_1970),
        })
    }

    /// The master's time in milliseconds since 1970 UTC: the clock's time at the
    /// start, counted on, so that a clock that is set later ends no ticket.
    pub fn time_ms(&self) -> u64 {
        self.started_ms.saturating_add(milliseconds(self.started.elapsed()))
    }

    /// Begins a client's login: what it comes to, or a password that is to be looked at.
    pub fn log_in(&self, login: &Login, peer: SocketAddr, local: SocketAddr) -> Entry {
        let refuse = |code, message: &str| Entry::Answer(Reply::Error(Refusal::new(code, message)));
        match (self.accounts.current(), login.user.is_empty()) {
            (None, true) => Entry::Answer(self.redirect(
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
            (Some(_), false) => match self.desk.submit(peer.ip(), &login.user, &login.password) {
                Ok(pending) => Entry::Pending(pending),
                Err(refusal) => Entry::Answer(Reply::Error(refusal)),
            },
        }
    }

    /// The answer to a user who has logged in.
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
                Reply::Redirect { ticket: ticket.mint(&self.key), lsn: self.shown.lsn(), slaves }
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

    /// What a client may do where there are no accounts: writing is allowed only to a server that listens on loopback alone.
    fn ticket_without_account(&self, client: IpAddr) -> Ticket {
        let rights = if self.open && client.to_canonical().is_loopback() {
            Rights::Write
        } else {
            Rights::Read
        };
        self.ticket(String::new(), rights, TreePath::root(), 0)
    }

    /// Reads accounts and certificates again at once.
    pub fn reload(&self) {
        self.accounts.reload();
        self.certifier.look();
    }

    /// Tells the slaves at once where something was taken from somebody who may be logged in.
    pub fn tell_generation(&self) {
        let generation = self.accounts.generation();
        if self.told_generation.swap(generation, Ordering::Relaxed) == generation {
            return;
        }
        self.tell_orders();
    }

    /// Tells all slaves at once what they hear otherwise with their next heartbeat.
    pub fn tell_orders(&self) {
        for linked in self.links.all() {
            let ack = self.beat_ack(linked.slave);
            linked.outbox.send(&ack);
        }
    }

    /// How far a slave has come with reading all its contents, as it has said last.
    pub fn scrub_of(&self, link: LinkId) -> Option<Scrub> {
        self.marked().beats.get(&link).map(|(_, beat)| beat.scrub)
    }

    /// A slave offers its service on a link; where it is.
    ///
    /// # Errors
    /// What the slave is told.
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
                    registered.replaced.iter().for_each(|old| self.lines.shut(*old));
                    self.marked().forgotten.remove(&id);
                    self.announce();
                    return Ok(place);
                }
                // A slave that was restarted may be here before its old link's thread has seen the end.
                Err(conflict) => {
                    match conflict.holder().filter(|holder| self.lines.has_ended(*holder)) {
                        Some(gone) => self.registry().closed(gone),
                        None => return Err(Refusal::new(code(conflict), conflict.to_string())),
                    }
                }
            }
        }
    }

    /// A heartbeat came; the answer to it, or none where the link counts no longer.
    pub fn beat(&self, id: SlaveId, link: LinkId, beat: Heartbeat) -> Option<LinkMessage> {
        let draining = {
            let mut marked = self.marked();
            marked.beats.insert(link, (id, beat.clone()));
            marked.draining.contains(&id)
        };
        let counts = self.note(link, beat, draining);
        self.announce();
        counts.then(|| self.beat_ack(id))
    }

    fn beat_ack(&self, slave: SlaveId) -> LinkMessage {
        let (draining, retries) = {
            let marked = self.marked();
            let retries = marked.readies.get(&slave).copied().unwrap_or_default();
            (marked.draining.contains(&slave), retries)
        };
        LinkMessage::HeartbeatAck {
            lsn: self.shown.lsn(),
            time_ms: self.time_ms(),
            generation: self.accounts.generation(),
            draining,
            scrubs: self.scrubs.load(Ordering::Relaxed),
            copies: self.copies,
            retries,
        }
    }

    /// A slave that is being drained is shown so, and gets no clients, whatever it thinks of itself.
    fn note(&self, link: LinkId, beat: Heartbeat, draining: bool) -> bool {
        let state = if draining { SlaveState::Draining } else { beat.state };
        self.registry().beat(link, Heartbeat { state, ..beat }, self.now())
    }

    /// A slave's link has ended.
    pub fn closed(&self, link: LinkId) {
        self.registry().closed(link);
        self.marked().beats.remove(&link);
        self.links.remove(link);
        self.queries.ended(link);
        self.lists.ended(link);
        self.orders.tell(Job::Event(Event::LinkClosed { link }));
        self.announce();
    }

    /// No more clients for a slave, at once, also when it comes back; or clients again.
    pub fn drain(&self, slave: SlaveId, draining: bool) {
        let beats: Vec<(LinkId, Heartbeat)> = {
            let mut marked = self.marked();
            if draining {
                marked.draining.insert(slave)
            } else {
                *marked.readies.entry(slave).or_default() += 1;
                marked.draining.remove(&slave)
            };
            marked
                .beats
                .iter()
                .filter(|(_, (id, _))| *id == slave)
                .map(|(link, (_, beat))| (*link, beat.clone()))
                .collect()
        };
        for (link, beat) in beats {
            self.note(link, beat, draining);
        }
        self.tell_orders();
        self.announce();
    }

    /// A slave will not come back: it is shown no more.
    pub fn forget(&self, slave: SlaveId) {
        let mut marked = self.marked();
        marked.draining.remove(&slave);
        marked.forgotten.insert(slave);
    }

    /// All slaves, as an operator at this address sees them.
    pub fn reports(&self, asker: ConnectionAddrs) -> Vec<SlaveReport> {
        let mut reports = self.registry().reports(asker, self.now());
        let marked = self.marked();
        reports.retain(|report| !marked.forgotten.contains(&report.id));
        reports
    }

    /// Logs what has changed since the last time.
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

    fn marked(&self) -> MutexGuard<'_, Marked> {
        self.marked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn code(conflict: Conflict) -> ErrorCode {
    match conflict {
        // The slave itself finds out whether its disk is a copy of another one's.
        Conflict::SameId { .. } => ErrorCode::Exists,
        Conflict::SameAddress { .. } => ErrorCode::Conflict,
        Conflict::Nowhere => ErrorCode::BadRequest,
        Conflict::Full => ErrorCode::Busy,
    }
}

/// The addresses that a slave's `--advertise` stands for; none for an empty one.
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
