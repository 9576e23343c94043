//! A login whose result is not known yet: a password that is verified here or by the master.

use std::net::IpAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use relais_auth::{AuthenticatedUser, PendingLogin as PendingPassword};
use relais_proto::{ErrorCode, Lsn, Refusal};

/// Longest wait for the master's answer.
///
/// It is shorter than [`relais_proto::limits::LOGIN_TIME`], so that the client learns the reason.
const ANSWER_TIME: Duration = Duration::from_secs(8);
/// Pause of a client in seconds before it tries again.
const RETRY_AFTER: u16 = 2;

/// A question about a login that only the master can answer.
#[derive(Clone, Copy)]
pub enum MasterQuery<'a> {
    /// Verify name and password of the client at this address.
    LogIn {
        /// The name, as the client sent it.
        user: &'a str,
        /// The password.
        password: &'a [u8],
        /// The address of the client.
        address: IpAddr,
    },
    /// Issue a new ticket for one that has become old.
    Renew {
        /// The former ticket.
        ticket: &'a [u8],
        /// The address of the client.
        address: IpAddr,
    },
}

/// A ticket of the master, and how far its client has to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedTicket {
    /// The ticket.
    pub ticket: Vec<u8>,
    /// The latest change when it was issued. The client may have seen it on another slave.
    pub lsn: Lsn,
}

/// The master's answer: a ticket, or the refusal of the login.
pub type MasterAnswer = Result<IssuedTicket, Refusal>;

/// The way of a cluster's slave to its master, for logins. No call blocks.
pub trait MasterLogins: Send + Sync {
    /// Asks the master. The receiver gets the answer once.
    ///
    /// # Errors
    /// [`ErrorCode::Busy`] if too many queries wait.
    fn ask(&self, query: MasterQuery<'_>) -> Result<Receiver<MasterAnswer>, Refusal>;
}

/// A login that was found to be right.
#[derive(Debug)]
pub enum VerifiedLogin {
    /// A user of the slave's own accounts.
    #[allow(missing_docs, reason = "the names of the fields say what they hold")]
    User { user: AuthenticatedUser, is_renewed: bool },
    /// A ticket of the master.
    Ticket(IssuedTicket),
}

/// The result of a login; [`crate::Authenticator::conclude`] makes a principal of it.
pub type LoginOutcome = Result<VerifiedLogin, Refusal>;

/// A login that is being verified. Its drop gives it up.
pub struct PendingLogin(PendingKind);

enum PendingKind {
    Password { pending: PendingPassword, is_renewed: bool },
    Master { answer: Receiver<MasterAnswer>, until: Instant },
}

impl From<PendingPassword> for PendingLogin {
    fn from(pending: PendingPassword) -> Self {
        Self(PendingKind::Password { pending, is_renewed: true })
    }
}

impl From<Receiver<MasterAnswer>> for PendingLogin {
    fn from(answer: Receiver<MasterAnswer>) -> Self {
        Self(PendingKind::Master { answer, until: Instant::now() + ANSWER_TIME })
    }
}

impl PendingLogin {
    /// Returns the same login, which is not renewed later.
    pub(crate) fn unrenewed(self) -> Self {
        Self(match self.0 {
            PendingKind::Password { pending, .. } => {
                PendingKind::Password { pending, is_renewed: false }
            }
            kind @ PendingKind::Master { .. } => kind,
        })
    }

    /// Returns the result as soon as it is known.
    pub fn take(&self) -> Option<LoginOutcome> {
        match &self.0 {
            PendingKind::Password { pending, is_renewed } => {
                let verified = |user| VerifiedLogin::User { user, is_renewed: *is_renewed };
                pending.take().map(|result| result.map(verified))
            }
            PendingKind::Master { answer, until } => match answer.try_recv() {
                Ok(result) => Some(result.map(VerifiedLogin::Ticket)),
                Err(TryRecvError::Empty) if Instant::now() < *until => None,
                Err(_) => Some(Err(no_answer())),
            },
        }
    }
}

/// Waits for the master's answer.
pub(crate) fn wait_for_master(answer: &Receiver<MasterAnswer>) -> MasterAnswer {
    answer.recv_timeout(ANSWER_TIME).unwrap_or_else(|error| match error {
        RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected => Err(no_answer()),
    })
}

fn no_answer() -> Refusal {
    let message = format!("the master did not answer in time; try again in {RETRY_AFTER} s");
    Refusal { retry_after: RETRY_AFTER, ..Refusal::new(ErrorCode::TimedOut, message) }
}
