//! What a server remembers between two starts, and what it proves things with.
//!
//! Owns the state folder and its lock, the journal of numbered changes and the snapshots that shorten it, the
//! cluster key, the authority that certifies the cluster's servers, the proof that both ends of a cluster link have that key, and
//! the tickets that a master gives to clients; and the files that programs record themselves in. Used by masters, by slaves and
//! by operators' commands. It opens no socket, and reads no clock but to bring recordings to their files in time: callers move
//! the bytes and say what time it is. The key itself leaves this crate
//! only for another process of the same server, and is in no debug print.

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
    PasswordVerifier, PendingLogin, SharedLoginState,
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

/// Fills an array with random bytes from the kernel.
///
/// # Errors
/// Where the kernel has none to give.
pub fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    Ok(bytes)
}

/// Where the hashes over a cluster's changes begin: no two clusters have the same.
#[must_use]
pub fn chain_seed(cluster: relais_proto::ClusterId) -> [u8; 32] {
    blake3::derive_key("relais change chain 1", &cluster.0)
}
