//! What the tests of accounts share.

use std::sync::OnceLock;

use super::password::PasswordHash;

/// A cheap hash of the password `secret`.
pub(super) fn cheap_hash() -> PasswordHash {
    static ONCE: OnceLock<PasswordHash> = OnceLock::new();
    ONCE.get_or_init(|| PasswordHash::with(b"secret", (8, 1, 1)).unwrap()).clone()
}
