//! What the tree holds beside its entries: dead properties, locks and SHA-256 hashes of contents.
//!
//! Properties and locks belong to a path, hashes to the put that stored a content. None of them is
//! part of an entry, so they never change its version.

use crate::{
    ChangeId, ErrorCode, LockToken, Lsn, Refusal, Sha256, TreePath, WireError, limits, wire_struct,
};

wire_struct! {
    /// Name of a dead property (RFC 4918, section 4.4): an XML namespace and a local name.
    #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub struct PropertyName {
        /// Empty for a name without a namespace.
        pub namespace: String [limits::PROPERTY_NAMESPACE],
        /// Name within the namespace.
        pub local: String [limits::PROPERTY_LOCAL],
    }

    /// A dead property of a file or folder.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Property {
        /// Name of the property; a path has one value for it.
        pub name: PropertyName,
        /// Opaque XML fragment, as the client has sent it.
        pub value: String [limits::PROPERTY_VALUE],
    }

    /// A new value of one property, or its removal.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct PropertyChange {
        /// Name of the property.
        pub name: PropertyName,
        /// New value; `None` removes the property, if it is there.
        pub value: Option<String> [limits::PROPERTY_VALUE],
    }

    /// A requested lock, or a request for more time for the lock with this token.
    ///
    /// The account is that of the change's id, and the time begins at the log entry. So no client
    /// can lock for another account, and no clock but the master's counts.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct LockRequest {
        /// Token of the lock, chosen at random.
        pub token: LockToken,
        /// Name of the user, as other users see it; empty for a session without an account.
        pub user: String [limits::USER],
        /// Owner as the client names it: an opaque XML fragment.
        pub owner: String [limits::LOCK_OWNER],
        /// Whether no other lock may cover the same resource.
        pub exclusive: bool,
        /// Whether the lock covers everything below a folder (`Depth: infinity`).
        pub deep: bool,
        /// Seconds until the lock expires.
        pub seconds: u32 [limits::LOCK_SECONDS],
    }

    /// A lock on a file or folder (RFC 4918, section 6).
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Lock {
        /// Token that a change must submit.
        pub token: LockToken,
        /// Tag of the account that made the lock, as [`ChangeId::account`] returns it.
        pub account: u32,
        /// Name of the user, as other users see it; empty for a session without an account.
        pub user: String [limits::USER],
        /// Owner as the client has named it: an opaque XML fragment.
        pub owner: String [limits::LOCK_OWNER],
        /// Whether no other lock may cover the same resource.
        pub exclusive: bool,
        /// Whether the lock covers everything below a folder.
        pub deep: bool,
        /// Time of expiry in milliseconds since 1970 UTC, on the master's clock.
        pub expires_ms: u64,
    }

    /// SHA-256 hashes of a content and of its pieces.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ContentHashes: check_hashes {
        /// Hash of the whole content.
        pub sha256: Sha256,
        /// Bytes in a piece, as [`Self::piece_size_for`] returns it; the last one may be shorter.
        pub piece_size: u64,
        /// Hashes of the pieces; empty if the content has at most one.
        pub pieces: Vec<Sha256> [limits::SHA256_PIECES],
    }

    /// A page of properties, locks and hashes of a tree.
    #[derive(Debug, Clone, PartialEq, Eq, Default)]
    pub struct Annotations {
        /// Properties, each with its path; ordered by path and name.
        pub properties: Vec<(TreePath, Property)> [limits::LINK_LIST],
        /// Locks, each with its path.
        pub locks: Vec<(TreePath, Lock)> [limits::LINK_LIST],
        /// Hashes of contents, by the put that stored the content.
        pub hashes: Vec<(Lsn, ContentHashes)> [limits::LINK_LIST],
    }
}

fn check_hashes(hashes: &ContentHashes) -> Result<(), WireError> {
    let value = hashes.piece_size;
    if value.is_power_of_two() && (limits::PIECE..=limits::FILE_SIZE).contains(&value) {
        return Ok(());
    }
    Err(WireError::BadValue { what: "size of SHA-256 pieces", value })
}

impl Annotations {
    /// Adds the next page.
    pub fn append(&mut self, page: Self) {
        self.properties.extend(page.properties);
        self.locks.extend(page.locks);
        self.hashes.extend(page.hashes);
    }
}

impl ContentHashes {
    /// Returns the bytes in a piece of a content: the lowest power of two from 1 MiB on that gives
    /// at most [`limits::SHA256_PIECES`] pieces.
    #[must_use]
    pub fn piece_size_for(size: u64) -> u64 {
        let most = u64::try_from(limits::SHA256_PIECES).unwrap_or(u64::MAX);
        size.div_ceil(most).next_power_of_two().max(limits::PIECE)
    }

    /// Returns whether piece size and number of pieces are those of a content of `size` bytes.
    #[must_use]
    pub fn fit(&self, size: u64) -> bool {
        let pieces = if size <= self.piece_size { 0 } else { size.div_ceil(self.piece_size) };
        self.piece_size == Self::piece_size_for(size)
            && u64::try_from(self.pieces.len()) == Ok(pieces)
    }

    /// Returns the bytes in memory of the hashes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        32 * (1 + self.pieces.len())
    }
}

impl Lock {
    /// Makes the lock that a log entry with this id and time grants.
    #[must_use]
    pub fn granted(request: &LockRequest, id: ChangeId, time_ms: u64) -> Self {
        let LockRequest { token, user, owner, exclusive, deep, seconds } = request.clone();
        let expires_ms = time_ms.saturating_add(u64::from(seconds) * 1000);
        Self { token, account: id.account(), user, owner, exclusive, deep, expires_ms }
    }

    /// Returns whether the lock is over.
    #[must_use]
    pub fn has_expired(&self, now_ms: u64) -> bool {
        self.expires_ms <= now_ms
    }

    /// Returns whether a change of this account that submits these tokens may use the lock.
    ///
    /// A lock of an account is of no use to others. A lock without an account is used by its token.
    #[must_use]
    pub fn is_held_by(&self, account: u32, tokens: &[LockToken]) -> bool {
        tokens.contains(&self.token) && (self.user.is_empty() || self.account == account)
    }
}

impl PropertyName {
    /// Returns the bytes of the name.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.namespace.len() + self.local.len()
    }
}

impl Property {
    /// Returns the bytes of name and value.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.name.bytes() + self.value.len()
    }
}

impl PropertyChange {
    /// Returns the bytes of name and value.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.name.bytes() + self.value.as_ref().map_or(0, String::len)
    }

    /// Checks the sizes of the changes of one request, before they are sent.
    ///
    /// # Errors
    /// [`ErrorCode::Limit`] without a path if a name, a value or all together are too long, or if
    /// there are too many; [`ErrorCode::BadName`] for an empty name.
    pub fn check_sizes(changes: &[Self]) -> Result<(), Refusal> {
        let refuse = |what: &str, cap: usize| {
            Err(Refusal::new(ErrorCode::Limit, format!("{what}: the limit is {cap}")))
        };
        if changes.len() > limits::PROPERTIES {
            return refuse("too many properties in one request", limits::PROPERTIES);
        }
        for PropertyChange { name, value } in changes {
            if name.local.is_empty() {
                return Err(Refusal::new(ErrorCode::BadName, "a property has no name"));
            }
            if name.local.len() > limits::PROPERTY_LOCAL {
                return refuse("bytes in the name of a property", limits::PROPERTY_LOCAL);
            }
            if name.namespace.len() > limits::PROPERTY_NAMESPACE {
                return refuse("bytes in the namespace of a property", limits::PROPERTY_NAMESPACE);
            }
            if value.as_ref().is_some_and(|value| value.len() > limits::PROPERTY_VALUE) {
                return refuse("bytes in a property", limits::PROPERTY_VALUE);
            }
        }
        if changes.iter().map(Self::bytes).sum::<usize>() > limits::PROPERTY_CHANGE {
            return refuse("bytes of properties in one request", limits::PROPERTY_CHANGE);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_grow_until_they_are_few() {
        const GIB: u64 = 1024 * limits::PIECE;
        for (size, piece_size, pieces) in [
            (0, limits::PIECE, 0),
            (limits::PIECE, limits::PIECE, 0),
            (limits::PIECE + 1, limits::PIECE, 2),
            (GIB, limits::PIECE, 1024),
            (GIB + 1, 2 * limits::PIECE, 513),
            (3 * GIB, 4 * limits::PIECE, 768),
            (limits::FILE_SIZE, 1 << 53, 1024),
        ] {
            let all = vec![Sha256([0; 32]); pieces];
            let hashes = ContentHashes { sha256: Sha256([1; 32]), piece_size, pieces: all };
            assert_eq!(ContentHashes::piece_size_for(size), piece_size, "{size}");
            assert!(hashes.fit(size), "{size}");
            assert!(!ContentHashes { piece_size: 2 * piece_size, ..hashes.clone() }.fit(size));
            let more = [hashes.pieces.as_slice(), &[Sha256([0; 32])]].concat();
            assert!(!ContentHashes { pieces: more, ..hashes }.fit(size), "{size}");
        }
    }

    #[test]
    fn a_lock_is_held_by_its_account_and_token() {
        let token = LockToken([1; 16]);
        let lock = |user: &str| Lock {
            token,
            account: 7,
            user: user.into(),
            owner: String::new(),
            exclusive: true,
            deep: false,
            expires_ms: 1,
        };
        let other = LockToken([2; 16]);
        for (user, account, tokens, is_held) in [
            ("ann", 7, &[other, token][..], true),
            ("ann", 7, &[other], false),
            ("ann", 7, &[], false),
            ("ann", 8, &[token], false),
            ("", 7, &[token], true),
            ("", 8, &[token], true),
            ("", 7, &[other], false),
        ] {
            assert_eq!(lock(user).is_held_by(account, tokens), is_held, "{user} {account}");
        }
    }

    #[test]
    fn sizes_are_checked_before_they_are_sent() {
        let of = |namespace: usize, local: usize, value: usize| PropertyChange {
            name: PropertyName { namespace: "n".repeat(namespace), local: "l".repeat(local) },
            value: Some("v".repeat(value)),
        };
        let most = of(limits::PROPERTY_NAMESPACE, limits::PROPERTY_LOCAL, limits::PROPERTY_VALUE);
        for (changes, code) in [
            (vec![most.clone()], None),
            (vec![most; 2], Some(ErrorCode::Limit)),
            (vec![of(0, 1, 0); limits::PROPERTIES], None),
            (vec![of(0, 1, 0); limits::PROPERTIES + 1], Some(ErrorCode::Limit)),
            (vec![of(limits::PROPERTY_NAMESPACE + 1, 1, 0)], Some(ErrorCode::Limit)),
            (vec![of(0, limits::PROPERTY_LOCAL + 1, 0)], Some(ErrorCode::Limit)),
            (vec![of(0, 1, limits::PROPERTY_VALUE + 1)], Some(ErrorCode::Limit)),
            (vec![of(1, 0, 0)], Some(ErrorCode::BadName)),
        ] {
            let found = PropertyChange::check_sizes(&changes).err().map(|why| why.code);
            assert_eq!(found, code, "{} changes", changes.len());
        }
    }
}
