//! Passwords and their hashes.

use std::fmt;

use argon2::password_hash::phc;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use relais_proto::limits;
use thiserror::Error;

use super::{Account, Accounts};

/// Memory for one hash, in KiB, passes over it and lanes: the second of the choices of RFC 9106 is more than a busy server can spare;
/// these are the ones that OWASP's cheat sheet on password storage names first.
const COST: (u32, u32, u32) = (19 * 1024, 2, 1);
/// The highest of these that a file may ask for.
const MOST: (u32, u32, u32) = (1024 * 1024, 64, 16);
/// Bytes of a hash.
const LENGTH: usize = 32;

/// Why there is no hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HashError {
    /// It is no hash that was made here.
    #[error("the password's hash is not of Argon2id, or is damaged")]
    Bad,
    /// It would take too long or too much memory to compare with.
    #[error("the password's hash asks for too much memory or time")]
    Costly,
    /// A password must have some byte.
    #[error("the password is empty")]
    Empty,
    /// More than anybody types.
    #[error("the password has more than {} bytes", limits::PASSWORD)]
    TooLong,
    /// The system has no random numbers or not enough memory.
    #[error("the password cannot be hashed now")]
    Failed,
}

/// The Argon2id hash of a password, with its salt and what it cost.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(..)")
    }
}

impl PasswordHash {
    /// Hashes a new password with a salt of its own.
    ///
    /// # Errors
    /// [`HashError::Empty`], [`HashError::TooLong`], [`HashError::Failed`].
    pub fn of(password: &[u8]) -> Result<Self, HashError> {
        if password.is_empty() {
            return Err(HashError::Empty);
        }
        Self::with(password, COST)
    }

    fn with(password: &[u8], (memory, passes, lanes): (u32, u32, u32)) -> Result<Self, HashError> {
        if password.len() > limits::PASSWORD {
            return Err(HashError::TooLong);
        }
        let params =
            Params::new(memory, passes, lanes, Some(LENGTH)).map_err(|_| HashError::Failed)?;
        let salt: [u8; 16] = crate::random().map_err(|_| HashError::Failed)?;
        let mut output = [0; LENGTH];
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
        argon2.hash_password_into(password, &salt, &mut output).map_err(|_| HashError::Failed)?;
        let hash = phc::PasswordHash {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::V0x13.into()),
            params: phc::ParamsString::try_from(&params).map_err(|_| HashError::Failed)?,
            salt: Some(phc::Salt::new(&salt).map_err(|_| HashError::Failed)?),
            hash: Some(phc::Output::new(&output).map_err(|_| HashError::Failed)?),
        };
        Ok(Self(hash.to_string()))
    }

    /// Takes a hash as it stands in a file.
    ///
    /// # Errors
    /// [`HashError::Bad`], [`HashError::Costly`].
    pub fn parse(text: &str) -> Result<Self, HashError> {
        let hash = phc::PasswordHash::new(text).map_err(|_| HashError::Bad)?;
        let has_all =
            hash.salt.is_some() && hash.hash.is_some_and(|hash| hash.as_ref().len() >= 16);
        if hash.algorithm != Algorithm::Argon2id.ident()
            || hash.version != Some(Version::V0x13.into())
            || !has_all
        {
            return Err(HashError::Bad);
        }
        let params = Params::try_from(&hash).map_err(|_| HashError::Bad)?;
        if params.m_cost() > MOST.0 || params.t_cost() > MOST.1 || params.p_cost() > MOST.2 {
            return Err(HashError::Costly);
        }
        Ok(Self(text.to_owned()))
    }

    /// As text, as it stands in the file.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    fn is_of(&self, password: &[u8], scratch: &mut Scratch) -> bool {
        let Ok(hash) = phc::PasswordHash::new(&self.0) else { return false };
        let (Ok(params), Some(salt), Some(expected)) =
            (Params::try_from(&hash), hash.salt, hash.hash)
        else {
            return false;
        };
        let blocks = params.block_count();
        scratch.0.resize(blocks.max(scratch.0.len()), Block::default());
        let mut output = vec![0; expected.as_ref().len()];
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let computed = argon2.hash_password_into_with_memory(
            password,
            salt.as_ref(),
            &mut output,
            &mut scratch.0[..blocks],
        );
        // Compared in constant time.
        computed.is_ok() && phc::Output::new(&output).is_ok_and(|output| output == expected)
    }
}

/// Memory that hashes are computed in, kept from one to the next: an allocator that is given so much back and asked again for it may
/// need ever more.
#[derive(Default)]
pub(super) struct Scratch(Vec<Block>);

/// Compares passwords, and takes as long for users that do not exist.
#[derive(Debug)]
pub(super) struct Checker {
    /// What a password is compared with where there is no user.
    nobody: PasswordHash,
}

impl Checker {
    /// Makes up a password that nobody has.
    ///
    /// # Errors
    /// [`HashError::Failed`].
    pub fn new() -> Result<Self, HashError> {
        let password: [u8; 32] = crate::random().map_err(|_| HashError::Failed)?;
        Ok(Self { nobody: PasswordHash::of(&password)? })
    }

    /// The account of a user with this password. Takes as long whether there is one or not; one that is too long is refused at once.
    #[must_use]
    pub fn check<'a>(
        &self,
        accounts: &'a Accounts,
        user: &str,
        password: &[u8],
        scratch: &mut Scratch,
    ) -> Option<&'a Account> {
        if password.len() > limits::PASSWORD {
            return None;
        }
        let account = accounts.get(user);
        let fits = account.map_or(&self.nobody, |account| &account.hash).is_of(password, scratch);
        account.filter(|_| fits)
    }
}

/// A hash that costs little, of the password `secret`.
#[cfg(test)]
pub(super) fn of_tests() -> PasswordHash {
    static ONCE: std::sync::OnceLock<PasswordHash> = std::sync::OnceLock::new();
    ONCE.get_or_init(|| PasswordHash::with(b"secret", (8, 1, 1)).unwrap()).clone()
}

#[cfg(test)]
mod tests {
    use relais_proto::TreePath;

    use super::*;
    use crate::Rights;

    fn is_of(hash: &PasswordHash, password: &[u8]) -> bool {
        // What was computed before must not matter.
        let mut scratch = Scratch::default();
        of_tests().is_of(b"another one", &mut scratch);
        hash.is_of(password, &mut scratch) && hash.is_of(password, &mut scratch)
    }

    #[test]
    fn a_password_is_known_again_and_no_other() {
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
    fn other_hashes_are_refused() {
        let good = of_tests().as_str().to_owned();
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

    #[test]
    fn only_the_right_password_of_an_existing_user_opens() {
        let mut accounts = Accounts::new();
        accounts
            .add("ann", Account { rights: Rights::Read, root: TreePath::root(), hash: of_tests() })
            .unwrap();
        let (checker, mut scratch) = (Checker { nobody: of_tests() }, Scratch::default());
        assert!(checker.check(&accounts, "ann", b"secret", &mut scratch).is_some());
        assert!(
            checker.check(&accounts, "ann", b"Secret", &mut scratch).is_none()
                && checker.check(&accounts, "ann", b"", &mut scratch).is_none()
        );
        // Also where the password happens to be the one that stands in for those who are not there.
        assert!(
            checker.check(&accounts, "bob", b"secret", &mut scratch).is_none()
                && checker.check(&accounts, "", b"secret", &mut scratch).is_none()
        );
        assert!(
            checker.check(&accounts, "ann", &[b'x'; limits::PASSWORD + 1], &mut scratch).is_none()
        );
    }
}
