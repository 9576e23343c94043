//! Decides about logins: by a name and a password, or by the master's ticket.

use std::net::IpAddr;

use std::sync::Arc;

use relais_auth::{
    Accounts, AuthenticatedUser, ClusterKey, LiveAccounts, LoginNames, LoginRule, PasswordId,
    PasswordVerifier, Rights, Ticket, UrlSignature, login_rule, renew_user,
};
use relais_proto::{ClusterId, ErrorCode, Lsn, Refusal, TreePath, limits};

use crate::host::Host;
use crate::login_renewal::LoginRenewer;
use crate::pending_login::{
    IssuedTicket, LoginOutcome, MasterLogins, MasterQuery, PendingLogin, VerifiedLogin,
    wait_for_master,
};
use crate::principal::{Credential, Principal};

/// Cluster key and accounts of a process, which another process may replace at any time.
pub trait SecretSource: Send + Sync {
    /// Takes over what has been replaced.
    fn receive(&self);
    /// Returns the accounts; [`Self::receive`] brings newer ones.
    fn accounts(&self) -> &LiveAccounts;
    /// Returns the newest cluster key; none if there is none yet.
    fn key(&self) -> Option<ClusterKey>;
    /// Returns the id of the cluster that the key belongs to.
    fn cluster_id(&self) -> Option<ClusterId> {
        self.key().map(|key| key.cluster_id())
    }
}

/// Who may log in.
pub enum LoginPolicy {
    /// The users of the slave's own accounts, or every client as long as there are none.
    Standalone {
        /// Whether clients on this host may change the tree while there are no accounts.
        writable: bool,
        /// Verifies passwords; none if no account can exist.
        passwords: Option<PasswordVerifier>,
    },
    /// Clients with a ticket of the master, and other slaves with the cluster key.
    Cluster {
        /// The way to the master, for clients that send it no password themselves.
        master: Arc<dyn MasterLogins>,
    },
}

/// What follows from a name and a password.
pub enum LoginProgress {
    /// The user has logged in.
    Admitted(Principal),
    /// The login is being verified; [`Authenticator::conclude`] takes the result.
    Pending(PendingLogin),
}

/// What follows from a name and a password of a native client.
pub enum LoginDecision {
    /// The slave decides.
    Here(LoginProgress),
    /// The client has to log in at the master.
    AskMaster,
}

/// The decisions about the logins of a process.
pub struct Authenticator<S> {
    policy: LoginPolicy,
    secrets: S,
}

impl<S: SecretSource> Authenticator<S> {
    /// Makes the decisions of a policy.
    #[must_use]
    pub fn new(policy: LoginPolicy, secrets: S) -> Self {
        Self { policy, secrets }
    }

    /// Returns cluster key and accounts.
    #[must_use]
    pub fn secrets(&self) -> &S {
        &self.secrets
    }

    /// Returns the verifier of passwords, if there is one.
    #[must_use]
    pub fn passwords(&self) -> Option<&PasswordVerifier> {
        match &self.policy {
            LoginPolicy::Standalone { passwords, .. } => passwords.as_ref(),
            LoginPolicy::Cluster { .. } => None,
        }
    }

    /// Whether other slaves can log in with the cluster key.
    #[must_use]
    pub fn accepts_peers(&self) -> bool {
        matches!(self.policy, LoginPolicy::Cluster { .. })
    }

    /// Checks a ticket of the master; `lsn` is the latest change that the client has seen.
    ///
    /// # Errors
    /// [`ErrorCode::BadTicket`].
    pub fn check_ticket(
        &self,
        ticket: &[u8],
        lsn: Lsn,
        address: IpAddr,
        host: &dyn Host,
    ) -> Result<Principal, Refusal> {
        let key = self.cluster_key()?;
        let (now, generation) = (host.now_ms(), host.generation());
        let Ticket { user, rights, root, generation, ends_ms, .. } =
            Ticket::check(ticket, &key, key.cluster_id(), now, generation)
                .map_err(|e| bad_ticket(e.to_string()))?;
        check_not_logged_out(&user, ticket, host)?;
        let principal = Principal::new(user, address);
        Ok(Principal { root, rights, seen_lsn: lsn, generation, ends_ms, ..principal })
    }

    /// Checks the master's signature of a URL with `path`, as the client has sent it.
    ///
    /// The caller accepts it for GET and HEAD alone.
    ///
    /// # Errors
    /// [`ErrorCode::BadTicket`].
    pub fn check_signed_url(
        &self,
        signature: &str,
        path: &TreePath,
        address: IpAddr,
        host: &dyn Host,
    ) -> Result<Principal, Refusal> {
        let key = self.cluster_key()?;
        let (now, generation) = (host.now_ms(), host.generation());
        let UrlSignature { user, root, generation, ends_ms } =
            UrlSignature::check(signature, &key, path, now, generation)
                .map_err(|e| bad_ticket(e.to_string()))?;
        let principal = Principal::new(user, address);
        Ok(Principal { root, rights: Rights::Read, generation, ends_ms, ..principal })
    }

    /// Returns the key with which the master signs.
    fn cluster_key(&self) -> Result<ClusterKey, Refusal> {
        if !self.accepts_peers() {
            return Err(bad_ticket("this standalone slave takes no tickets".to_owned()));
        }
        let key = self.secrets.key();
        key.ok_or_else(|| bad_ticket("this slave does not have the cluster key yet".to_owned()))
    }

    /// Checks a name and a password of a native client; an empty name stands for no account.
    ///
    /// # Errors
    /// [`ErrorCode::LoginNeeded`] or [`ErrorCode::LoginRefused`] if the name is of no use here;
    /// [`ErrorCode::Busy`] if too many logins wait; [`ErrorCode::Storage`] if this process lacks
    /// the newest accounts: then it admits no client.
    pub fn log_in(
        &self,
        user: &str,
        password: &[u8],
        address: IpAddr,
        host: &dyn Host,
    ) -> Result<LoginDecision, Refusal> {
        let LoginPolicy::Standalone { writable, passwords } = &self.policy else {
            return Ok(LoginDecision::AskMaster);
        };
        let local = LocalPolicy { writable: *writable, passwords: passwords.as_ref() };
        let login = (user, password, LoginNames::Native);
        let progress = self.log_in_locally(local, login, address, host)?;
        // The client logs in again by itself.
        Ok(LoginDecision::Here(match progress {
            LoginProgress::Admitted(principal) => LoginProgress::Admitted(principal.unrenewed()),
            LoginProgress::Pending(pending) => LoginProgress::Pending(pending.unrenewed()),
        }))
    }

    /// Checks a name and a password of a client that sends them to any slave, as those of FTP do.
    ///
    /// The slave of a cluster forwards them to its master. The names `anonymous` and `ftp` stand
    /// for no account, or for the account `anonymous` once there are accounts.
    ///
    /// # Errors
    /// As [`Self::log_in`].
    pub fn log_in_by_password(
        &self,
        user: &str,
        password: &[u8],
        address: IpAddr,
        host: &dyn Host,
    ) -> Result<LoginProgress, Refusal> {
        match &self.policy {
            LoginPolicy::Standalone { writable, passwords } => {
                let local = LocalPolicy { writable: *writable, passwords: passwords.as_ref() };
                let login = (user, password, LoginNames::WithAnonymous);
                self.log_in_locally(local, login, address, host)
            }
            LoginPolicy::Cluster { master } => {
                let answer = master.ask(MasterQuery::LogIn { user, password, address })?;
                Ok(LoginProgress::Pending(answer.into()))
            }
        }
    }

    fn log_in_locally(
        &self,
        local: LocalPolicy<'_>,
        (user, password, names): (&str, &[u8], LoginNames),
        address: IpAddr,
        host: &dyn Host,
    ) -> Result<LoginProgress, Refusal> {
        let (verifier, accounts) = match local.passwords {
            Some(verifier) => (Some(verifier), self.accounts(host)?),
            None => (None, None),
        };
        let user_now = match (login_rule(accounts.as_deref(), user, names)?, verifier) {
            (LoginRule::Password, Some(verifier)) => {
                let pending = verifier.submit(address, user, password)?;
                return Ok(LoginProgress::Pending(pending.into()));
            }
            (LoginRule::Anonymous(user), _) => user,
            _ => local.without_account(address),
        };
        Ok(LoginProgress::Admitted(principal_of(user_now, address, host)))
    }

    /// Continues a login whose ticket of the master the client has kept, as a browser's cookie.
    ///
    /// A ticket that has ended, or is older than the accounts, is renewed by the master.
    ///
    /// # Errors
    /// [`ErrorCode::BadTicket`] if it is altered; [`ErrorCode::Busy`] if too many queries wait.
    pub fn resume_by_ticket(
        &self,
        ticket: &[u8],
        address: IpAddr,
        host: &dyn Host,
    ) -> Result<LoginProgress, Refusal> {
        let LoginPolicy::Cluster { master } = &self.policy else {
            let why = "this standalone slave takes no tickets";
            return Err(Refusal::new(ErrorCode::BadTicket, why));
        };
        // The client says itself what it has seen.
        let kept = IssuedTicket { ticket: ticket.to_vec(), lsn: Lsn::default() };
        if let Ok(principal) = self.principal_by_ticket(kept, address, host) {
            return Ok(LoginProgress::Admitted(principal));
        }
        // The master must not be asked for each forged cookie.
        let key = self.secrets.key();
        let opened = key.map(|key| Ticket::open(ticket, &key, key.cluster_id()));
        match opened {
            Some(Ok(Ticket { user, .. })) => {
                check_not_logged_out(&user, ticket, host)?;
                let answer = master.ask(MasterQuery::Renew { ticket, address })?;
                Ok(LoginProgress::Pending(answer.into()))
            }
            Some(Err(e)) => Err(Refusal::new(ErrorCode::BadTicket, e.to_string())),
            None => {
                let why = "this slave does not have the cluster key yet";
                Err(Refusal::new(ErrorCode::Busy, why))
            }
        }
    }

    /// Continues the login of a user of a standalone slave, whose password has not changed since.
    ///
    /// # Errors
    /// [`ErrorCode::BadTicket`] if the account was removed or its password was changed;
    /// [`ErrorCode::Storage`] if the accounts cannot be read.
    pub fn resume_account(
        &self,
        user: &str,
        id: PasswordId,
        address: IpAddr,
        host: &dyn Host,
    ) -> Result<Principal, Refusal> {
        let LoginPolicy::Standalone { writable, passwords } = &self.policy else {
            let why = "the slave of a cluster has no accounts of its own";
            return Err(Refusal::new(ErrorCode::BadTicket, why));
        };
        let local = LocalPolicy { writable: *writable, passwords: passwords.as_ref() };
        self.renew_locally(local, user, id, address, host)
    }

    /// Returns the principal for the result of a verified login.
    ///
    /// # Errors
    /// [`ErrorCode::LoginRefused`] if name or password are wrong; [`ErrorCode::Busy`] after too
    /// many wrong ones, or if the master cannot be reached; [`ErrorCode::TimedOut`] if it did not
    /// answer; those of [`Self::check_ticket`].
    pub fn conclude(
        &self,
        result: LoginOutcome,
        address: IpAddr,
        host: &dyn Host,
    ) -> Result<Principal, Refusal> {
        match result? {
            VerifiedLogin::User { user, is_renewed } => {
                let principal = principal_of(user, address, host);
                Ok(if is_renewed { principal } else { principal.unrenewed() })
            }
            VerifiedLogin::Ticket(issued) => self.principal_by_ticket(issued, address, host),
        }
    }

    fn principal_by_ticket(
        &self,
        IssuedTicket { ticket, lsn }: IssuedTicket,
        address: IpAddr,
        host: &dyn Host,
    ) -> Result<Principal, Refusal> {
        let principal = self.check_ticket(&ticket, lsn, address, host)?;
        Ok(Principal { credential: Credential::Ticket(ticket), ..principal })
    }

    fn renew_locally(
        &self,
        local: LocalPolicy<'_>,
        user: &str,
        id: PasswordId,
        address: IpAddr,
        host: &dyn Host,
    ) -> Result<Principal, Refusal> {
        let accounts = match local.passwords {
            Some(_) => self.accounts(host)?,
            None => None,
        };
        let user = renew_user(accounts.as_deref(), user, id)?;
        let user = user.unwrap_or_else(|| local.without_account(address));
        Ok(principal_of(user, address, host))
    }

    /// Returns the newest accounts; none if there are none.
    fn accounts(&self, host: &dyn Host) -> Result<Option<Arc<Accounts>>, Refusal> {
        let accounts = || {
            let accounts = self.secrets.accounts().current();
            let generation = accounts.as_ref().map_or(0, |accounts| accounts.generation());
            (generation >= host.generation()).then_some(accounts)
        };
        accounts()
            .or_else(|| {
                // They were sent before the generation was raised.
                self.secrets.receive();
                accounts()
            })
            .ok_or_else(|| Refusal::new(ErrorCode::Storage, "the accounts cannot be read now"))
    }
}

impl<S: SecretSource> LoginRenewer for Authenticator<S> {
    fn renew(
        &self,
        principal: &Principal,
        address: IpAddr,
        host: &dyn Host,
    ) -> Result<Principal, Refusal> {
        let renewed = match (&principal.credential, &self.policy) {
            (Credential::Ticket(ticket), LoginPolicy::Cluster { master }) => {
                let answer = master.ask(MasterQuery::Renew { ticket, address })?;
                self.principal_by_ticket(wait_for_master(&answer)?, address, host)?
            }
            (Credential::Account(id), LoginPolicy::Standalone { writable, passwords }) => {
                let local = LocalPolicy { writable: *writable, passwords: passwords.as_ref() };
                self.renew_locally(local, &principal.user, *id, address, host)?
            }
            _ => {
                let why = "this login cannot be renewed; log in again";
                return Err(Refusal::new(ErrorCode::BadTicket, why));
            }
        };
        Ok(Principal { seen_lsn: renewed.seen_lsn.max(principal.seen_lsn), ..renewed })
    }
}

/// [`LoginPolicy::Standalone`].
#[derive(Clone, Copy)]
struct LocalPolicy<'a> {
    writable: bool,
    passwords: Option<&'a PasswordVerifier>,
}

impl LocalPolicy<'_> {
    /// A client without an account, which may write only if all listeners and itself are on
    /// loopback. Behind a proxy its address may be another one than that of its connection.
    fn without_account(self, address: IpAddr) -> AuthenticatedUser {
        let is_local = self.writable && address.to_canonical().is_loopback();
        let rights = if is_local { Rights::Write } else { Rights::Read };
        AuthenticatedUser::without_account(rights)
    }
}

fn bad_ticket(why: String) -> Refusal {
    Refusal::new(ErrorCode::BadTicket, why)
}

/// Checks that the user has not logged out with this ticket.
///
/// # Errors
/// [`ErrorCode::BadTicket`].
pub fn check_not_logged_out(user: &str, ticket: &[u8], host: &dyn Host) -> Result<(), Refusal> {
    if host.ended_tickets().contains(user, ticket) {
        return Err(bad_ticket("this login has ended: its user has logged out".to_owned()));
    }
    Ok(())
}

fn principal_of(user: AuthenticatedUser, address: IpAddr, host: &dyn Host) -> Principal {
    let AuthenticatedUser { name, rights, root, generation, password_id } = user;
    let time = u64::try_from(limits::TICKET_TIME.as_millis()).unwrap_or(u64::MAX);
    let ends_ms = host.now_ms().saturating_add(time);
    let (principal, credential) = (Principal::new(name, address), Credential::Account(password_id));
    Principal { root, rights, generation, ends_ms, credential, ..principal }
}
