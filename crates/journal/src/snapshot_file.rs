//! Reads and writes the snapshot file.
//!
//! The file has: magic (8 bytes), format (4), cluster id (16), time of creation (8, milliseconds
//! since 1970), length of the payload (8), a BLAKE3 hash over all of that and the payload (32),
//! payload. It is replaced atomically. The caller defines the payload.

use std::io;
use std::path::Path;

use relais_os::{display_path, write_parts_atomically};
use relais_proto::{ClusterId, Decoder, Encoder, WireError};

use crate::error::JournalError;
use crate::format::FORMAT;
use crate::journal::Snapshot;

const MAGIC: [u8; 8] = *b"\xffrelsnap";
/// Bytes before the payload.
const HEADER: usize = 76;
const SUM: usize = 32;

/// Replaces the snapshot at `path`; on disk when this returns.
pub(super) fn save(path: &Path, id: [u8; 16], snapshot: &Snapshot) -> Result<(), JournalError> {
    let Snapshot { made_ms, payload } = snapshot;
    let mut head = Vec::with_capacity(HEADER);
    Encoder::new(&mut head)
        .bytes(&MAGIC)
        .u32(FORMAT)
        .bytes(&id)
        .u64(*made_ms)
        .u64(payload.len() as u64);
    let sum = sum(&head, payload);
    head.extend_from_slice(&sum);
    write_parts_atomically(path, &[&head, payload]).map_err(|cause| JournalError::io(path, cause))
}

/// Reads the snapshot at `path`; none if there is no file.
pub(super) fn load(path: &Path, id: [u8; 16]) -> Result<Option<Snapshot>, JournalError> {
    match std::fs::read(path) {
        Ok(bytes) => parse(bytes, path, id).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(JournalError::io(path, error)),
    }
}

fn parse(mut bytes: Vec<u8>, path: &Path, wanted: [u8; 16]) -> Result<Snapshot, JournalError> {
    let damaged = |offset: usize, why: &str| JournalError::damaged(path, offset as u64, why);
    let short = || damaged(0, "its header is not whole");
    let (head, payload) = bytes.split_at_checked(HEADER).ok_or_else(short)?;
    let fields = || {
        let mut from = Decoder::new(head);
        Ok((from.array()?, from.u32()?, from.array()?, from.u64()?, from.u64()?))
    };
    let (magic, format, id, made_ms, len) = fields().map_err(|_: WireError| short())?;
    if magic != MAGIC {
        return Err(damaged(0, "it does not begin as a snapshot"));
    }
    if format != FORMAT {
        return Err(JournalError::Format { path: display_path(path), found: format });
    }
    if len != payload.len() as u64 {
        let why = format!("{len} bytes should follow and {} do", payload.len());
        return Err(damaged(HEADER, &why));
    }
    if sum(&head[..HEADER - SUM], payload) != head[HEADER - SUM..] {
        return Err(damaged(0, "its sum is wrong"));
    }
    if id != wanted {
        return Err(JournalError::Foreign {
            path: display_path(path),
            found: ClusterId(id),
            wanted: ClusterId(wanted),
        });
    }
    // A snapshot can be large: it is not copied.
    bytes.drain(..HEADER);
    Ok(Snapshot { made_ms, payload: bytes })
}

fn sum(head: &[u8], payload: &[u8]) -> [u8; SUM] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(head).update(payload);
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: [u8; 16] = [7; 16];

    #[test]
    fn saved_snapshots_load_to_the_same() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("snapshot");
        assert_eq!(load(&path, ID).unwrap(), None);
        for payload in [&b"one"[..], b"", &[5; 100_000]] {
            let snapshot = Snapshot { made_ms: 9, payload: payload.to_vec() };
            save(&path, ID, &snapshot).unwrap();
            assert_eq!(load(&path, ID).unwrap(), Some(snapshot));
        }
        assert!(matches!(load(&path, [8; 16]), Err(JournalError::Foreign { .. })));
    }

    #[test]
    fn any_changed_byte_and_any_cut_is_detected() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("snapshot");
        save(&path, ID, &Snapshot { made_ms: 9, payload: b"payload".to_vec() }).unwrap();
        let good = std::fs::read(&path).unwrap();
        assert_eq!(good.len(), HEADER + 7);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            let error = load(&path, ID).unwrap_err();
            assert!(
                matches!(error, JournalError::Damaged { .. } | JournalError::Format { .. }),
                "byte {at}: {error}"
            );
            std::fs::write(&path, &good[..at]).unwrap();
            assert!(matches!(load(&path, ID), Err(JournalError::Damaged { .. })), "cut at {at}");
        }
        std::fs::write(&path, [&good[..], b"x"].concat()).unwrap();
        let error = load(&path, ID).unwrap_err().to_string();
        assert!(
            error.contains("snapshot is damaged at byte 76: 7 bytes should follow and 8 do"),
            "{error}"
        );
    }
}
