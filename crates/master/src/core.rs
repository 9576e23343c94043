//! The state that all threads of the master share.
//!
//! It has the registry behind its lock, the key, the master's time, the links and the handle of the
//! order. No code here waits for a peer while it holds a lock.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use log::debug;
use parking_lot::Mutex;
use relais_auth::{
    AuthenticatedUser, ClusterKey, EndedTickets, FailedLogins, LiveAccounts, LocalLoginState,
    PasswordVerifier, Ticket, log_out,
};
use relais_cluster::{
    Balance, Conflict, ConnectionAddrs, CoordinatorEvent, HttpAddresses, HttpEndpoint,
    HttpRequester, JoinRequest, LinkId, NoSlave, Registry, SlaveAddresses, same_host,
};
use relais_coordinator::{OrderCommand, OrderHandle, OrderStatus, SharedOrderStatus};
use relais_proto::{
    ClusterId, ErrorCode, FolderId, Heartbeat, LinkMessage, LogOut, Login, PathPage, Refusal,
    Registration, Reply, SlaveId, SlaveReport, SlaveState, TreePage, sanitize,
};

use crate::announcements::{Announced, state_text};
use crate::certifier::Certifier;
use crate::events::EventLog;
use crate::forwarded_logins::ForwardedLogins;
use crate::http_config::HttpConfig;
use crate::linked_slaves::LinkedSlaves;
use crate::log_outs::{LogOuts, send_log_outs};
use crate::open_links::OpenLinks;
use crate::outbox::Outbox;
use crate::queries::Queries;
use crate::status::Report;

/// Retry delay of a client in seconds while no slave is in service.
const RETRY_AFTER: u16 = 1;

/// The configuration of a master.
pub struct Config {
    /// The cluster key.
    pub key: ClusterKey,
    /// The way in which clients are spread over slaves.
    pub balance: Balance,
    /// Time for logins and operators to finish after a stop request.
    pub grace: Duration,
    /// Default number of disks that must hold a content before its put is acknowledged.
    pub copies: u16,
    /// Time for which removal records are kept.
    pub remember: Duration,
    /// The accounts of users.
    pub accounts: Arc<LiveAccounts>,
    /// The issuer of certificates.
    pub certifier: Certifier,
    /// How HTTP is served.
    pub http: HttpConfig,
    /// Path of the file with the log-outs.
    pub log_outs: PathBuf,
}

pub(crate) struct Core {
    pub config: Config,
    pub cluster: ClusterId,
    pub open_links: Arc<OpenLinks>,
    /// Whether the master is stopping.
    pub stopping: AtomicBool,
    /// Each login in progress has a copy, so that they can be counted.
    pub login_token: Arc<()>,
    pub slaves: LinkedSlaves,
    pub order: OrderHandle,
    pub order_status: Arc<SharedOrderStatus>,
    /// What has happened lately.
    pub events: EventLog,
    pub announced: Announced,
    /// Open queries for slaves' trees.
    pub queries: Queries<TreePage>,
    /// Open queries for lists of paths.
    pub lists: Queries<PathPage>,
    /// The number of scrubs that operators have ordered.
    pub scrubs: AtomicU64,
    pub passwords: PasswordVerifier,
    pub forwarded_logins: ForwardedLogins,
    pub log_outs: LogOuts,
    /// The generation of the accounts that was last sent to the slaves.
    sent_generation: AtomicU64,
    /// Whether clients on this host may make changes without an account.
    pub is_open: bool,
    registry: Mutex<Registry>,
    settings: Mutex<SlaveSettings>,
    started: Instant,
    started_ms: u64,
}

/// Operators' settings for slaves.
#[derive(Debug, Default)]
struct SlaveSettings {
    /// Slaves that get no clients until an operator makes them ready.
    draining: BTreeSet<SlaveId>,
    /// Slaves that an operator has removed.
    forgotten: BTreeSet<SlaveId>,
    /// How often each slave was made ready.
    readies: BTreeMap<SlaveId, u64>,
}

impl Core {
    /// Makes the shared state. `is_open`: the master listens on loopback only.
    ///
    /// # Errors
    /// The threads for passwords cannot be started.
    pub fn new(
        config: Config,
        registry: Registry,
        order: OrderHandle,
        log_outs: LogOuts,
        is_open: bool,
    ) -> std::io::Result<Self> {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // One thread for each core, because a hash keeps a core busy.
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let passwords = PasswordVerifier::start(
            Arc::clone(&config.accounts),
            FailedLogins::new()?,
            Box::new(LocalLoginState::default()),
            threads,
        )?;
        Ok(Self {
            cluster: config.key.cluster_id(),
            open_links: Arc::default(),
            stopping: AtomicBool::new(false),
            login_token: Arc::default(),
            slaves: LinkedSlaves::default(),
            order,
            order_status: Arc::default(),
            events: EventLog::default(),
            announced: Announced::new(config.accounts.current()),
            queries: Queries::default(),
            lists: Queries::default(),
            scrubs: AtomicU64::new(0),
            log_outs,
            sent_generation: AtomicU64::new(config.accounts.generation()),
            config,
            passwords,
            forwarded_logins: ForwardedLogins::default(),
            is_open,
            settings: Mutex::default(),
            registry: Mutex::new(registry),
            started: Instant::now(),
            started_ms: milliseconds(since_1970),
        })
    }

    /// Whether a login is in progress.
    pub fn has_logins(&self) -> bool {
        Arc::strong_count(&self.login_token) > 1
    }

    /// The master's time in milliseconds since 1970 UTC.
    ///
    /// It is the wall clock at the start plus the monotonic time since, so that a later change of
    /// the wall clock expires no ticket.
    pub fn time_ms(&self) -> u64 {
        self.started_ms.saturating_add(milliseconds(self.started.elapsed()))
    }

    /// Answers a user whose password was right, or who needs none: with a ticket and slaves.
    pub fn welcome(
        &self,
        login: &Login,
        user: AuthenticatedUser,
        peer: SocketAddr,
        local: SocketAddr,
    ) -> Reply {
        let client = ConnectionAddrs::new(peer.ip(), local.ip());
        let writes = user.rights.can_write();
        let slaves = self.registry.lock().redirect(
            client,
            &login.avoid,
            login.prefer,
            writes,
            self.uptime(),
        );
        match slaves {
            Ok(slaves) => {
                debug!(
                    "{peer}: sent to {}",
                    slaves.first().map_or_else(String::new, |s| format!("{} {:?}", s.id, s.addrs))
                );
                Reply::Redirect { ticket: self.mint(user), lsn: self.order_status.lsn(), slaves }
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

    /// Returns the tickets whose users have logged out.
    pub fn ended_tickets(&self) -> EndedTickets<'_> {
        self.log_outs.table()
    }

    /// Makes a ticket useless on all servers.
    pub fn end_ticket(&self, ticket: &Ticket, bytes: &[u8]) {
        self.add_log_outs(&[log_out(ticket, bytes, self.time_ms())], None);
    }

    /// Adds log-outs, and passes new ones on to all slaves but the one on the link `from`.
    pub fn add_log_outs(&self, rows: &[LogOut], from: Option<LinkId>) {
        let new = self.log_outs.add(rows, self.time_ms());
        if new.is_empty() {
            return;
        }
        for linked in self.slaves.all().iter().filter(|linked| Some(linked.link) != from) {
            send_log_outs(&linked.outbox, &new);
        }
    }

    /// Sends a slave all log-outs. Later ones follow, because it is among the linked slaves.
    pub fn send_log_outs(&self, outbox: &Outbox) {
        send_log_outs(outbox, &self.ended_tickets().rows(self.time_ms()));
    }

    /// Issues a ticket for a user that has logged in.
    pub fn mint(&self, user: AuthenticatedUser) -> Vec<u8> {
        Ticket::new(user, self.cluster, self.time_ms()).mint(&self.config.key)
    }

    /// Reloads accounts and certificates at once.
    pub fn reload(&self) {
        self.config.accounts.reload();
        self.config.certifier.reload();
    }

    /// Sends a changed generation of the accounts to the slaves at once.
    pub fn send_generation(&self) {
        let generation = self.config.accounts.generation();
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

    /// Whether a slave is in service.
    pub fn has_service(&self) -> bool {
        self.registry.lock().has_service(self.uptime())
    }

    /// Selects the slaves for an HTTP request, among those whose folder `can_serve` accepts.
    ///
    /// # Errors
    /// The reason why there is no slave.
    pub fn http_slaves(
        &self,
        requester: HttpRequester,
        can_serve: impl Fn(FolderId) -> bool,
    ) -> Result<Vec<HttpEndpoint>, NoSlave> {
        self.registry.lock().http_slaves(requester, |_, folder| can_serve(folder), self.uptime())
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
        let listeners = wish.http.clone().unwrap_or_default();
        let http = HttpAddresses::new(listeners, &wish.advertise);
        let joining = JoinRequest {
            id,
            link,
            place: place.clone(),
            http,
            folder: wish.folder,
            lsn: wish.lsn,
        };
        loop {
            let result = self.registry.lock().register(joining.clone(), self.uptime());
            match result {
                Ok(replaced) => {
                    replaced.iter().for_each(|old| self.open_links.shut(*old));
                    self.settings.lock().forgotten.remove(&id);
                    self.announce();
                    return Ok(place);
                }
                // A restarted slave may register before the thread of its old link has seen the
                // end.
                Err(conflict) => {
                    match conflict.holder().filter(|holder| self.open_links.has_ended(*holder)) {
                        Some(gone) => self.registry.lock().closed(gone),
                        None => return Err(Refusal::new(code(conflict), conflict.to_string())),
                    }
                }
            }
        }
    }

    /// Handles a heartbeat, and returns its acknowledgement; none if the link was replaced.
    pub fn record_heartbeat(
        &self,
        id: SlaveId,
        link: LinkId,
        heartbeat: Heartbeat,
    ) -> Option<LinkMessage> {
        self.slaves.set_heartbeat(link, heartbeat.clone());
        let draining = self.settings.lock().draining.contains(&id);
        let counts = self.note(link, heartbeat, draining);
        self.announce();
        counts.then(|| self.beat_ack(id))
    }

    fn beat_ack(&self, slave: SlaveId) -> LinkMessage {
        let settings = self.settings.lock();
        LinkMessage::HeartbeatAck {
            lsn: self.order_status.lsn(),
            time_ms: self.time_ms(),
            generation: self.config.accounts.generation(),
            draining: settings.draining.contains(&slave),
            scrubs: self.scrubs.load(Ordering::Relaxed),
            copies: self.config.copies,
            retries: settings.readies.get(&slave).copied().unwrap_or_default(),
        }
    }

    /// Passes a heartbeat to the registry. A draining slave gets no clients, whatever it reports.
    fn note(&self, link: LinkId, heartbeat: Heartbeat, draining: bool) -> bool {
        let state = if draining { SlaveState::Draining } else { heartbeat.state };
        self.registry.lock().record_heartbeat(link, Heartbeat { state, ..heartbeat }, self.uptime())
    }

    /// Handles the end of a slave's link.
    pub fn closed(&self, link: LinkId) {
        self.registry.lock().closed(link);
        self.slaves.remove(link);
        self.queries.ended(link);
        self.lists.ended(link);
        self.forwarded_logins.ended(link);
        self.order.send(OrderCommand::Events(vec![CoordinatorEvent::LinkClosed { link }]));
        self.announce();
    }

    /// Drains a slave or makes it ready, at once and for its later links too.
    pub fn drain(&self, slave: SlaveId, draining: bool) {
        {
            let mut settings = self.settings.lock();
            if draining {
                settings.draining.insert(slave);
            } else {
                *settings.readies.entry(slave).or_default() += 1;
                settings.draining.remove(&slave);
            }
        }
        for linked in self.slaves.all().into_iter().filter(|linked| linked.slave == slave) {
            if let Some(heartbeat) = linked.heartbeat {
                self.note(linked.link, heartbeat, draining);
            }
        }
        self.send_heartbeat_acks();
        self.announce();
    }

    /// Removes a slave from the reports.
    pub fn forget(&self, slave: SlaveId) {
        let mut settings = self.settings.lock();
        settings.draining.remove(&slave);
        settings.forgotten.insert(slave);
    }

    /// Reports on all slaves, with addresses for an operator at this viewpoint.
    pub fn reports(&self, asker: ConnectionAddrs) -> Vec<SlaveReport> {
        let mut reports = self.registry.lock().reports(asker, self.uptime());
        let settings = self.settings.lock();
        reports.retain(|report| !settings.forgotten.contains(&report.id));
        reports
    }

    /// Reports on the cluster, with addresses for an operator at this viewpoint.
    pub fn report(&self, asker: ConnectionAddrs) -> Report {
        let OrderStatus { lsn, halted, lost, removals } = self.order_status.get();
        let halted = halted.map_or_else(String::new, |halt| halt.why().to_owned());
        let (removals, removals_cap) = removals;
        Report { lsn, slaves: self.reports(asker), halted, lost, removals, removals_cap }
    }

    /// Records what has happened since the last call: to slaves, accounts and the order.
    pub fn announce_all(&self) {
        self.announce();
        self.announced.accounts(self.config.accounts.current(), &self.events);
        self.announced.halt(self.order_status.get().halted, &self.events);
    }

    /// Records changes of slaves' states since the last call.
    pub fn announce(&self) {
        let notices = self.registry.lock().notices(self.uptime());
        for notice in &notices {
            let (level, text) = state_text(notice);
            self.events.record(level, text);
        }
    }

    /// The time since the start of the master.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }
}

pub(crate) fn milliseconds(time: Duration) -> u64 {
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
