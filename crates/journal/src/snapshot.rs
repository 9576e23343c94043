//! Snapshot files, which replace the changes that were removed from a journal.
//!
//! The file has: magic (8 bytes), format (4), cluster id (16), time of creation (8, milliseconds
//! since 1970), length of the payload (8), a BLAKE3 hash over all of that and the payload (32),
//! payload. It is replaced atomically. The caller defines the payload.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use relais_proto::{ClusterId, Decoder, Encoder};
use thiserror::Error;

use relais_os::write_atomically;

const MAGIC: [u8; 8] = *b"\xffrelsnap";
const FORMAT: u32 = 1;
/// Bytes before the payload.
const HEADER: usize = 76;
const SUM: usize = 32;

/// The reason why a snapshot cannot be used.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the names of the fields say everything")]
pub enum SnapshotError {
    /// The content is not what was written. `offset` is the start of the first damaged part.
    #[error("the snapshot {} is damaged at byte {offset}: {why}", path.display())]
    Damaged { path: PathBuf, offset: u64, why: String },
    /// The file has another format.
    #[error(
        "the snapshot {} has format {found}; this program knows format {FORMAT}",
        path.display()
    )]
    Format { path: PathBuf, found: u32 },
    /// The file belongs to another cluster.
    #[error("the snapshot {} belongs to {found}, not to {wanted}", path.display())]
    Foreign { path: PathBuf, found: ClusterId, wanted: ClusterId },
    /// A system call failed.
    #[error(
        "cannot use the snapshot {}: {}",
        path.display(), relais_proto::system_error_text(cause)
    )]
    Io { path: PathBuf, cause: io::Error },
}

/// The content of a snapshot file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Time of creation, in milliseconds since 1970.
    pub made_ms: u64,
    /// The payload.
    pub payload: Vec<u8>,
}

impl Snapshot {
    /// Replaces the snapshot at `path`; on disk when this returns.
    ///
    /// # Errors
    /// Errors of the system calls.
    pub fn save(
        path: &Path,
        cluster: ClusterId,
        made_ms: u64,
        payload: &[u8],
    ) -> Result<(), SnapshotError> {
        let mut bytes = Vec::with_capacity(HEADER + payload.len());
        Encoder::new(&mut bytes)
            .bytes(&MAGIC)
            .u32(FORMAT)
            .bytes(&cluster.0)
            .u64(made_ms)
            .u64(payload.len() as u64);
        let sum = sum(&bytes, payload);
        bytes.extend_from_slice(&sum);
        bytes.extend_from_slice(payload);
        write_atomically(path, &bytes)
            .map_err(|cause| SnapshotError::Io { path: path.to_owned(), cause })
    }

    /// Reads the snapshot at `path`; none if there is no file.
    ///
    /// # Errors
    /// The file is damaged, of another cluster or format, or a system call failed.
    pub fn load(path: &Path, cluster: ClusterId) -> Result<Option<Self>, SnapshotError> {
        let io_error = |cause| SnapshotError::Io { path: path.to_owned(), cause };
        let mut bytes = Vec::new();
        match File::open(path) {
            Ok(mut file) => file.read_to_end(&mut bytes).map_err(io_error)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error(error)),
        };
        Self::parse(bytes, path, cluster).map(Some)
    }

    fn parse(mut bytes: Vec<u8>, path: &Path, cluster: ClusterId) -> Result<Self, SnapshotError> {
        let damaged = |offset: usize, why: &str| SnapshotError::Damaged {
            path: path.to_owned(),
            offset: offset as u64,
            why: why.to_owned(),
        };
        let Some((head, payload)) = bytes.split_at_checked(HEADER) else {
            return Err(damaged(0, "its header is not whole"));
        };
        let short = |_| damaged(0, "its header is not whole");
        let mut from = Decoder::new(head);
        if from.array().map_err(short)? != MAGIC {
            return Err(damaged(0, "it does not begin as a snapshot"));
        }
        let found = from.u32().map_err(short)?;
        if found != FORMAT {
            return Err(SnapshotError::Format { path: path.to_owned(), found });
        }
        let id = ClusterId(from.array().map_err(short)?);
        let (made_ms, len) = (from.u64().map_err(short)?, from.u64().map_err(short)?);
        if len != payload.len() as u64 {
            return Err(damaged(
                HEADER,
                &format!("{len} bytes should follow and {} do", payload.len()),
            ));
        }
        let wanted: [u8; SUM] = from.array().map_err(short)?;
        if sum(&head[..HEADER - SUM], payload) != wanted {
            return Err(damaged(0, "its sum is wrong"));
        }
        if id != cluster {
            return Err(SnapshotError::Foreign {
                path: path.to_owned(),
                found: id,
                wanted: cluster,
            });
        }
        Ok(Self { made_ms, payload: bytes.split_off(HEADER) })
    }
}

fn sum(head: &[u8], payload: &[u8]) -> [u8; SUM] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(head).update(payload);
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId([7; 16]);

    #[test]
    fn saved_snapshots_load_to_the_same() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("snapshot");
        assert_eq!(Snapshot::load(&path, CLUSTER).unwrap(), None);
        for payload in [&b"one"[..], b"", &[5; 100_000]] {
            Snapshot::save(&path, CLUSTER, 9, payload).unwrap();
            assert_eq!(
                Snapshot::load(&path, CLUSTER).unwrap(),
                Some(Snapshot { made_ms: 9, payload: payload.to_vec() })
            );
        }
        assert!(matches!(
            Snapshot::load(&path, ClusterId([8; 16])),
            Err(SnapshotError::Foreign { .. })
        ));
    }

    #[test]
    fn any_changed_byte_and_any_cut_is_detected() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("snapshot");
        Snapshot::save(&path, CLUSTER, 9, b"payload").unwrap();
        let good = std::fs::read(&path).unwrap();
        assert_eq!(good.len(), HEADER + 7);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            let error = Snapshot::load(&path, CLUSTER).unwrap_err();
            assert!(
                matches!(error, SnapshotError::Damaged { .. } | SnapshotError::Format { .. }),
                "byte {at}: {error}"
            );
            std::fs::write(&path, &good[..at]).unwrap();
            assert!(
                matches!(Snapshot::load(&path, CLUSTER), Err(SnapshotError::Damaged { .. })),
                "cut at {at}"
            );
        }
        std::fs::write(&path, [&good[..], b"x"].concat()).unwrap();
        let error = Snapshot::load(&path, CLUSTER).unwrap_err().to_string();
        assert!(
            error.contains("snapshot is damaged at byte 76: 7 bytes should follow and 8 do"),
            "{error}"
        );
    }
}
