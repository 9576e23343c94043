//! The login of one connection to a slave, frame by frame.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use log::debug;
use relais_auth::{LinkChallenger, LinkRole, LoginResult, PasswordVerifier, PendingLogin};
use relais_engine::{Authenticator, LoginDecision, Principal, SecretSource};
use relais_net::tls::ChannelBinding;
use relais_net::{LoginHandler, LoginStep};
use relais_proto::{
    Capabilities, ClusterId, ErrorCode, FrameType, LinkMessage, Login, Refusal, Reply, Request,
    Role, ServerRole, VERSIONS, WireError, common_version, limits,
};

use super::replies::{RETRY_AFTER, encoded};
use crate::config::master_for;
use crate::host::WorkerHost;
use crate::secrets::WorkerSecrets;
use crate::slots::{Admission, ClaimError, SlotClaim};

/// Decides about the logins of a worker, and names the server to clients.
pub struct LoginService {
    /// Decides about names, passwords and tickets.
    pub authenticator: Authenticator<WorkerSecrets>,
    /// The process of the worker.
    pub host: WorkerHost,
    /// The master, for clients that have no ticket; none for a standalone slave.
    pub master: Option<String>,
    /// The id by which clients know a standalone slave.
    pub standalone_id: ClusterId,
}

impl LoginService {
    /// Returns the descriptors that are readable after a password check or new secrets.
    pub fn wake_fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let verifier = self.authenticator.passwords().map(PasswordVerifier::wake_fd);
        std::iter::once(self.authenticator.secrets().as_fd()).chain(verifier)
    }

    /// Handles the events of the descriptors of [`Self::wake_fds`].
    pub fn handle_wake(&self) {
        self.authenticator.passwords().iter().for_each(|verifier| verifier.clear_wake());
        self.authenticator.secrets().receive();
    }

    fn welcome(&self, version: u16) -> Reply {
        let (role, cluster) = if self.master.is_none() {
            (ServerRole::Standalone, self.standalone_id)
        } else {
            let id = self.authenticator.secrets().cluster_id();
            (ServerRole::Slave, id.unwrap_or(ClusterId([0; 16])))
        };
        let capabilities = Capabilities::default();
        Reply::Welcome { version, role, cluster, capabilities, agent: crate::agent::agent() }
    }
}

/// The login of one connection.
pub struct SlaveLogin {
    service: Arc<LoginService>,
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
    pub fn new(service: Arc<LoginService>, peer: SocketAddr, local: SocketAddr) -> Self {
        Self {
            service,
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
        if let Some(proof) = self.peer.take() {
            return self.handle_peer(&proof, &LinkMessage::decode(kind, payload)?);
        }
        match (Request::decode(kind, payload)?, self.greeted) {
            (Request::Hello(hello), false)
                if hello.role == Role::Client
                    || hello.role == Role::Peer && self.service.authenticator.accepts_peers() =>
            {
                let version = common_version(VERSIONS, hello.versions)?;
                self.greeted = true;
                self.peer = (hello.role == Role::Peer).then_some(PeerProof::Greeted);
                Ok(LoginStep::Reply(encoded(&self.service.welcome(version))))
            }
            (Request::Hello(_), false) => Err(Refusal::new(
                ErrorCode::BadRequest,
                "this is a slave; only clients connect to it",
            )),
            (Request::Ticket { ticket, lsn }, true) => {
                let LoginService { authenticator, host, .. } = &*self.service;
                self.admit(authenticator.check_ticket(&ticket, lsn, self.addr.ip(), host)?)
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
        let key = self.service.authenticator.secrets().key().ok_or_else(|| {
            Refusal::new(ErrorCode::BadProof, "this slave does not have the cluster key yet")
        })?;
        match proof {
            PeerProof::Greeted => {
                let (challenger, challenge) =
                    LinkChallenger::new(LinkRole::Peer, message, &key, self.binding)?;
                self.peer = Some(PeerProof::Challenged(challenger));
                let mut bytes = Vec::new();
                challenge.encode(&mut bytes);
                Ok(LoginStep::Reply(bytes))
            }
            PeerProof::Challenged(challenger) => {
                challenger.check(message, &key)?;
                debug!("{}: slave {} has logged in to fetch content", self.addr, challenger.id());
                self.admit(Principal::for_peer(self.addr.ip()))
            }
        }
    }

    fn login(&mut self, login: &Login) -> Result<LoginStep<Admission>, Refusal> {
        let LoginService { authenticator, host, master, .. } = &*self.service;
        match authenticator.log_in(&login.user, &login.password, self.addr.ip(), host)? {
            LoginDecision::Admitted(principal) => self.admit(principal),
            LoginDecision::Pending(pending) => {
                self.pending = Some(pending);
                Ok(LoginStep::Pending)
            }
            LoginDecision::AskMaster => {
                let master = master.as_deref().unwrap_or_default();
                let address = master_for(master, self.addr, self.local);
                Ok(LoginStep::Close(encoded(&Reply::AskMaster(address))))
            }
        }
    }

    /// Handles the result of verifying a password.
    fn handle_verdict(&mut self, verdict: LoginResult) -> Result<LoginStep<Admission>, Refusal> {
        let LoginService { authenticator, host, .. } = &*self.service;
        match authenticator.conclude(verdict, self.addr.ip(), host) {
            Ok(principal) => self.admit(principal),
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

    fn admit(&self, principal: Principal) -> Result<LoginStep<Admission>, Refusal> {
        let WorkerHost { scoreboard, worker, .. } = &self.service.host;
        if scoreboard.is_draining() && !principal.is_peer {
            return Err(Refusal::new(ErrorCode::Draining, "this slave is being drained"));
        }
        let claim = if principal.is_peer {
            SlotClaim::for_peer(scoreboard.clone(), *worker)
        } else {
            SlotClaim::for_client(scoreboard.clone(), *worker, self.addr.ip())
        };
        let claim = claim.map_err(|why| {
            let what = match why {
                ClaimError::Full => "all session slots are taken",
                ClaimError::Address => "your address has as many sessions here as it may have",
            };
            let message = format!("{what}; try again in {RETRY_AFTER} s");
            Refusal { retry_after: RETRY_AFTER, ..Refusal::new(ErrorCode::Busy, message) }
        })?;
        Ok(LoginStep::Done { value: Admission { principal, claim }, send: Vec::new() })
    }
}

impl LoginHandler for SlaveLogin {
    type Value = Admission;

    fn is_known(&self) -> bool {
        let passwords = self.service.authenticator.passwords();
        passwords.is_some_and(|verifier| verifier.is_known(self.addr.ip()))
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

    fn refuse(&mut self, error: &WireError) -> Vec<u8> {
        debug!("{}: {error}", self.addr);
        encoded(&Reply::Error(error.into()))
    }
}
