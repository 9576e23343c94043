//! Which change a client means by an id: one of this user, of this kind, at these paths.
//!
//! Clients choose ids, and may choose badly or be lied to. From here on a change goes by an id that is bound to what it
//! is: whoever asks for something else with the same id asks for another change.

use relais_proto::{ChangeId, TreePath};

use crate::serving::Session;

/// Keeps this hash apart from every other one.
const DOMAIN: &str = "relais 2026-11 id of a change 1";

/// As above, for the tag of an account.
const ACCOUNT: &str = "relais 2026-11 tag of an account 1";

/// The id of a change that `session` calls `id`. `size` is that of an upload, where it is known.
pub fn bound(
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
    // No file is so large.
    hasher.update(&size.unwrap_or(u64::MAX).to_be_bytes());
    let mut bound = [0; 16];
    hasher.finalize_xof().fill(&mut bound);
    bound[..4].copy_from_slice(&account_tag(&session.user).to_be_bytes());
    ChangeId(bound)
}

/// The tag with which the ids of an account's changes begin: limits count by it. Two accounts may
/// have the same tag, and share their limits then. Never 0, which is the tag of local changes.
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
    fn all_that_a_change_is_counts() {
        let session = |user: &str| Session {
            user: user.to_owned(),
            owner: crate::owner::Owner::of("", std::net::IpAddr::from([192, 0, 2, 1])),
            root: TreePath::root(),
            writable: true,
            mark: relais_proto::Lsn::default(),
            peer: false,
            generation: 0,
            ends_ms: u64::MAX,
        };
        let path = |text: &str| TreePath::new(text).unwrap();
        let (a, b, ann) = (path("a"), path("b"), session("ann"));
        let id = ChangeId([1; 16]);
        let of = |kind, paths: &[&TreePath], size| bound(&ann, id, kind, paths, size);
        let all = [
            of("put", &[&a], Some(5)),
            of("put", &[&a], Some(6)),
            of("put", &[&a], None),
            of("put", &[&b], Some(5)),
            of("rm", &[&a], None),
            of("mv", &[&a, &b], None),
            of("mv", &[&b, &a], None),
            bound(&session("bob"), id, "put", &[&a], Some(5)),
            bound(&ann, ChangeId([2; 16]), "put", &[&a], Some(5)),
        ];
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
        assert_eq!(of("put", &[&a], Some(5)), all[0]);
        assert!(all[..7].iter().all(|id| id.account() == all[0].account()));
        assert_ne!((all[0].account(), all[0].account()), (all[7].account(), 0));
    }
}
