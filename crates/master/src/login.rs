//! The login of one peer: of a client to its redirect, of a slave or operator to its key proof.
//!
//! The login handler answers frames with frames and never blocks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use log::{debug, warn};
use relais_auth::{LinkChallenger, LinkError, LoginNames, LoginResult, PendingLogin};
use relais_net::tls::ChannelBinding;
use relais_net::{FrameHandler, LoginStep};
use relais_proto::{
    Capabilities, ErrorCode, FrameType, Hello, LinkMessage, LogRateLimiter, Login, Refusal, Reply,
    Request, Role, ServerRole, SlaveId, VERSIONS, WireError, common_version, limits, sanitize,
};

use crate::agent::AGENT;
use crate::core::Core;
use crate::logins::{LoginRequest, LoginStart};
use crate::open_links::{LinkSlot, PeerKind};

/// Most characters that are kept of a peer's program and version.
const AGENT_MAX: usize = 64;

/// A slave or an operator that has proved the cluster key.
#[derive(Debug)]
pub(crate) struct LinkPeer {
    /// The slave's id, or the operator's random one.
    pub id: SlaveId,
    /// The reserved link, which also tells the kind of the peer.
    pub slot: LinkSlot,
    /// Program and version, as the peer has named them.
    pub agent: String,
}

/// The stage of a login: the frame or event that it expects.
enum LoginStage {
    Hello,
    Login,
    /// The password is being verified.
    Password(Login, PendingLogin),
    Open(PeerKind),
    Proof(PeerKind, LinkChallenger),
    Over,
}

pub(crate) struct MasterLogin {
    core: Arc<Core>,
    peer: SocketAddr,
    local: SocketAddr,
    stage: LoginStage,
    /// Wrong passwords on this connection.
    failed: u32,
    /// Counts this login while it is in progress.
    under_way: Option<Arc<()>>,
    /// The channel binding; none without TLS.
    binding: Option<ChannelBinding>,
    /// Program and version of the peer, without characters that control a terminal.
    agent: String,
}

impl MasterLogin {
    pub fn new(core: Arc<Core>, peer: SocketAddr, local: SocketAddr) -> Self {
        Self {
            core,
            peer,
            local,
            stage: LoginStage::Hello,
            failed: 0,
            under_way: None,
            binding: None,
            agent: String::new(),
        }
    }

    fn step(&mut self, kind: FrameType, payload: &[u8]) -> Result<LoginStep<LinkPeer>, Refusal> {
        let unexpected = || Refusal::from(WireError::Unexpected(kind.number()));
        match std::mem::replace(&mut self.stage, LoginStage::Over) {
            LoginStage::Hello => match Request::decode(kind, payload)? {
                Request::Hello(hello) => self.hello(&hello),
                _ => Err(unexpected()),
            },
            LoginStage::Login => match Request::decode(kind, payload)? {
                Request::Login(login) => Ok(self.login(login)),
                _ => Err(unexpected()),
            },
            LoginStage::Open(who) => self.open(who, &LinkMessage::decode(kind, payload)?),
            LoginStage::Proof(who, challenger) => {
                self.proof(who, &challenger, &LinkMessage::decode(kind, payload)?)
            }
            LoginStage::Password(..) | LoginStage::Over => Err(unexpected()),
        }
    }

    fn hello(&mut self, hello: &Hello) -> Result<LoginStep<LinkPeer>, Refusal> {
        let version = common_version(VERSIONS, hello.versions)?;
        self.agent = sanitize(&hello.agent).chars().take(AGENT_MAX).collect();
        debug!("{}: {:?} {}", self.peer, hello.role, self.agent);
        self.under_way = Some(Arc::clone(&self.core.login_token));
        self.stage = match hello.role {
            Role::Client => LoginStage::Login,
            Role::Slave => LoginStage::Open(PeerKind::Slave),
            Role::Operator => LoginStage::Open(PeerKind::Operator),
            Role::Peer => {
                return Err(Refusal::new(
                    ErrorCode::BadRequest,
                    "this is a master; content is taken from slaves",
                ));
            }
        };
        // At once, because some peers wait for it before their next frame.
        Ok(LoginStep::Reply(reply(&Reply::Welcome {
            version,
            role: ServerRole::Master,
            cluster: self.core.cluster,
            capabilities: Capabilities::default(),
            agent: AGENT.to_owned(),
        })))
    }

    fn login(&mut self, login: Login) -> LoginStep<LinkPeer> {
        let request = LoginRequest {
            source: self.peer.ip().into(),
            user: &login.user,
            password: &login.password,
            names: LoginNames::Native,
            is_local: true,
        };
        let answer = match self.core.log_in(&request) {
            Ok(LoginStart::Pending(pending)) => {
                self.stage = LoginStage::Password(login, pending);
                return LoginStep::Pending;
            }
            Ok(LoginStart::Admitted(user)) => {
                self.core.welcome(&login, user, self.peer, self.local)
            }
            Err(refusal) => Reply::Error(refusal),
        };
        self.under_way = None;
        LoginStep::Close(reply(&answer))
    }

    /// Handles the result of the password verification.
    fn finish_login(&mut self, login: &Login, result: LoginResult) -> LoginStep<LinkPeer> {
        let answer = match result {
            Ok(user) => self.core.welcome(login, user, self.peer, self.local),
            Err(refusal) => {
                let is_wrong = refusal.code == ErrorCode::LoginRefused;
                self.failed += u32::from(is_wrong);
                let answer = Reply::Error(refusal);
                if is_wrong && self.failed < limits::LOGIN_TRIES {
                    self.stage = LoginStage::Login;
                    return LoginStep::Reply(reply(&answer));
                }
                answer
            }
        };
        self.stage = LoginStage::Over;
        self.under_way = None;
        LoginStep::Close(reply(&answer))
    }

    fn open(
        &mut self,
        who: PeerKind,
        message: &LinkMessage,
    ) -> Result<LoginStep<LinkPeer>, Refusal> {
        if who == PeerKind::Slave && self.core.stopping.load(Ordering::Relaxed) {
            return Err(Refusal::new(ErrorCode::Draining, "the master is stopping"));
        }
        let (challenger, challenge) =
            LinkChallenger::new(who.role(), message, &self.core.config.key, self.binding)?;
        self.stage = LoginStage::Proof(who, challenger);
        let mut bytes = Vec::new();
        challenge.encode(&mut bytes);
        Ok(LoginStep::Reply(bytes))
    }

    fn proof(
        &mut self,
        who: PeerKind,
        challenger: &LinkChallenger,
        message: &LinkMessage,
    ) -> Result<LoginStep<LinkPeer>, Refusal> {
        challenger.check(message, &self.core.config.key).inspect_err(|error| {
            if matches!(error, LinkError::BadProof) {
                self.log_unproven(who, challenger, "does not have the cluster key");
            }
        })?;
        let slot = self.core.open_links.reserve(who).ok_or_else(|| Refusal {
            retry_after: 5,
            ..Refusal::new(ErrorCode::Busy, "the master has all the links that it can have")
        })?;
        let agent = std::mem::take(&mut self.agent);
        let value = LinkPeer { id: challenger.id(), slot, agent };
        Ok(LoginStep::Done { value, send: Vec::new() })
    }

    /// Logs a peer without the cluster key, at times: such a peer tries again every second.
    fn log_unproven(&self, who: PeerKind, challenger: &LinkChallenger, why: &str) {
        const PAUSE: Duration = Duration::from_secs(60);
        static SLAVES: LogRateLimiter = LogRateLimiter::with_pause(PAUSE);
        static OPERATORS: LogRateLimiter = LogRateLimiter::with_pause(PAUSE);
        let limiter = match who {
            PeerKind::Slave => &SLAVES,
            PeerKind::Operator => &OPERATORS,
        };
        if let Some(more) = limiter.allow(Instant::now()) {
            let (peer, who, id) = (self.peer, who.text(), challenger.id());
            warn!("{peer}: {who} that claims the id {id} {why}{more}");
        }
    }
}

impl Drop for MasterLogin {
    /// Logs a peer that left without its proof.
    ///
    /// The master proves the cluster key first, so a slave with another key closes the connection
    /// instead of sending its own proof.
    fn drop(&mut self) {
        if let LoginStage::Proof(who, challenger) = &self.stage
            && !self.core.stopping.load(Ordering::Relaxed)
        {
            self.log_unproven(
                *who,
                challenger,
                "left without proving the cluster key; its key file is probably that of another \
                 cluster",
            );
        }
    }
}

impl FrameHandler for MasterLogin {
    type Value = LinkPeer;

    fn is_known(&self) -> bool {
        self.core.passwords.is_known(self.peer.ip())
    }

    fn on_frame(&mut self, kind: FrameType, payload: &[u8]) -> LoginStep<LinkPeer> {
        self.step(kind, payload).unwrap_or_else(|refusal| {
            debug!("{}: refused: {refusal}", self.peer);
            self.under_way = None;
            LoginStep::Close(reply(&Reply::Error(refusal)))
        })
    }

    fn on_encrypted(&mut self, binding: ChannelBinding) {
        self.binding = Some(binding);
    }

    fn poll_pending(&mut self) -> Option<LoginStep<LinkPeer>> {
        let LoginStage::Password(_, pending) = &self.stage else { return None };
        let result = pending.take()?;
        let LoginStage::Password(login, _) = std::mem::replace(&mut self.stage, LoginStage::Over)
        else {
            return None;
        };
        Some(self.finish_login(&login, result))
    }

    fn refuse(&mut self, error: &WireError) -> Vec<u8> {
        debug!("{}: refused: {error}", self.peer);
        self.under_way = None;
        reply(&Reply::Error(error.into()))
    }
}

fn reply(reply: &Reply) -> Vec<u8> {
    let mut bytes = Vec::new();
    reply.encode(&mut bytes);
    bytes
}
