//! The cluster key: 32 random bytes that all servers of a cluster share.
//!
//! Only this module reads and creates the key file. There is no default key: a file that is empty,
//! short or accessible to other users is an error.

use std::fmt;
use std::path::Path;

use relais_proto::{ClusterId, SlaveId};

use crate::secret_file::{SecretFile, SecretFileError};

/// The role of the side that proves the key.
///
/// The role is part of the proof, so a proof that is sent back to its sender is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ProofRole {
    /// The master.
    Master = 0,
    /// A slave.
    Slave = 1,
    /// An operator's command.
    Operator = 2,
    /// A slave that serves content to another slave.
    Holder = 3,
    /// A slave that fetches content from another slave.
    Taker = 4,
}

/// The facts that a link proof covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProofContext {
    /// The id of the connecting side.
    pub id: SlaveId,
    pub cluster: ClusterId,
    /// The nonce of the connecting side.
    pub theirs: [u8; 32],
    /// The nonce of the listening side.
    pub ours: [u8; 32],
    /// The channel binding; none without TLS. A man in the middle has two channels.
    pub binding: Option<[u8; 32]>,
}

/// The secret that all servers of a cluster share.
#[derive(Clone)]
pub struct ClusterKey([u8; 32]);

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterKey(..)")
    }
}

impl ClusterKey {
    /// Reads the key; none if there is no file.
    ///
    /// # Errors
    /// The file is unsafe, malformed or unreadable.
    pub fn load(path: &Path) -> Result<Option<Self>, SecretFileError> {
        let file = key_file(path);
        file.read()?.map(|(text, _)| Self::parse(&text, &file)).transpose()
    }

    /// Reads the key, or creates it with mode 0600 if there is no file.
    ///
    /// Two processes that do this at the same time get the same key.
    ///
    /// # Errors
    /// The file is unsafe, malformed or unreadable, or could not be created.
    pub fn load_or_create(path: &Path) -> Result<Self, SecretFileError> {
        let file = key_file(path);
        let text = file.read_or_create(|| {
            let key = relais_os::random::<32>().map_err(|cause| file.io(cause))?;
            Ok(format!("{}\n", blake3::Hash::from_bytes(key).to_hex()))
        })?;
        Self::parse(&text, &file)
    }

    fn parse(text: &str, file: &SecretFile) -> Result<Self, SecretFileError> {
        let digits = text.trim_ascii_end();
        if digits.is_empty() {
            return Err(file.malformed("is empty"));
        }
        if digits.len() != 64 {
            return Err(file.malformed("does not hold exactly 64 hexadecimal digits"));
        }
        blake3::Hash::from_hex(digits)
            .map(|key| Self(key.into()))
            .map_err(|_| file.malformed("has characters that are no hexadecimal digits"))
    }

    /// Makes the key from bytes that another process of the same server has read and passed on.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes of the key, for [`Self::from_bytes`] in another process of the same server.
    #[must_use]
    pub fn secret_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The id of the cluster, derived from the key without disclosing it.
    #[must_use]
    pub fn cluster_id(&self) -> ClusterId {
        let mut id = [0; 16];
        id.copy_from_slice(&blake3::keyed_hash(&self.0, b"relais cluster id").as_bytes()[..16]);
        ClusterId(id)
    }

    /// Computes the proof that `role` has the key, on the link with these facts.
    ///
    /// A comparison of the result with another proof takes constant time.
    #[must_use]
    pub(crate) fn link_proof(&self, role: ProofRole, facts: &ProofContext) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher
            .update(b"relais link 1")
            .update(&[role as u8])
            .update(&facts.id.0)
            .update(&facts.cluster.0);
        hasher.update(&facts.theirs).update(&facts.ours);
        // The optional field is last, so that the hashed bytes are unambiguous.
        hasher.update(facts.binding.as_ref().map_or(&[], |binding| binding));
        hasher.finalize()
    }

    /// Derives a key for one purpose, so that its tags are invalid for any other.
    pub(crate) fn sub_key(&self, purpose: &str) -> [u8; 32] {
        blake3::derive_key(purpose, &self.0)
    }
}

fn key_file(path: &Path) -> SecretFile {
    SecretFile { what: "cluster key file", path: path.to_owned(), cap: 1024 }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::PathBuf;

    use super::*;
    use crate::SecretFileFault;

    fn file(content: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("cluster.key");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (temp, path)
    }

    #[test]
    fn is_made_once_and_then_kept() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("cluster.key");
        assert!(ClusterKey::load(&path).unwrap().is_none());
        let made = ClusterKey::load_or_create(&path).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o600);
        assert_eq!(fs::read(&path).unwrap().len(), 65);
        assert_eq!(ClusterKey::load_or_create(&path).unwrap().0, made.0);
        assert_eq!(ClusterKey::load(&path).unwrap().unwrap().cluster_id(), made.cluster_id());
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1, "the temporary file is left");
        let other = ClusterKey::load_or_create(&temp.path().join("other")).unwrap();
        assert_ne!(other.0, made.0);
        assert_eq!(format!("{made:?}"), "ClusterKey(..)");
    }

    #[test]
    fn racers_agree() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("cluster.key");
        let keys: Vec<_> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..16)
                .map(|_| scope.spawn(|| ClusterKey::load_or_create(&path).unwrap().0))
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
    }

    #[test]
    fn bad_files_are_refused_by_name_and_never_replaced() {
        let good = "0123456789abcdef".repeat(4);
        for (content, expected) in [
            (String::new(), "is empty"),
            ("\n".to_owned(), "is empty"),
            (good[..63].to_owned(), "64 hexadecimal"),
            (format!("{good}0"), "64 hexadecimal"),
            (format!("{good}\n{good}\n"), "64 hexadecimal"),
            (good.replace('a', "g"), "no hexadecimal digit"),
            (good.replace('a', "+"), "no hexadecimal digit"),
        ] {
            let (_temp, path) = file(content.as_bytes(), 0o600);
            let error = ClusterKey::load(&path).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("cluster.key"), "{error}");
            assert!(ClusterKey::load_or_create(&path).is_err());
            assert_eq!(fs::read(&path).unwrap(), content.as_bytes());
        }
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let good = "0123456789abcdef".repeat(4) + "\n";
        for mode in [0o644, 0o640, 0o604, 0o620, 0o660] {
            let (_temp, path) = file(good.as_bytes(), mode);
            assert!(matches!(
                ClusterKey::load(&path),
                Err(SecretFileError { fault: SecretFileFault::Exposed(found), .. }) if found == mode
            ));
        }
        for mode in [0o600, 0o400] {
            let (_temp, path) = file(good.as_bytes(), mode);
            assert!(ClusterKey::load(&path).unwrap().is_some());
        }
    }

    #[test]
    fn folders_and_pipes_are_refused_at_once() {
        let temp = tempfile::tempdir().unwrap();
        let fault = |path| ClusterKey::load_or_create(path).unwrap_err().fault;
        assert!(matches!(fault(temp.path()), SecretFileFault::NotRegular));
        let pipe = temp.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        assert!(matches!(fault(&pipe), SecretFileFault::NotRegular));
        assert!(matches!(fault(&temp.path().join("no/folder")), SecretFileFault::Io(_)));
    }

    #[test]
    fn every_part_counts_in_a_proof() {
        let key = ClusterKey([1; 32]);
        let facts = ProofContext {
            id: SlaveId([2; 16]),
            cluster: key.cluster_id(),
            theirs: [3; 32],
            ours: [4; 32],
            binding: None,
        };
        let verify = |key: &ClusterKey, proof: &[u8; 32], role, facts: &ProofContext| {
            key.link_proof(role, facts) == *proof
        };
        let proof = key.link_proof(ProofRole::Slave, &facts).into();
        assert!(verify(&key, &proof, ProofRole::Slave, &facts));
        assert!(!verify(&ClusterKey([9; 32]), &proof, ProofRole::Slave, &facts));
        for other in [ProofRole::Master, ProofRole::Operator, ProofRole::Holder, ProofRole::Taker] {
            assert!(!verify(&key, &proof, other, &facts));
        }
        for other in [
            ProofContext { id: SlaveId([9; 16]), ..facts.clone() },
            ProofContext { cluster: ClusterId([9; 16]), ..facts.clone() },
            ProofContext { theirs: [9; 32], ..facts.clone() },
            ProofContext { theirs: [4; 32], ours: [3; 32], ..facts.clone() },
            ProofContext { binding: Some([0; 32]), ..facts.clone() },
        ] {
            assert!(!verify(&key, &proof, ProofRole::Slave, &other), "{other:?}");
        }
        let bound = ProofContext { binding: Some([5; 32]), ..facts.clone() };
        let proof = key.link_proof(ProofRole::Slave, &bound).into();
        assert!(
            verify(&key, &proof, ProofRole::Slave, &bound)
                && !verify(&key, &proof, ProofRole::Slave, &facts)
        );
        assert!(!verify(
            &key,
            &proof,
            ProofRole::Slave,
            &ProofContext { binding: Some([6; 32]), ..facts.clone() }
        ));
        assert!(!verify(&key, &[0; 32], ProofRole::Slave, &facts));
    }
}
