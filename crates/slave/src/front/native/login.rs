//! The login of one connection to a slave, frame by frame.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use log::debug;
use relais_auth::{LinkChallenger, LinkRole, PasswordVerifier};
use relais_engine::{
    Authenticator, LoginDecision, LoginOutcome, LoginProgress, PendingLogin, Principal,
    SecretSource,
};
use relais_net::tls::ChannelBinding;
use relais_net::{FrameHandler, LoginStep};
use relais_proto::{
    Capabilities, ClusterId, ErrorCode, FrameType, LinkMessage, Login, Refusal, Reply, Request,
    Role, ServerRole, VERSIONS, WireError, common_version, limits,
};

use super::replies::{RETRY_AFTER, encoded};
use crate::config::master_for;
use crate::context::SlaveContext;
use crate::host::WorkerHost;
use crate::master_logins::WorkerLogins;
use crate::secrets::WorkerSecrets;
use crate::slots::{Admission, AdmittedFront, SlotClaim};

/// Decides about the logins of a worker, and names the server to clients.
pub struct LoginService {
    /// Decides about names, passwords and tickets.
    pub authenticator: Arc<Authenticator<WorkerSecrets>>,
    /// The way of logins to the master; none in a standalone slave.
    pub master: Option<Arc<WorkerLogins>>,
    /// The process of the worker.
    pub host: WorkerHost,
}

impl LoginService {
    /// Returns the descriptors that are readable after a password check, an answer of the master
    /// or new secrets.
    pub fn wake_fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let verifier = self.authenticator.passwords().map(PasswordVerifier::wake_fd);
        let answers = self.master.iter().map(|logins| logins.as_fd());
        std::iter::once(self.authenticator.secrets().as_fd()).chain(verifier).chain(answers)
    }

    /// Handles the events of the descriptors of [`Self::wake_fds`].
    pub fn handle_wake(&self) {
        self.authenticator.passwords().iter().for_each(|verifier| verifier.clear_wake());
        self.master.iter().for_each(|logins| logins.receive());
        self.authenticator.secrets().receive();
    }

    /// Takes a slot for a user that has logged in from `addr`, or a place in the queue.
    ///
    /// # Errors
    /// [`ErrorCode::Draining`], or [`ErrorCode::Busy`] if there is neither.
    pub fn claim_slot(&self, principal: &Principal, addr: IpAddr) -> Result<SlotClaim, Refusal> {
        let WorkerHost { worker, context } = &self.host;
        if !principal.is_peer {
            self.check_serving()?;
        }
        let client = (!principal.is_peer).then_some(addr);
        SlotClaim::take(context.scoreboard.clone(), *worker, client).map_err(|why| {
            let message = format!("{why}; try again in {RETRY_AFTER} s");
            Refusal { retry_after: RETRY_AFTER, ..Refusal::new(ErrorCode::Busy, message) }
        })
    }

    /// Checks that the slave takes sessions of clients.
    ///
    /// # Errors
    /// [`ErrorCode::Draining`].
    pub fn check_serving(&self) -> Result<(), Refusal> {
        if self.host.scoreboard().draining.get() {
            return Err(Refusal::new(ErrorCode::Draining, "this slave is being drained"));
        }
        Ok(())
    }

    fn welcome(&self, version: u16) -> Reply {
        let SlaveContext { config, own, .. } = &*self.host.context;
        let (role, cluster) = if config.cluster.is_none() {
            // A client resumes only in the same folder, so the folder's id identifies the server,
            // whatever slave serves it.
            (ServerRole::Standalone, ClusterId(own.folder_id.0))
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
    state: LoginState,
    /// A password that is being verified.
    pending: Option<PendingLogin>,
    /// Number of wrong passwords on this connection.
    failed: u32,
    /// Ties proofs to this connection, if it is encrypted.
    binding: Option<ChannelBinding>,
}

#[derive(Debug)]
enum LoginState {
    /// No greeting has come.
    New,
    /// A client has greeted.
    Client,
    /// Another slave has greeted, which proves the cluster key next.
    Peer,
    /// The other slave was challenged.
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
            state: LoginState::New,
            pending: None,
            failed: 0,
            binding: None,
        }
    }

    fn handle(&mut self, kind: FrameType, payload: &[u8]) -> Result<LoginStep<Admission>, Refusal> {
        if matches!(self.state, LoginState::Peer | LoginState::Challenged(_)) {
            return self.handle_peer(&LinkMessage::decode(kind, payload)?);
        }
        match (Request::decode(kind, payload)?, &self.state) {
            (Request::Hello(hello), LoginState::New)
                if hello.role == Role::Client
                    || hello.role == Role::Peer && self.service.authenticator.accepts_peers() =>
            {
                let version = common_version(VERSIONS, hello.versions)?;
                let is_peer = hello.role == Role::Peer;
                self.state = if is_peer { LoginState::Peer } else { LoginState::Client };
                Ok(LoginStep::Reply(encoded(&self.service.welcome(version))))
            }
            (Request::Hello(_), LoginState::New) => Err(Refusal::new(
                ErrorCode::BadRequest,
                "this is a slave; only clients connect to it",
            )),
            (Request::Ticket { ticket, lsn }, LoginState::Client) => {
                let LoginService { authenticator, host, .. } = &*self.service;
                self.admit(authenticator.check_ticket(&ticket, lsn, self.addr.ip(), host)?)
            }
            (Request::Login(login), LoginState::Client) => self.login(&login),
            _ => {
                Err(Refusal::new(ErrorCode::LoginNeeded, "a session begins with Hello and a login"))
            }
        }
    }

    /// Handles a frame of another slave's proof.
    fn handle_peer(&mut self, message: &LinkMessage) -> Result<LoginStep<Admission>, Refusal> {
        let key = self.service.authenticator.secrets().key().ok_or_else(|| {
            Refusal::new(ErrorCode::BadProof, "this slave does not have the cluster key yet")
        })?;
        if let LoginState::Challenged(challenger) = &self.state {
            challenger.check(message, &key)?;
            debug!("{}: slave {} has logged in to fetch content", self.addr, challenger.id());
            return self.admit(Principal::for_peer(self.addr.ip()));
        }
        let (challenger, challenge) =
            LinkChallenger::new(LinkRole::Peer, message, &key, self.binding)?;
        self.state = LoginState::Challenged(challenger);
        let mut bytes = Vec::new();
        challenge.encode(&mut bytes);
        Ok(LoginStep::Reply(bytes))
    }

    fn login(&mut self, login: &Login) -> Result<LoginStep<Admission>, Refusal> {
        let LoginService { authenticator, host, .. } = &*self.service;
        match authenticator.log_in(&login.user, &login.password, self.addr.ip(), host)? {
            LoginDecision::Here(LoginProgress::Admitted(principal)) => self.admit(principal),
            LoginDecision::Here(LoginProgress::Pending(pending)) => {
                self.pending = Some(pending);
                Ok(LoginStep::Pending)
            }
            LoginDecision::AskMaster => {
                let master = host.context.config.cluster.as_ref().map(|cluster| &*cluster.master);
                let address = master_for(master.unwrap_or_default(), self.addr, self.local);
                Ok(LoginStep::Close(encoded(&Reply::AskMaster(address))))
            }
        }
    }

    /// Handles the result of verifying a password.
    fn handle_verdict(&mut self, verdict: LoginOutcome) -> Result<LoginStep<Admission>, Refusal> {
        let LoginService { authenticator, host, .. } = &*self.service;
        let result = authenticator.conclude(verdict, self.addr.ip(), host);
        match result.and_then(|principal| self.admit(principal)) {
            Err(refusal) if refusal.code == ErrorCode::LoginRefused => {
                self.failed += 1;
                if self.failed < limits::LOGIN_TRIES {
                    Ok(LoginStep::Reply(encoded(&Reply::Error(refusal))))
                } else {
                    Err(refusal)
                }
            }
            result => result,
        }
    }

    fn close_with(&self, refusal: &Refusal) -> LoginStep<Admission> {
        debug!("{}: {refusal}", self.addr);
        LoginStep::Close(encoded(&Reply::Error(refusal.clone())))
    }

    fn admit(&self, principal: Principal) -> Result<LoginStep<Admission>, Refusal> {
        let claim = self.service.claim_slot(&principal, self.addr.ip())?;
        let value = Admission { principal, claim, front: AdmittedFront::Native };
        Ok(LoginStep::Done { value, send: Vec::new() })
    }
}

impl FrameHandler for SlaveLogin {
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
