//! The user of a session: name, rights, root and the end of the login.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use relais_auth::{PasswordId, Rights, TicketError};
use relais_proto::{ErrorCode, Lsn, Refusal, TreePath};

use crate::host::Host;
use crate::owner::Owner;

/// A login is renewed this long before its end.
const RENEW_BEFORE: Duration = Duration::from_secs(60 * 60);

/// What a login is renewed with.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// The login is not renewed: the client logs in again by itself.
    None,
    /// The master's ticket.
    Ticket(Vec<u8>),
    /// The password of the account, in the accounts of this slave.
    Account(PasswordId),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Ticket(_) => "Ticket(..)",
            Self::Account(_) => "Account(..)",
        })
    }
}

/// A user that has logged in, and what the user may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Name of the user; empty: no account.
    pub user: String,
    /// Owner of the user's work, which takes turns with the work of others.
    pub owner: Owner,
    /// The folder that the user sees as the root.
    pub root: TreePath,
    /// What the user may do.
    pub rights: Rights,
    /// The latest change that the user had seen at the login.
    pub seen_lsn: Lsn,
    /// Whether the peer is another slave, which fetches content.
    pub is_peer: bool,
    /// Generation of the accounts at the login.
    pub generation: u64,
    /// End of the login, in the time of [`Host::now_ms`].
    pub ends_ms: u64,
    /// What the login is renewed with.
    pub credential: Credential,
}

impl Principal {
    /// Makes a principal that may change everything below the root, without end.
    ///
    /// An empty `user` stands for no account.
    #[must_use]
    pub fn new(user: impl Into<String>, address: IpAddr) -> Self {
        let user = user.into();
        Self {
            owner: Owner::of(&user, address),
            user,
            root: TreePath::root(),
            rights: Rights::Write,
            seen_lsn: Lsn::default(),
            is_peer: false,
            generation: u64::MAX,
            ends_ms: u64::MAX,
            credential: Credential::None,
        }
    }

    /// Returns the same login, which is not renewed.
    #[must_use]
    pub(crate) fn unrenewed(self) -> Self {
        Self { credential: Credential::None, ..self }
    }

    /// Makes the principal of another slave, which has proved the cluster key.
    #[must_use]
    pub fn for_peer(address: IpAddr) -> Self {
        Self { rights: Rights::Read, is_peer: true, ..Self::new("", address) }
    }

    /// Returns the user's name for logs.
    #[must_use]
    pub fn name(&self) -> &str {
        if self.user.is_empty() { "(no account)" } else { &self.user }
    }

    /// Checks that the login is still valid: it expires, and ends when any user loses rights.
    pub(crate) fn check(&self, host: &dyn Host) -> Result<(), Refusal> {
        let why = if self.generation < host.generation() {
            TicketError::OldGeneration
        } else if self.ends_ms <= host.now_ms() {
            TicketError::Ended
        } else {
            return Ok(());
        };
        Err(Refusal::new(ErrorCode::BadTicket, why.to_string()))
    }

    /// Whether the login has ended or ends soon, so that it should be renewed.
    pub(crate) fn is_old(&self, host: &dyn Host) -> bool {
        let ahead = u64::try_from(RENEW_BEFORE.as_millis()).unwrap_or(u64::MAX);
        self.generation < host.generation() || self.ends_ms <= host.now_ms().saturating_add(ahead)
    }

    /// Resolves a path that is to be made, removed or moved, which the user's root cannot be.
    pub(crate) fn resolve_below(&self, path: &TreePath) -> Result<TreePath, Refusal> {
        if path.is_root() {
            return Err(Refusal::new(
                ErrorCode::Denied,
                "the root folder cannot be made, removed, moved or replaced",
            ));
        }
        self.resolve(path)
    }

    /// Returns the path in the slave's folder for a path of the user.
    ///
    /// The result is always below the user's root.
    pub(crate) fn resolve(&self, path: &TreePath) -> Result<TreePath, Refusal> {
        path.parts()
            .try_fold(self.root.clone(), |at, part| at.join(part))
            .map_err(|e| Refusal::new(ErrorCode::BadName, e.to_string()))
    }
}
