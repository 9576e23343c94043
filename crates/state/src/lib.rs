//! The persistent state of a server: state folder, journal, keys, accounts and tickets.
//!
//! The crate owns the state folder and its lock, the journal of numbered changes with its
//! snapshots, the cluster key and the proofs of it, the authority that certifies servers, accounts,
//! tickets, and recordings. Masters, slaves and operators' commands use it.
//!
//! It opens no socket: callers move the bytes. It reads no clock but to flush recordings: callers
//! pass the time. The cluster key leaves this crate only for another process of the same server,
//! and no debug output shows it.

mod accounts;
mod atomic_file;
mod authority;
mod dir;
mod journal;
mod key;
mod link;
mod recording;
mod secret_file;
mod snapshot;
mod ticket;

pub use accounts::{
    Account, AccountError, Accounts, AccountsError, AccountsFile, AuthenticatedUser, BadLine,
    FailedLogins, HashError, LiveAccounts, LocalLoginState, LoginResult, PasswordHash,
    PasswordVerifier, PendingLogin, SharedLoginState, check_user_name,
};
pub use atomic_file::{display_path, write_atomically};
pub use authority::{Authority, AuthorityError, CertificateName, RenewalTimer, ServerKey};
pub use dir::{LockedStateDir, StateDir, StateDirError};
pub use journal::{BATCH_BYTES, BATCH_CHANGES, ChangeLog, Journal, JournalError, JournalReader};
pub use key::{ClusterKey, KeyError};
pub use link::{LinkChallenger, LinkError, LinkHandshake, LinkRole, decode_link_frame};
pub use recording::Recording;
pub use snapshot::{Snapshot, SnapshotError};
pub use ticket::{Rights, Ticket, TicketError};

/// Returns random bytes from the kernel.
///
/// # Errors
/// The kernel provides no random bytes.
pub fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    Ok(bytes)
}

/// The first value of the hash chain over a cluster's changes; each cluster has its own.
#[must_use]
pub fn chain_seed(cluster: relais_proto::ClusterId) -> [u8; 32] {
    blake3::derive_key("relais change chain 1", &cluster.0)
}
