//! Binds the id of a change to its user, its kind and its paths.
//!
//! Clients choose ids, and may choose badly or be deceived. From here on a change has an id that is
//! bound to what it is: the same id in another request means another change.

use relais_proto::{ChangeId, TreePath};

use crate::engine::serving::Session;

/// Context of the hash, which differs from every other one.
const DOMAIN: &str = "relais 2026-11 id of a change 1";

/// Context of the hash that gives the tag of an account.
const ACCOUNT: &str = "relais 2026-11 tag of an account 1";

/// Returns the id of the change that `session` calls `id`.
///
/// `size` is that of an upload, if it is known.
pub fn bind_id(
    session: &Session,
    id: ChangeId,
    kind: &str,
    paths: &[&TreePath],
    size: Option<u64>,
) -> ChangeId {
    let mut hasher = blake3::Hasher::new_derive_key(DOMAIN);
    hasher.update(&id.0);
    for text in
        [session.user.as_str(), kind].into_iter().chain(paths.iter().map(|path| path.as_str()))
    {
        hasher.update(&(text.len() as u64).to_be_bytes()).update(text.as_bytes());
    }
    // No file has this size.
    hasher.update(&size.unwrap_or(u64::MAX).to_be_bytes());
    let mut bound = [0; 16];
    hasher.finalize_xof().fill(&mut bound);
    bound[..4].copy_from_slice(&account_tag(&session.user).to_be_bytes());
    ChangeId(bound)
}

/// Returns the tag with which the ids of an account's changes begin.
///
/// Limits count by this tag. Two accounts may have the same tag, and share their limits then. It is
/// never 0, which is the tag of local changes.
#[must_use]
pub fn account_tag(user: &str) -> u32 {
    let mut hasher = blake3::Hasher::new_derive_key(ACCOUNT);
    hasher.update(user.as_bytes());
    let mut tag = [0; 4];
    hasher.finalize_xof().fill(&mut tag);
    u32::from_be_bytes(tag).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_depend_on_user_kind_paths_and_size() {
        let session = |user: &str| Session {
            user: user.to_owned(),
            owner: crate::engine::owner::Owner::of("", std::net::IpAddr::from([192, 0, 2, 1])),
            root: TreePath::root(),
            writable: true,
            seen_lsn: relais_proto::Lsn::default(),
            is_peer: false,
            generation: 0,
            ends_ms: u64::MAX,
        };
        let path = |text: &str| TreePath::new(text).unwrap();
        let (a, b, ann) = (path("a"), path("b"), session("ann"));
        let id = ChangeId([1; 16]);
        let of = |kind, paths: &[&TreePath], size| bind_id(&ann, id, kind, paths, size);
        let all = [
            of("put", &[&a], Some(5)),
            of("put", &[&a], Some(6)),
            of("put", &[&a], None),
            of("put", &[&b], Some(5)),
            of("rm", &[&a], None),
            of("mv", &[&a, &b], None),
            of("mv", &[&b, &a], None),
            bind_id(&session("bob"), id, "put", &[&a], Some(5)),
            bind_id(&ann, ChangeId([2; 16]), "put", &[&a], Some(5)),
        ];
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
        assert_eq!(of("put", &[&a], Some(5)), all[0]);
        assert!(all[..7].iter().all(|id| id.account() == all[0].account()));
        assert_ne!((all[0].account(), all[0].account()), (all[7].account(), 0));
    }
}
