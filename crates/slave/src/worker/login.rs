//! Who may open a session: the login of one connection, frame by frame.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use log::debug;
use relais_net::tls::ChannelBinding;
use relais_net::{LoginHandler, Step};
use relais_proto::{
    ClusterId, ErrorCode, FrameType, LinkMessage, Login, Lsn, Refusal, Reply, Request, Role,
    ServerRole, TreePath, VERSIONS, WireError, common_version, limits,
};
use relais_state::{LinkChallenger, LinkError, LinkRole, Pending, Rights, Ticket, User, Verdict};

use crate::config::master_for;
use crate::owner::Owner;
use crate::scoreboard::Scoreboard;
use crate::secrets::WorkerSecrets;
use crate::serving::Session;
use crate::worker::passwords::WorkerPasswords;
use crate::worker::wait_queue::{Admission, ClaimError, SlotClaim};

/// What decides about a login.
pub enum LoginPolicy {
    /// Stands alone: where there are no accounts anybody may read.
    Standalone {
        /// The id that its clients know it by.
        id: ClusterId,
        /// Whether somebody may change anything where there are no accounts.
        writable: bool,
        /// Where passwords are looked at.
        desk: Option<WorkerPasswords>,
    },
    /// Belongs to a cluster: the master decides, and its ticket tells.
    Cluster {
        /// The master, for clients that come without a ticket.
        master: String,
        /// The cluster key, once it is there.
        key: WorkerSecrets,
    },
}

impl LoginPolicy {
    /// Can be read once a password was looked at, or the supervisor has handed something over.
    pub fn wake(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Self::Standalone { desk: Some(desk), .. } => {
                vec![desk.desk.wake(), desk.secrets.as_fd()]
            }
            Self::Standalone { desk: None, .. } => Vec::new(),
            Self::Cluster { key, .. } => vec![key.as_fd()],
        }
    }

    /// Has noticed that one of [`Self::wake`] could be read.
    pub fn drain(&self) {
        match self {
            Self::Standalone { desk: Some(desk), .. } => {
                desk.desk.drain();
                desk.secrets.take();
            }
            Self::Standalone { desk: None, .. } => {}
            Self::Cluster { key, .. } => key.take(),
        }
    }

    /// Whether other slaves can prove that they belong here.
    fn has_key(&self) -> bool {
        matches!(self, Self::Cluster { .. })
    }

    fn welcome(&self, version: u16) -> Reply {
        let (role, cluster) = match self {
            Self::Standalone { id, .. } => (ServerRole::Standalone, *id),
            Self::Cluster { key, .. } => {
                (ServerRole::Slave, key.cluster_id().unwrap_or(ClusterId([0; 16])))
            }
        };
        Reply::Welcome { version, role, cluster, agent: crate::agent() }
    }

    fn check_ticket(
        &self,
        ticket: &[u8],
        mark: Lsn,
        scoreboard: &Scoreboard,
    ) -> Result<Session, Refusal> {
        let Self::Cluster { key, .. } = self else {
            return Err(Refusal::new(
                ErrorCode::BadTicket,
                "this slave stands alone and takes no tickets",
            ));
        };
        let mut why = "this slave does not have the cluster key yet".to_owned();
        let checked = key.with_key(|key| {
            Ticket::check(
                ticket,
                key,
                key.cluster_id(),
                scoreboard.master_ms(),
                scoreboard.generation(),
            )
            .map_err(|e| why = e.to_string())
            .ok()
        });
        match checked {
            Some(ticket) => {
                let Ticket { user, rights, root, generation, ends_ms, .. } = ticket;
                Ok(Session {
                    user,
                    owner: Owner::default(),
                    root,
                    writable: rights == Rights::Write,
                    mark,
                    peer: false,
                    generation,
                    ends_ms,
                })
            }
            None => Err(Refusal::new(ErrorCode::BadTicket, why)),
        }
    }
}

/// What a client that found no place is told to wait, in seconds.
const RETRY_AFTER: u16 = 1;

/// The refusal of a session for which there is no thread.
pub fn no_thread() -> Refusal {
    let message = format!("there is no thread for one more session; try again in {RETRY_AFTER} s");
    Refusal { retry_after: RETRY_AFTER, ..Refusal::new(ErrorCode::Busy, message) }
}

/// Leads one connection to a session.
pub struct SlaveLogin {
    policy: Arc<LoginPolicy>,
    scoreboard: Arc<Scoreboard>,
    worker: usize,
    addr: SocketAddr,
    local: SocketAddr,
    greeted: bool,
    /// Where another slave stands with its proof.
    peer: Option<PeerProof>,
    /// A password that is being looked at.
    pending: Option<Pending>,
    /// Passwords on this connection that were wrong.
    failed: u32,
    /// What ties proofs to the line, where that is encrypted.
    binding: Option<ChannelBinding>,
}

/// Another slave, on its way to prove the cluster key.
#[derive(Debug)]
enum PeerProof {
    /// It has said what it is.
    Greeted,
    /// It was challenged.
    Challenged(LinkChallenger),
}

impl SlaveLogin {
    /// For a connection that has just come to `worker`.
    #[must_use]
    pub fn new(
        policy: Arc<LoginPolicy>,
        scoreboard: Arc<Scoreboard>,
        worker: usize,
        peer: SocketAddr,
        local: SocketAddr,
    ) -> Self {
        Self {
            policy,
            scoreboard,
            worker,
            addr: peer,
            local,
            greeted: false,
            peer: None,
            pending: None,
            failed: 0,
            binding: None,
        }
    }

    fn take(&mut self, kind: FrameType, payload: &[u8]) -> Result<Step<Admission>, Refusal> {
        let bad = |e: WireError| Refusal::new(ErrorCode::BadRequest, e.to_string());
        if let Some(peering) = self.peer.take() {
            return self.take_peer(&peering, &LinkMessage::decode(kind, payload).map_err(bad)?);
        }
        match (Request::decode(kind, payload).map_err(bad)?, self.greeted) {
            (Request::Hello(hello), false)
                if hello.role == Role::Client
                    || hello.role == Role::Peer && self.policy.has_key() =>
            {
                let version = common_version(VERSIONS, hello.versions)
                    .map_err(|e| Refusal::new(ErrorCode::BadVersion, e.to_string()))?;
                self.greeted = true;
                self.peer = (hello.role == Role::Peer).then_some(PeerProof::Greeted);
                Ok(Step::Reply(encoded(&self.policy.welcome(version))))
            }
            (Request::Hello(_), false) => Err(Refusal::new(
                ErrorCode::BadRequest,
                "this is a slave; only clients connect to it",
            )),
            (Request::Ticket { ticket, mark }, true) => {
                self.admit(self.policy.check_ticket(&ticket, mark, &self.scoreboard)?)
            }
            (Request::Login(login), true) => self.login(&login),
            _ => {
                Err(Refusal::new(ErrorCode::LoginNeeded, "a session begins with Hello and a login"))
            }
        }
    }

    /// The proof of another slave.
    fn take_peer(
        &mut self,
        peering: &PeerProof,
        message: &LinkMessage,
    ) -> Result<Step<Admission>, Refusal> {
        let LoginPolicy::Cluster { key, .. } = &*self.policy else {
            return Err(Refusal::new(ErrorCode::BadRequest, "this slave stands alone"));
        };
        let refused = |e: LinkError| e.refusal();
        let no_key =
            || Refusal::new(ErrorCode::BadProof, "this slave does not have the cluster key yet");
        match peering {
            PeerProof::Greeted => {
                let made = key
                    .with_key(|key| {
                        Some(LinkChallenger::new(LinkRole::Peer, message, key, self.binding))
                    })
                    .ok_or_else(no_key)?;
                let (challenger, challenge) = made.map_err(refused)?;
                self.peer = Some(PeerProof::Challenged(challenger));
                let mut bytes = Vec::new();
                challenge.encode(&mut bytes);
                Ok(Step::Reply(bytes))
            }
            PeerProof::Challenged(challenger) => {
                key.with_key(|key| challenger.check(message, key).ok())
                    .ok_or_else(|| refused(LinkError::BadProof))?;
                debug!("{}: slave {} takes content", self.addr, challenger.id());
                self.admit(Session::of_peer())
            }
        }
    }

    fn login(&mut self, login: &Login) -> Result<Step<Admission>, Refusal> {
        let (writable, desk) = match &*self.policy {
            LoginPolicy::Cluster { master, .. } => {
                return Ok(Step::Close(encoded(&Reply::AskMaster(master_for(
                    master, self.addr, self.local,
                )))));
            }
            LoginPolicy::Standalone { writable, desk, .. } => (*writable, desk.as_ref()),
        };
        let needed = desk
            .map(|desk| {
                desk.is_needed(&self.scoreboard).map(|needed| Some(desk).filter(|_| needed))
            })
            .transpose()?
            .flatten();
        match (needed, login.user.is_empty()) {
            (None, true) => self.admit(self.session(String::new(), TreePath::root(), writable, 0)),
            (None, false) => {
                let message = "there are no accounts on this server; log in without a name";
                Err(Refusal::new(ErrorCode::LoginRefused, message))
            }
            (Some(_), true) => Err(Refusal::new(
                ErrorCode::LoginNeeded,
                "a user name and a password are needed here",
            )),
            (Some(desk), false) => {
                self.pending =
                    Some(desk.desk.hand_in(self.addr.ip(), &login.user, &login.password)?);
                Ok(Step::Pending)
            }
        }
    }

    fn session(&self, user: String, root: TreePath, writable: bool, generation: u64) -> Session {
        let time = u64::try_from(limits::TICKET_TIME.as_millis()).unwrap_or(u64::MAX);
        let ends_ms = self.scoreboard.master_ms().saturating_add(time);
        let (owner, mark) = (Owner::default(), Lsn::default());
        Session { user, owner, root, writable, mark, peer: false, generation, ends_ms }
    }

    /// The password was looked at.
    fn judged(&mut self, verdict: Verdict) -> Result<Step<Admission>, Refusal> {
        match verdict {
            Ok(User { name, rights, root, generation }) => {
                self.admit(self.session(name, root, rights == Rights::Write, generation))
            }
            Err(refusal) => {
                self.failed += u32::from(refusal.code == ErrorCode::LoginRefused);
                let again =
                    refusal.code == ErrorCode::LoginRefused && self.failed < limits::LOGIN_TRIES;
                if again { Ok(Step::Reply(encoded(&Reply::Error(refusal)))) } else { Err(refusal) }
            }
        }
    }
}

impl SlaveLogin {
    fn turned_away(&self, refusal: &Refusal) -> Step<Admission> {
        debug!("{}: {refusal}", self.addr);
        Step::Close(encoded(&Reply::Error(refusal.clone())))
    }

    fn admit(&self, mut session: Session) -> Result<Step<Admission>, Refusal> {
        session.owner = Owner::of(&session.user, self.addr.ip());
        if self.scoreboard.is_draining() && !session.peer {
            return Err(Refusal::new(ErrorCode::Draining, "this slave is being drained"));
        }
        let claim = if session.peer {
            SlotClaim::of_peer(self.scoreboard.clone(), self.worker)
        } else {
            SlotClaim::of_client(self.scoreboard.clone(), self.worker, self.addr.ip())
        };
        let claim = claim.map_err(|why| {
            let what = match why {
                ClaimError::Full => "all places are taken",
                ClaimError::Address => "your address has as many sessions here as it may have",
            };
            let message = format!("{what}; try again in {RETRY_AFTER} s");
            Refusal { retry_after: RETRY_AFTER, ..Refusal::new(ErrorCode::Busy, message) }
        })?;
        Ok(Step::Done { value: Admission { session, claim }, send: Vec::new() })
    }
}

fn encoded(reply: &Reply) -> Vec<u8> {
    let mut bytes = Vec::new();
    reply.encode(&mut bytes);
    bytes
}

impl LoginHandler for SlaveLogin {
    type Value = Admission;

    fn is_known(&self) -> bool {
        matches!(&*self.policy, LoginPolicy::Standalone { desk: Some(desk), .. } if desk.desk.is_known(self.addr.ip()))
    }

    fn frame(&mut self, kind: FrameType, payload: &[u8]) -> Step<Admission> {
        self.take(kind, payload).unwrap_or_else(|refusal| self.turned_away(&refusal))
    }

    fn secured(&mut self, binding: ChannelBinding) {
        self.binding = Some(binding);
    }

    fn ready(&mut self) -> Option<Step<Admission>> {
        let verdict = self.pending.as_ref()?.take()?;
        self.pending = None;
        Some(self.judged(verdict).unwrap_or_else(|refusal| self.turned_away(&refusal)))
    }

    fn turn_away(&mut self) -> Vec<u8> {
        encoded(&Reply::Error(no_thread()))
    }

    fn refuse(&mut self, error: &WireError) -> Vec<u8> {
        debug!("{}: {error}", self.addr);
        encoded(&Reply::Error(Refusal::new(ErrorCode::BadRequest, error.to_string())))
    }
}
