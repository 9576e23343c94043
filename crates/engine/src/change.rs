//! A change on its way to the catalogue writer, and its id.

use std::collections::VecDeque;

use relais_proto::{ChangeId, Digest, Lsn, TreePath};
use relais_storage::Proposal;

use crate::principal::Principal;
use crate::transfer_log::TransferRecord;

/// Context of the hash that binds an id, which differs from every other one.
const DOMAIN: &str = "relais 2026-11 id of a change 1";
/// Context of the hash that gives the tag of an account.
const ACCOUNT: &str = "relais 2026-11 tag of an account 1";

/// A checked change, handed in with [`Session::submit`](crate::Session::submit) or
/// [`Session::commit`](crate::Session::commit).
#[must_use]
pub struct PreparedChange {
    pub(crate) proposal: Proposal,
    pub(crate) record: TransferRecord,
    /// Changes that are handed in after this one was made, one after the other.
    pub(crate) follow_ups: VecDeque<Proposal>,
    /// The answer of this change, while a follow-up is pending. The client gets one for all.
    pub(crate) committed: Option<Committed>,
}

impl PreparedChange {
    pub(crate) fn new(proposal: Proposal, record: TransferRecord) -> Self {
        Self { proposal, record, follow_ups: VecDeque::new(), committed: None }
    }
}

/// A change that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// LSN of the change.
    pub version: Lsn,
    /// Number of disks that hold the content, at least.
    pub copies: u16,
    /// The latest change that is part of the answer.
    pub lsn: Lsn,
    /// Digest of the content of a put; none for other changes, or if it is not known.
    pub digest: Option<Digest>,
    /// Whether the path of a put still has the content of that put.
    pub is_current: bool,
}

/// Returns the id of the change that the client of `principal` calls `id`.
///
/// Clients choose ids, and may choose badly or be deceived. From here on a change has an id that is
/// bound to its user, kind and paths, and to the size of an upload if that is known: the same id in
/// another command means another change.
pub(crate) fn bind_id(
    principal: &Principal,
    id: ChangeId,
    kind: &[u8],
    paths: &[&TreePath],
    size: Option<u64>,
) -> ChangeId {
    let mut hasher = blake3::Hasher::new_derive_key(DOMAIN);
    hasher.update(&id.0);
    let paths = paths.iter().map(|path| path.as_str().as_bytes());
    for bytes in [principal.user.as_bytes(), kind].into_iter().chain(paths) {
        hasher.update(&(bytes.len() as u64).to_be_bytes()).update(bytes);
    }
    // No file has this size.
    hasher.update(&size.unwrap_or(u64::MAX).to_be_bytes());
    let mut bound = [0; 16];
    hasher.finalize_xof().fill(&mut bound);
    bound[..4].copy_from_slice(&account_tag(&principal.user).to_be_bytes());
    ChangeId(bound)
}

/// Returns the tag with which the ids of an account's changes begin.
///
/// Limits count by this tag. Two accounts may have the same tag, and share their limits then. It is
/// never 0, which is the tag of local changes.
pub(crate) fn account_tag(user: &str) -> u32 {
    let mut hasher = blake3::Hasher::new_derive_key(ACCOUNT);
    hasher.update(user.as_bytes());
    let mut tag = [0; 4];
    hasher.finalize_xof().fill(&mut tag);
    u32::from_be_bytes(tag).max(1)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn ids_depend_on_user_kind_paths_and_size() {
        let user = |name: &str| Principal::new(name, IpAddr::from([192, 0, 2, 1]));
        let path = |text: &str| TreePath::new(text).unwrap();
        let (a, b, ann) = (path("a"), path("b"), user("ann"));
        let id = ChangeId([1; 16]);
        let of = |kind: &[u8], paths: &[&TreePath], size| bind_id(&ann, id, kind, paths, size);
        let all = [
            of(b"put", &[&a], Some(5)),
            of(b"put", &[&a], Some(6)),
            of(b"put", &[&a], None),
            of(b"put", &[&b], Some(5)),
            of(b"rm", &[&a], None),
            of(b"mv", &[&a, &b], None),
            of(b"mv", &[&b, &a], None),
            bind_id(&user("bob"), id, b"put", &[&a], Some(5)),
            bind_id(&ann, ChangeId([2; 16]), b"put", &[&a], Some(5)),
        ];
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
        assert_eq!(of(b"put", &[&a], Some(5)), all[0]);
        assert!(all[..7].iter().all(|id| id.account() == all[0].account()));
        assert_ne!((all[0].account(), all[0].account()), (all[7].account(), 0));
    }
}
