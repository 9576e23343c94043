//! Passwords and their hashes.

use std::fmt;

use argon2::password_hash::{PasswordHasher, phc};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use relais_proto::limits;
use thiserror::Error;

/// Cost of one hash: memory in KiB, passes and lanes.
///
/// These are the first values in OWASP's cheat sheet on password storage. The second recommended
/// option of RFC 9106 needs more memory than a busy server can spare.
const COST: (u32, u32, u32) = (19 * 1024, 2, 1);
/// Cap on the cost of a hash in the accounts file, in the same units.
const MAX_COST: (u32, u32, u32) = (1024 * 1024, 64, 16);
/// Length of a hash in bytes.
const LENGTH: usize = 32;

/// The reason why a password or its hash cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HashError {
    /// The text is no Argon2id hash of this format.
    #[error("the password's hash is not of Argon2id, or is damaged")]
    Bad,
    /// The cost of the hash is above the cap.
    #[error("the password's hash asks for too much memory or time")]
    Costly,
    /// The password is empty.
    #[error("the password is empty")]
    Empty,
    /// The password is longer than the cap.
    #[error("the password has more than {} bytes", limits::PASSWORD)]
    TooLong,
    /// The system provides no random bytes or not enough memory.
    #[error("the password cannot be hashed now")]
    Failed,
}

/// Identifies a password hash without disclosing it; it differs after each change of a password.
///
/// The default stands for no account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PasswordId(pub [u8; 16]);

/// The context string from which password ids are derived.
const ID_PURPOSE: &str = "relais 2026-11 password id 1";

/// The Argon2id hash of a password, with its salt and cost.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(..)")
    }
}

impl PasswordHash {
    /// Hashes a new password with a random salt.
    ///
    /// # Errors
    /// [`HashError::Empty`], [`HashError::TooLong`], [`HashError::Failed`].
    pub fn of(password: &[u8]) -> Result<Self, HashError> {
        if password.is_empty() {
            return Err(HashError::Empty);
        }
        Self::with(password, COST)
    }

    pub(super) fn with(
        password: &[u8],
        (memory, passes, lanes): (u32, u32, u32),
    ) -> Result<Self, HashError> {
        if password.len() > limits::PASSWORD {
            return Err(HashError::TooLong);
        }
        let params =
            Params::new(memory, passes, lanes, Some(LENGTH)).map_err(|_| HashError::Failed)?;
        let salt: [u8; 16] = relais_os::random().map_err(|_| HashError::Failed)?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let hash: phc::PasswordHash =
            argon2.hash_password_with_salt(password, &salt).map_err(|_| HashError::Failed)?;
        Ok(Self(hash.to_string()))
    }

    /// Parses a hash from the accounts file.
    ///
    /// # Errors
    /// [`HashError::Bad`], [`HashError::Costly`].
    pub fn parse(text: &str) -> Result<Self, HashError> {
        let (params, ..) = parts(text).ok_or(HashError::Bad)?;
        if params.m_cost() > MAX_COST.0
            || params.t_cost() > MAX_COST.1
            || params.p_cost() > MAX_COST.2
        {
            return Err(HashError::Costly);
        }
        Ok(Self(text.to_owned()))
    }

    /// The text of the hash, as in the accounts file.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of the hash. Its random salt of 16 bytes makes it unpredictable.
    pub(super) fn id(&self) -> PasswordId {
        let mut id = [0; 16];
        let mut hasher = blake3::Hasher::new_derive_key(ID_PURPOSE);
        hasher.update(self.0.as_bytes()).finalize_xof().fill(&mut id);
        PasswordId(id)
    }

    /// Whether this is the hash of `password`.
    pub(super) fn is_of(&self, password: &[u8], memory: &mut HashMemory) -> bool {
        let Some((params, salt, expected)) = parts(&self.0) else { return false };
        let blocks = params.block_count();
        memory.0.resize(blocks.max(memory.0.len()), Block::default());
        let mut output = vec![0; expected.as_ref().len()];
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let computed = argon2.hash_password_into_with_memory(
            password,
            salt.as_ref(),
            &mut output,
            &mut memory.0[..blocks],
        );
        // `Output` compares in constant time.
        computed.is_ok() && phc::Output::new(&output).is_ok_and(|output| output == expected)
    }
}

/// Parses a hash of Argon2id: its cost, its salt and its value.
fn parts(text: &str) -> Option<(Params, phc::Salt, phc::Output)> {
    let hash = phc::PasswordHash::new(text).ok()?;
    let is_argon2id = hash.algorithm == Algorithm::Argon2id.ident()
        && hash.version == Some(Version::V0x13.into());
    let output = hash.hash.filter(|hash| is_argon2id && hash.as_ref().len() >= 16)?;
    Some((Params::try_from(&hash).ok()?, hash.salt?, output))
}

/// The memory for hashing, which is reused.
///
/// Repeated large allocations can fragment the heap and grow it.
#[derive(Default)]
pub(super) struct HashMemory(Vec<Block>);

#[cfg(test)]
mod tests {
    use super::super::tests::cheap_hash;
    use super::*;

    fn is_of(hash: &PasswordHash, password: &[u8]) -> bool {
        // Earlier computations in the same memory must not matter.
        let mut memory = HashMemory::default();
        cheap_hash().is_of(b"another one", &mut memory);
        hash.is_of(password, &mut memory) && hash.is_of(password, &mut memory)
    }

    #[test]
    fn a_hash_matches_its_password_only() {
        let hash = PasswordHash::of(b"correct horse").unwrap();
        assert!(hash.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.as_str());
        let read = PasswordHash::parse(hash.as_str()).unwrap();
        assert!(
            ["correct horsf", "", "correct horse\0"]
                .iter()
                .all(|wrong| !is_of(&read, wrong.as_bytes()))
                && is_of(&read, b"correct horse")
        );
        assert_ne!(hash, PasswordHash::of(b"correct horse").unwrap(), "each has its salt");
        for odd in [&b"\0"[..], b"\xff\xfe", "pässwörd".as_bytes(), &[b'x'; limits::PASSWORD]] {
            assert!(is_of(&PasswordHash::with(odd, (8, 1, 1)).unwrap(), odd));
        }
        assert_eq!(PasswordHash::of(b""), Err(HashError::Empty));
        assert_eq!(PasswordHash::of(&[b'x'; limits::PASSWORD + 1]), Err(HashError::TooLong));
    }

    #[test]
    fn malformed_and_costly_hashes_are_rejected() {
        let good = cheap_hash().as_str().to_owned();
        let (head, hash) = good.rsplit_once('$').unwrap();
        for bad in [
            "",
            "secret",
            "$",
            "$argon2id$v=19$m=8,t=1,p=1",
            &good.replace("argon2id", "argon2i"),
            &good.replace("argon2id", "scrypt"),
            &good.replace("v=19", "v=16"),
            &good.replace("m=8", "m=x"),
            &good.replace("m=8", "m=0"),
            &format!("{head}$"),
            &format!("{head}${}", &hash[..10]),
            &format!("{good}!"),
            &format!("{good} "),
        ] {
            assert_eq!(PasswordHash::parse(bad), Err(HashError::Bad), "{bad}");
        }
        for costly in [("m=8", "m=2000000"), ("t=1", "t=1000"), ("m=8,t=1,p=1", "m=8000,t=1,p=100")]
        {
            assert_eq!(
                PasswordHash::parse(&good.replace(costly.0, costly.1)),
                Err(HashError::Costly),
                "{costly:?}"
            );
        }
    }
}
