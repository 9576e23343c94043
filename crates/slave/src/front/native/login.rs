//! The login of one connection to a slave, frame by frame.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use log::debug;
use relais_auth::{
    AuthenticatedUser, LinkChallenger, LinkError, LinkRole, LoginResult, PendingLogin, Rights,
    Ticket,
};
use relais_net::tls::ChannelBinding;
use relais_net::{LoginHandler, LoginStep};
use relais_proto::{
    Capabilities, ClusterId, ErrorCode, FrameType, LinkMessage, Login, Lsn, Refusal, Reply,
    Request, Role, ServerRole, TreePath, VERSIONS, WireError, common_version, limits,
};

use crate::config::master_for;
use crate::engine::owner::Owner;
use crate::engine::serving::Session;
use crate::scoreboard::Scoreboard;
use crate::secrets::WorkerSecrets;
use crate::worker::passwords::WorkerPasswords;
use crate::worker::wait_queue::{Admission, ClaimError, SlotClaim};

/// How a slave decides about logins.
pub enum LoginPolicy {
    /// A standalone slave: without accounts every client may read.
    Standalone {
        /// The id by which clients know the server.
        id: ClusterId,
        /// Whether clients may change the tree while there are no accounts.
        writable: bool,
        /// The accounts, and the verifier of passwords.
        passwords: Option<WorkerPasswords>,
    },
    /// A slave of a cluster: the master decides, and issues tickets.
    Cluster {
        /// The master, for clients that have no ticket.
        master: String,
        /// Holds the cluster key, once that exists.
        secrets: WorkerSecrets,
    },
}

impl LoginPolicy {
    /// Returns the descriptors that are readable after a password check or new secrets.
    pub fn wake_fds(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Self::Standalone { passwords: Some(passwords), .. } => {
                vec![passwords.verifier.wake_fd(), passwords.secrets.as_fd()]
            }
            Self::Standalone { passwords: None, .. } => Vec::new(),
            Self::Cluster { secrets, .. } => vec![secrets.as_fd()],
        }
    }

    /// Handles the events of the descriptors of [`Self::wake_fds`].
    pub fn handle_wake(&self) {
        match self {
            Self::Standalone { passwords: Some(passwords), .. } => {
                passwords.verifier.clear_wake();
                passwords.secrets.receive();
            }
            Self::Standalone { passwords: None, .. } => {}
            Self::Cluster { secrets, .. } => secrets.receive(),
        }
    }

    /// Whether other slaves can log in with the cluster key.
    fn accepts_peers(&self) -> bool {
        matches!(self, Self::Cluster { .. })
    }

    fn welcome(&self, version: u16) -> Reply {
        let (role, cluster) = match self {
            Self::Standalone { id, .. } => (ServerRole::Standalone, *id),
            Self::Cluster { secrets, .. } => {
                (ServerRole::Slave, secrets.cluster_id().unwrap_or(ClusterId([0; 16])))
            }
        };
        let capabilities = Capabilities::default();
        Reply::Welcome { version, role, cluster, capabilities, agent: crate::agent() }
    }

    fn check_ticket(
        &self,
        ticket: &[u8],
        lsn: Lsn,
        scoreboard: &Scoreboard,
    ) -> Result<Session, Refusal> {
        let Self::Cluster { secrets, .. } = self else {
            return Err(Refusal::new(
                ErrorCode::BadTicket,
                "this standalone slave takes no tickets",
            ));
        };
        let mut why = "this slave does not have the cluster key yet".to_owned();
        let checked = secrets.with_key(|key| {
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
                    seen_lsn: lsn,
                    is_peer: false,
                    generation,
                    ends_ms,
                })
            }
            None => Err(Refusal::new(ErrorCode::BadTicket, why)),
        }
    }
}

/// Seconds after which a client that found no slot may try again.
const RETRY_AFTER: u16 = 1;

/// Returns the refusal of a session for which there is no thread.
pub fn no_thread_refusal() -> Refusal {
    let message = format!("the slave cannot start another session; try again in {RETRY_AFTER} s");
    Refusal { retry_after: RETRY_AFTER, ..Refusal::new(ErrorCode::Busy, message) }
}

/// The login of one connection.
pub struct SlaveLogin {
    policy: Arc<LoginPolicy>,
    scoreboard: Arc<Scoreboard>,
    worker: usize,
    addr: SocketAddr,
    local: SocketAddr,
    greeted: bool,
    /// State of another slave's proof; none for a client.
    peer: Option<PeerProof>,
    /// A password that is being verified.
    pending: Option<PendingLogin>,
    /// Number of wrong passwords on this connection.
    failed: u32,
    /// Ties proofs to this connection, if it is encrypted.
    binding: Option<ChannelBinding>,
}

/// State of another slave's proof of the cluster key.
#[derive(Debug)]
enum PeerProof {
    /// The slave has greeted.
    Greeted,
    /// The slave was challenged.
    Challenged(LinkChallenger),
}

impl SlaveLogin {
    /// Makes the login of a connection that has just come to `worker`.
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

    fn handle(&mut self, kind: FrameType, payload: &[u8]) -> Result<LoginStep<Admission>, Refusal> {
        let bad = |e: WireError| Refusal::new(ErrorCode::BadRequest, e.to_string());
        if let Some(proof) = self.peer.take() {
            return self.handle_peer(&proof, &LinkMessage::decode(kind, payload).map_err(bad)?);
        }
        match (Request::decode(kind, payload).map_err(bad)?, self.greeted) {
            (Request::Hello(hello), false)
                if hello.role == Role::Client
                    || hello.role == Role::Peer && self.policy.accepts_peers() =>
            {
                let version = common_version(VERSIONS, hello.versions)
                    .map_err(|e| Refusal::new(ErrorCode::BadVersion, e.to_string()))?;
                self.greeted = true;
                self.peer = (hello.role == Role::Peer).then_some(PeerProof::Greeted);
                Ok(LoginStep::Reply(encoded(&self.policy.welcome(version))))
            }
            (Request::Hello(_), false) => Err(Refusal::new(
                ErrorCode::BadRequest,
                "this is a slave; only clients connect to it",
            )),
            (Request::Ticket { ticket, lsn }, true) => {
                self.admit(self.policy.check_ticket(&ticket, lsn, &self.scoreboard)?)
            }
            (Request::Login(login), true) => self.login(&login),
            _ => {
                Err(Refusal::new(ErrorCode::LoginNeeded, "a session begins with Hello and a login"))
            }
        }
    }

    /// Handles a frame of another slave's proof.
    fn handle_peer(
        &mut self,
        proof: &PeerProof,
        message: &LinkMessage,
    ) -> Result<LoginStep<Admission>, Refusal> {
        let LoginPolicy::Cluster { secrets, .. } = &*self.policy else {
            return Err(Refusal::new(ErrorCode::BadRequest, "this slave is standalone"));
        };
        let refused = |e: LinkError| e.refusal();
        let no_key =
            || Refusal::new(ErrorCode::BadProof, "this slave does not have the cluster key yet");
        match proof {
            PeerProof::Greeted => {
                let result = secrets
                    .with_key(|key| {
                        Some(LinkChallenger::new(LinkRole::Peer, message, key, self.binding))
                    })
                    .ok_or_else(no_key)?;
                let (challenger, challenge) = result.map_err(refused)?;
                self.peer = Some(PeerProof::Challenged(challenger));
                let mut bytes = Vec::new();
                challenge.encode(&mut bytes);
                Ok(LoginStep::Reply(bytes))
            }
            PeerProof::Challenged(challenger) => {
                secrets
                    .with_key(|key| challenger.check(message, key).ok())
                    .ok_or_else(|| refused(LinkError::BadProof))?;
                debug!("{}: slave {} has logged in to fetch content", self.addr, challenger.id());
                self.admit(Session::for_peer())
            }
        }
    }

    fn login(&mut self, login: &Login) -> Result<LoginStep<Admission>, Refusal> {
        let (writable, passwords) = match &*self.policy {
            LoginPolicy::Cluster { master, .. } => {
                return Ok(LoginStep::Close(encoded(&Reply::AskMaster(master_for(
                    master, self.addr, self.local,
                )))));
            }
            LoginPolicy::Standalone { writable, passwords, .. } => (*writable, passwords.as_ref()),
        };
        let needed = passwords
            .map(|passwords| {
                passwords
                    .is_needed(&self.scoreboard)
                    .map(|needed| Some(passwords).filter(|_| needed))
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
            (Some(passwords), false) => {
                self.pending = Some(passwords.verifier.submit(
                    self.addr.ip(),
                    &login.user,
                    &login.password,
                )?);
                Ok(LoginStep::Pending)
            }
        }
    }

    fn session(&self, user: String, root: TreePath, writable: bool, generation: u64) -> Session {
        let time = u64::try_from(limits::TICKET_TIME.as_millis()).unwrap_or(u64::MAX);
        let ends_ms = self.scoreboard.master_ms().saturating_add(time);
        let owner = Owner::default();
        Session {
            user,
            owner,
            root,
            writable,
            seen_lsn: Lsn::default(),
            is_peer: false,
            generation,
            ends_ms,
        }
    }

    /// Handles the result of verifying a password.
    fn handle_verdict(&mut self, verdict: LoginResult) -> Result<LoginStep<Admission>, Refusal> {
        match verdict {
            Ok(AuthenticatedUser { name, rights, root, generation }) => {
                self.admit(self.session(name, root, rights == Rights::Write, generation))
            }
            Err(refusal) => {
                self.failed += u32::from(refusal.code == ErrorCode::LoginRefused);
                let again =
                    refusal.code == ErrorCode::LoginRefused && self.failed < limits::LOGIN_TRIES;
                if again {
                    Ok(LoginStep::Reply(encoded(&Reply::Error(refusal))))
                } else {
                    Err(refusal)
                }
            }
        }
    }
}

impl SlaveLogin {
    fn close_with(&self, refusal: &Refusal) -> LoginStep<Admission> {
        debug!("{}: {refusal}", self.addr);
        LoginStep::Close(encoded(&Reply::Error(refusal.clone())))
    }

    fn admit(&self, mut session: Session) -> Result<LoginStep<Admission>, Refusal> {
        session.owner = Owner::of(&session.user, self.addr.ip());
        if self.scoreboard.is_draining() && !session.is_peer {
            return Err(Refusal::new(ErrorCode::Draining, "this slave is being drained"));
        }
        let claim = if session.is_peer {
            SlotClaim::for_peer(self.scoreboard.clone(), self.worker)
        } else {
            SlotClaim::for_client(self.scoreboard.clone(), self.worker, self.addr.ip())
        };
        let claim = claim.map_err(|why| {
            let what = match why {
                ClaimError::Full => "all session slots are taken",
                ClaimError::Address => "your address has as many sessions here as it may have",
            };
            let message = format!("{what}; try again in {RETRY_AFTER} s");
            Refusal { retry_after: RETRY_AFTER, ..Refusal::new(ErrorCode::Busy, message) }
        })?;
        Ok(LoginStep::Done { value: Admission { session, claim }, send: Vec::new() })
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
        match &*self.policy {
            LoginPolicy::Standalone { passwords: Some(passwords), .. } => {
                passwords.verifier.is_known(self.addr.ip())
            }
            _ => false,
        }
    }

    fn on_frame(&mut self, kind: FrameType, payload: &[u8]) -> LoginStep<Admission> {
        self.handle(kind, payload).unwrap_or_else(|refusal| self.close_with(&refusal))
    }

    fn on_encrypted(&mut self, binding: ChannelBinding) {
        self.binding = Some(binding);
    }

    fn poll_pending(&mut self) -> Option<LoginStep<Admission>> {
        let verdict = self.pending.as_ref()?.take()?;
        self.pending = None;
        Some(self.handle_verdict(verdict).unwrap_or_else(|refusal| self.close_with(&refusal)))
    }

    fn refuse_busy(&mut self) -> Vec<u8> {
        encoded(&Reply::Error(no_thread_refusal()))
    }

    fn refuse(&mut self, error: &WireError) -> Vec<u8> {
        debug!("{}: {error}", self.addr);
        encoded(&Reply::Error(Refusal::new(ErrorCode::BadRequest, error.to_string())))
    }
}
