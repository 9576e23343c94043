//! Leads one peer through its login: a client to its redirect, a slave or an
//! operator to the proof of the cluster key. It answers frames with frames and
//! never waits.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use log::{debug, warn};
use relais_net::tls::ChannelBinding;
use relais_net::{LoginHandler, LoginStep};
use relais_proto::{
    ErrorCode, FrameType, Hello, LinkMessage, LogRateLimiter, Login, Refusal, Reply, Request, Role,
    ServerRole, SlaveId, VERSIONS, WireError, common_version, limits, sanitize,
};
use relais_state::{LinkChallenger, LinkError, LoginResult, PendingLogin};

use crate::AGENT;
use crate::core::{Core, Entry};
use crate::lines::{Kind, Place};

/// A slave or an operator who has given the proof.
#[derive(Debug)]
pub(crate) struct Visitor {
    /// The slave's id, or the operator's random one.
    pub id: SlaveId,
    /// The link's place, which also says what the visitor is.
    pub place: Place,
}

/// What the next frame must be.
enum Stage {
    Hello,
    Login,
    /// The password is being looked at.
    Password(Login, PendingLogin),
    Open(Kind),
    Proof(Kind, LinkChallenger),
    Over,
}

pub(crate) struct MasterLogin {
    core: Arc<Core>,
    peer: SocketAddr,
    local: SocketAddr,
    stage: Stage,
    /// Passwords on this connection that were wrong.
    failed: u32,
    /// Counts this login while it is under way.
    under_way: Option<Counted>,
    /// What ties proofs to the line, where that is encrypted.
    binding: Option<ChannelBinding>,
}

/// Counts as long as it lives.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl MasterLogin {
    pub fn new(core: Arc<Core>, peer: SocketAddr, local: SocketAddr) -> Self {
        Self { core, peer, local, stage: Stage::Hello, failed: 0, under_way: None, binding: None }
    }

    fn step(&mut self, kind: FrameType, payload: &[u8]) -> Result<LoginStep<Visitor>, Refusal> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Hello => self.hello(kind, payload),
            Stage::Login => self.login(kind, payload),
            Stage::Open(who) => self.open(who, kind, payload),
            Stage::Proof(who, challenger) => self.proof(who, &challenger, kind, payload),
            Stage::Password(..) | Stage::Over => {
                Err(refusal(&WireError::Unexpected(kind.number())))
            }
        }
    }

    fn hello(&mut self, kind: FrameType, payload: &[u8]) -> Result<LoginStep<Visitor>, Refusal> {
        let Request::Hello(Hello { role, versions, agent }) = request(kind, payload)? else {
            return Err(unexpected(kind));
        };
        let version = common_version(VERSIONS, versions).map_err(|error| refusal(&error))?;
        debug!("{}: {role:?} {}", self.peer, sanitize(&agent));
        self.under_way = Some(Counted::new(&self.core.logins));
        self.stage = match role {
            Role::Client => Stage::Login,
            Role::Slave => Stage::Open(Kind::Slave),
            Role::Operator => Stage::Open(Kind::Operator),
            Role::Peer => {
                return Err(Refusal::new(
                    ErrorCode::BadRequest,
                    "this is a master; content is taken from slaves",
                ));
            }
        };
        // At once, for a peer that waits for it before it goes on.
        Ok(LoginStep::Reply(reply(&Reply::Welcome {
            version,
            role: ServerRole::Master,
            cluster: self.core.cluster,
            agent: AGENT.to_owned(),
        })))
    }

    fn login(&mut self, kind: FrameType, payload: &[u8]) -> Result<LoginStep<Visitor>, Refusal> {
        let Request::Login(login) = request(kind, payload)? else { return Err(unexpected(kind)) };
        match self.core.log_in(&login, self.peer, self.local) {
            Entry::Answer(answer) => {
                self.under_way = None;
                Ok(LoginStep::Close(reply(&answer)))
            }
            Entry::Pending(pending) => {
                self.stage = Stage::Password(login, pending);
                Ok(LoginStep::Pending)
            }
        }
    }

    /// The password was looked at.
    fn judged(&mut self, login: &Login, verdict: LoginResult) -> LoginStep<Visitor> {
        let answer = match verdict {
            Ok(user) => self.core.welcome(login, user, self.peer, self.local),
            Err(refusal) => {
                self.failed += u32::from(refusal.code == ErrorCode::LoginRefused);
                let again =
                    refusal.code == ErrorCode::LoginRefused && self.failed < limits::LOGIN_TRIES;
                let answer = Reply::Error(refusal);
                if again {
                    self.stage = Stage::Login;
                    return LoginStep::Reply(reply(&answer));
                }
                answer
            }
        };
        self.stage = Stage::Over;
        self.under_way = None;
        LoginStep::Close(reply(&answer))
    }

    fn open(
        &mut self,
        who: Kind,
        kind: FrameType,
        payload: &[u8],
    ) -> Result<LoginStep<Visitor>, Refusal> {
        if who == Kind::Slave && self.core.stopping.load(Ordering::Relaxed) {
            return Err(Refusal::new(ErrorCode::Draining, "the master is stopping"));
        }
        let message = LinkMessage::decode(kind, payload).map_err(|error| refusal(&error))?;
        let (challenger, challenge) =
            LinkChallenger::new(who.role(), &message, &self.core.key, self.binding)
                .map_err(|error| error.refusal())?;
        self.stage = Stage::Proof(who, challenger);
        let mut bytes = Vec::new();
        challenge.encode(&mut bytes);
        Ok(LoginStep::Reply(bytes))
    }

    fn proof(
        &mut self,
        who: Kind,
        challenger: &LinkChallenger,
        kind: FrameType,
        payload: &[u8],
    ) -> Result<LoginStep<Visitor>, Refusal> {
        let message = LinkMessage::decode(kind, payload).map_err(|error| refusal(&error))?;
        challenger.check(&message, &self.core.key).map_err(|error| {
            if matches!(error, LinkError::BadProof)
                && let Some(more) = bad_proofs(who).allow(Instant::now())
            {
                warn!(
                    "{}: {} that claims the id {} does not have the cluster key{more}",
                    self.peer,
                    who.text(),
                    challenger.id()
                );
            }
            error.refusal()
        })?;
        let place = self.core.lines.reserve(who).ok_or_else(|| Refusal {
            retry_after: 5,
            ..Refusal::new(ErrorCode::Busy, "the master has all the links that it can have")
        })?;
        Ok(LoginStep::Done { value: Visitor { id: challenger.id(), place }, send: Vec::new() })
    }
}

/// Limits the lines about peers that do not have the cluster key: such a peer tries every second.
fn bad_proofs(who: Kind) -> &'static LogRateLimiter {
    const PAUSE: Duration = Duration::from_secs(60);
    static SLAVES: LogRateLimiter = LogRateLimiter::with_pause(PAUSE);
    static OPERATORS: LogRateLimiter = LogRateLimiter::with_pause(PAUSE);
    match who {
        Kind::Slave => &SLAVES,
        Kind::Operator => &OPERATORS,
    }
}

impl Drop for MasterLogin {
    /// The master proves the cluster key first, so a slave with another key ends the connection instead of giving its own proof.
    fn drop(&mut self) {
        if let Stage::Proof(who, challenger) = &self.stage
            && !self.core.stopping.load(Ordering::Relaxed)
            && let Some(more) = bad_proofs(*who).allow(Instant::now())
        {
            warn!(
                "{}: {} that claims the id {} left without proving the cluster key; its key file is probably that of another cluster{more}",
                self.peer,
                who.text(),
                challenger.id()
            );
        }
    }
}

impl LoginHandler for MasterLogin {
    type Value = Visitor;

    fn is_known(&self) -> bool {
        self.core.desk.is_known(self.peer.ip())
    }

    fn on_frame(&mut self, kind: FrameType, payload: &[u8]) -> LoginStep<Visitor> {
        self.step(kind, payload).unwrap_or_else(|refusal| {
            debug!("{}: refused: {refusal}", self.peer);
            self.under_way = None;
            LoginStep::Close(reply(&Reply::Error(refusal)))
        })
    }

    fn on_encrypted(&mut self, binding: ChannelBinding) {
        self.binding = Some(binding);
    }

    fn poll_pending(&mut self) -> Option<LoginStep<Visitor>> {
        let Stage::Password(_, pending) = &self.stage else { return None };
        let verdict = pending.take()?;
        let Stage::Password(login, _) = std::mem::replace(&mut self.stage, Stage::Over) else {
            return None;
        };
        Some(self.judged(&login, verdict))
    }

    fn refuse_busy(&mut self) -> Vec<u8> {
        reply(&Reply::Error(Refusal {
            retry_after: 5,
            ..Refusal::new(ErrorCode::Busy, "the master has no thread for one more link")
        }))
    }

    fn refuse(&mut self, error: &WireError) -> Vec<u8> {
        debug!("{}: refused: {error}", self.peer);
        self.under_way = None;
        reply(&Reply::Error(refusal(error)))
    }
}

fn request(kind: FrameType, payload: &[u8]) -> Result<Request, Refusal> {
    Request::decode(kind, payload).map_err(|error| refusal(&error))
}

fn reply(reply: &Reply) -> Vec<u8> {
    let mut bytes = Vec::new();
    reply.encode(&mut bytes);
    bytes
}

fn unexpected(kind: FrameType) -> Refusal {
    refusal(&WireError::Unexpected(kind.number()))
}

/// What a peer that broke the protocol is told.
pub(crate) fn refusal(error: &WireError) -> Refusal {
    let code = match error {
        WireError::NoCommonVersion { .. } => ErrorCode::BadVersion,
        _ => ErrorCode::BadRequest,
    };
    Refusal::new(code, error.to_string())
}
