//! Signatures of URLs: a master lets a client read one path of any slave, without a password.
//!
//! A signature is readable and tamper-proof text for the query of a URL: its fields, then a tag
//! over the fields and the path, which only holders of the cluster key can compute. It grants
//! reading alone; the slave accepts it for GET and HEAD.

use std::fmt::Write;
use std::time::Duration;

use relais_proto::{Decoder, Encoder, TreePath, WireError, limits};

use crate::accounts::AuthenticatedUser;
use crate::key::ClusterKey;
use crate::ticket::TicketError;

/// The first byte of a signature: the version of its layout.
const LAYOUT: u8 = 1;
/// Length of the tag at the end, in bytes.
const TAG: usize = 32;
/// The context string from which the tag key is derived.
const PURPOSE: &str = "relais 2026-11 url signature 1";
/// Longest signature in bytes, before its two hexadecimal digits for each.
const LENGTH: usize = 1 + (2 + limits::USER) + (2 + limits::PATH) + 8 + 8 + TAG;

/// The right to read one path, for a user that has logged in at the master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlSignature {
    /// The user name; empty without an account.
    pub user: String,
    /// The folder that is the root of the tree for this user, to which the path is relative.
    pub root: TreePath,
    /// Generation of the accounts at the time of issue.
    pub generation: u64,
    /// End of validity by the master's clock, in milliseconds since 1970 UTC.
    pub ends_ms: u64,
}

impl UrlSignature {
    /// The name of the query parameter that holds a signature.
    pub const PARAMETER: &str = "relais-signature";
    /// Longest validity of a signature.
    pub const TIME: Duration = Duration::from_secs(60 * 60);

    /// Makes the signature for a user, valid for [`Self::TIME`].
    #[must_use]
    pub fn new(user: &AuthenticatedUser, now_ms: u64) -> Self {
        let time = u64::try_from(Self::TIME.as_millis()).unwrap_or(u64::MAX);
        Self {
            user: user.name.clone(),
            root: user.root.clone(),
            generation: user.generation,
            ends_ms: now_ms.saturating_add(time),
        }
    }

    /// Signs `path`, which is relative to the user's root; returns hexadecimal digits.
    #[must_use]
    pub fn sign(&self, key: &ClusterKey, path: &TreePath) -> String {
        let mut bytes = Vec::with_capacity(128);
        let to = &mut Encoder::new(&mut bytes);
        to.u8(LAYOUT).short_text(&self.user).path(&self.root);
        to.u64(self.generation).u64(self.ends_ms);
        let tag = tag(key, &bytes, path);
        bytes.extend_from_slice(tag.as_bytes());
        bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// Checks the signature `text` of a URL with `path`, at `now_ms` of the master's time.
    ///
    /// A signature of a lower generation than `generation` is rejected.
    ///
    /// # Errors
    /// [`TicketError::Altered`], [`TicketError::Ended`] or [`TicketError::OldGeneration`].
    pub fn check(
        text: &str,
        key: &ClusterKey,
        path: &TreePath,
        now_ms: u64,
        generation: u64,
    ) -> Result<Self, TicketError> {
        let bytes = from_hex(text).ok_or(TicketError::Altered)?;
        let (fields, found) = bytes.split_last_chunk::<TAG>().ok_or(TicketError::Altered)?;
        // blake3::Hash compares in constant time.
        if tag(key, fields, path) != *found {
            return Err(TicketError::Altered);
        }
        let signature = Self::decode(fields).map_err(|_| TicketError::Altered)?;
        if signature.generation < generation {
            return Err(TicketError::OldGeneration);
        }
        if signature.ends_ms <= now_ms {
            return Err(TicketError::Ended);
        }
        Ok(signature)
    }

    fn decode(fields: &[u8]) -> Result<Self, WireError> {
        let mut from = Decoder::new(fields);
        let layout = from.u8()?;
        if layout != LAYOUT {
            return Err(WireError::BadValue { what: "signature layout", value: layout.into() });
        }
        let signature = Self {
            user: from.short_text("user name", limits::USER)?.to_owned(),
            root: from.path()?,
            generation: from.u64()?,
            ends_ms: from.u64()?,
        };
        from.finish()?;
        Ok(signature)
    }
}

/// Computes the tag. The fields have the length of each text, so the path cannot extend them.
fn tag(key: &ClusterKey, fields: &[u8], path: &TreePath) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(&key.sub_key(PURPOSE));
    hasher.update(fields).update(path.as_str().as_bytes());
    hasher.finalize()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if text.len() > LENGTH * 2 || !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let (pairs, _) = text.as_bytes().as_chunks::<2>();
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PasswordId, Rights};

    fn key() -> ClusterKey {
        ClusterKey::from_bytes([7; 32])
    }

    fn path(text: &str) -> TreePath {
        TreePath::new(text).unwrap()
    }

    fn signature() -> UrlSignature {
        let user = AuthenticatedUser {
            name: "ann".to_owned(),
            rights: Rights::Write,
            root: path("home/ann"),
            generation: 7,
            password_id: PasswordId([5; 16]),
        };
        UrlSignature::new(&user, 1_000)
    }

    #[test]
    fn a_signature_is_valid_for_its_path_alone() {
        let text = signature().sign(&key(), &path("a/b"));
        let check = |at: &str| UrlSignature::check(&text, &key(), &path(at), 2_000, 7);
        assert_eq!(check("a/b"), Ok(signature()));
        for other in ["a", "a/b/c", "a/c", "home/ann/a/b", ""] {
            assert_eq!(check(other), Err(TicketError::Altered), "{other}");
        }
        let longest = UrlSignature {
            user: "u".repeat(limits::USER),
            root: path(&("xy/".repeat(1364) + "x")),
            ..signature()
        };
        let text = longest.sign(&key(), &path("f"));
        assert_eq!(UrlSignature::check(&text, &key(), &path("f"), 0, 0), Ok(longest));
    }

    #[test]
    fn any_changed_bit_or_length_is_rejected() {
        let text = signature().sign(&key(), &path("a/b"));
        let is_valid =
            |text: &str| UrlSignature::check(text, &key(), &path("a/b"), 2_000, 7).is_ok();
        let bytes = from_hex(&text).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let bad: String = bad.iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(!is_valid(&bad), "bit {bit}");
        }
        for len in 0..text.len() {
            assert!(!is_valid(&text[..len]), "{len} digits");
        }
        assert!(!is_valid(&format!("{text}00")) && !is_valid(&format!("{text}{text}")));
        assert!(!is_valid(&"zz".repeat(80)) && !is_valid(&"0".repeat(LENGTH * 2 + 2)));
        assert!(!is_valid("\u{e9}\u{e9}"));
    }

    #[test]
    fn expiry_generation_and_key_are_checked() {
        let text = signature().sign(&key(), &path("f"));
        let check = |now, generation| {
            UrlSignature::check(&text, &key(), &path("f"), now, generation).map(|_| ())
        };
        let end = 1_000 + 60 * 60 * 1000;
        assert_eq!((check(0, 0), check(end - 1, 7)), (Ok(()), Ok(())));
        assert_eq!(check(end, 7), Err(TicketError::Ended));
        assert_eq!(check(2_000, 8), Err(TicketError::OldGeneration));
        let other = ClusterKey::from_bytes([8; 32]);
        let forged = UrlSignature::check(&text, &other, &path("f"), 2_000, 7);
        assert_eq!(forged, Err(TicketError::Altered));
    }
}
