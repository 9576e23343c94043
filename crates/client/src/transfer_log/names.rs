//! The names that the client uses for itself in a local folder.

use relais_proto::TreePath;

use crate::origin::Origin;

/// The log's own name.
pub(super) const LOG: &str = ".log";
/// The name under which a new `.log` is written. One is enough: the lock is held meanwhile.
pub(super) const LOG_TEMPORARY: &str = ".relais-log.new";
const PART_START: &str = ".relais-";
const PART_END: &str = ".part";
const LOCK_END: &str = ".lock";

/// The name of the part file for the file `local`, in the same folder. It is made of a hash,
/// so it is never too long, and the same in every run.
#[must_use]
pub fn part_name(local: &str) -> String {
    format!("{PART_START}{}{PART_END}", short_hash(local.as_bytes()))
}

/// The name of the file whose lock is held while `local` is sent to `remote` of a cluster, in the
/// folder of the `.log`. The file stays empty.
#[must_use]
pub fn lock_name(remote: &TreePath, local: &str, origin: &Origin) -> String {
    // No name holds a NUL, so no two uploads have the same text.
    let upload = format!("{}\0{}\0{local}", origin.hash(), remote.as_str());
    format!("{PART_START}{}{LOCK_END}", short_hash(upload.as_bytes()))
}

/// The first 16 hexadecimal digits of the BLAKE3 of `bytes`.
pub(super) fn short_hash(bytes: &[u8]) -> String {
    let mut hex = blake3::hash(bytes).to_hex().to_string();
    hex.truncate(16);
    hex
}

/// Whether a name is that of a part file.
#[must_use]
pub fn is_part(name: &str) -> bool {
    name.strip_prefix(PART_START)
        .and_then(|rest| rest.strip_suffix(PART_END))
        .is_some_and(|hash| hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Whether a name is one that the client uses itself, in any spelling that a case-folding
/// file system takes for the same. Nothing that is fetched may have it.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name == LOG
        || name == LOG_TEMPORARY
        || (name.starts_with(PART_START) && (name.ends_with(PART_END) || name.ends_with(LOCK_END)))
}
