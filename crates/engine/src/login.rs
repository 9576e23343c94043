//! Decides about logins: by a name and a password, or by the master's ticket.

use std::net::IpAddr;

use relais_auth::{
    AuthenticatedUser, ClusterKey, LiveAccounts, LoginResult, PasswordVerifier, PendingLogin,
    Rights, Ticket,
};
use relais_proto::{ClusterId, ErrorCode, Lsn, Refusal, limits};

use crate::host::Host;
use crate::principal::Principal;

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
        /// Whether clients may change the tree while there are no accounts.
        writable: bool,
        /// Verifies passwords; none if no account can exist.
        passwords: Option<PasswordVerifier>,
    },
    /// Clients with a ticket of the master, and other slaves with the cluster key.
    Cluster,
}

/// What follows from a name and a password.
pub enum LoginDecision {
    /// The user has logged in.
    Admitted(Principal),
    /// The password is being verified; [`Authenticator::conclude`] takes the result.
    Pending(PendingLogin),
    /// Only the master knows the accounts.
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
            LoginPolicy::Cluster => None,
        }
    }

    /// Whether other slaves can log in with the cluster key.
    #[must_use]
    pub fn accepts_peers(&self) -> bool {
        matches!(self.policy, LoginPolicy::Cluster)
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
        let bad = |why: String| Refusal::new(ErrorCode::BadTicket, why);
        if !self.accepts_peers() {
            return Err(bad("this standalone slave takes no tickets".to_owned()));
        }
        let key = self.secrets.key();
        let key =
            key.ok_or_else(|| bad("this slave does not have the cluster key yet".to_owned()))?;
        let (now, generation) = (host.now_ms(), host.generation());
        let Ticket { user, rights, root, generation, ends_ms, .. } =
            Ticket::check(ticket, &key, key.cluster_id(), now, generation)
                .map_err(|e| bad(e.to_string()))?;
        let principal = Principal::new(user, address);
        let writable = rights == Rights::Write;
        Ok(Principal { root, writable, seen_lsn: lsn, generation, ends_ms, ..principal })
    }

    /// Checks a name and a password; an empty name stands for no account.
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
        let verifier = match passwords {
            Some(verifier) if self.has_accounts(host)? => Some(verifier),
            _ => None,
        };
        match (verifier, user.is_empty()) {
            (None, true) => {
                let generation = 0;
                let principal = Principal::new("", address);
                let (writable, ends_ms) = (*writable, end_of_login(host));
                let principal = Principal { writable, generation, ends_ms, ..principal };
                Ok(LoginDecision::Admitted(principal))
            }
            (None, false) => {
                let message = "there are no accounts on this server; log in without a name";
                Err(Refusal::new(ErrorCode::LoginRefused, message))
            }
            (Some(_), true) => {
                let message = "a user name and a password are needed here";
                Err(Refusal::new(ErrorCode::LoginNeeded, message))
            }
            (Some(verifier), false) => {
                verifier.submit(address, user, password).map(LoginDecision::Pending)
            }
        }
    }

    /// Returns the principal for the result of a verified password.
    ///
    /// # Errors
    /// [`ErrorCode::LoginRefused`] if name or password are wrong; [`ErrorCode::Busy`] after too
    /// many wrong ones.
    pub fn conclude(
        &self,
        result: LoginResult,
        address: IpAddr,
        host: &dyn Host,
    ) -> Result<Principal, Refusal> {
        let AuthenticatedUser { name, rights, root, generation } = result?;
        let principal = Principal::new(name, address);
        let (writable, ends_ms) = (rights == Rights::Write, end_of_login(host));
        Ok(Principal { root, writable, generation, ends_ms, ..principal })
    }

    /// Whether a login needs an account.
    fn has_accounts(&self, host: &dyn Host) -> Result<bool, Refusal> {
        let accounts = || {
            let accounts = self.secrets.accounts().current();
            let generation = accounts.as_ref().map_or(0, |accounts| accounts.generation());
            (generation >= host.generation()).then_some(accounts.is_some())
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

fn end_of_login(host: &dyn Host) -> u64 {
    let time = u64::try_from(limits::TICKET_TIME.as_millis()).unwrap_or(u64::MAX);
    host.now_ms().saturating_add(time)
}
