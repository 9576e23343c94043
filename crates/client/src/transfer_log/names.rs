//! The names that the client reserves in a local folder.

use relais_proto::TreePath;

use crate::origin::Origin;

/// Name of the log.
pub const LOG: &str = ".log";
/// Temporary name of a new `.log`. One name is enough, because its writer holds the lock.
pub const LOG_TEMPORARY: &str = ".relais-log.new";
const PART_START: &str = ".relais-";
const PART_END: &str = ".part";
const LOCK_END: &str = ".lock";

/// Returns the name of the part file for `local`, in the same folder.
///
/// It contains a hash, so its length is fixed and it is the same in every run.
pub fn part_name(local: &str) -> String {
    format!("{PART_START}{}{PART_END}", short_hash(local.as_bytes()))
}

/// Returns the name of the lock file for the upload of `local` to `remote`.
///
/// The file lies in the folder of the `.log` and stays empty.
pub fn lock_name(remote: &TreePath, local: &str, origin: &Origin) -> String {
    // Names contain no NUL, so two uploads never share this text.
    let upload = format!("{}\0{}\0{local}", origin.hash(), remote.as_str());
    format!("{PART_START}{}{LOCK_END}", short_hash(upload.as_bytes()))
}

/// Returns the first 16 hexadecimal digits of the BLAKE3 hash of `bytes`.
pub fn short_hash(bytes: &[u8]) -> String {
    let mut hex = blake3::hash(bytes).to_hex().to_string();
    hex.truncate(16);
    hex
}

/// Whether a name is that of a part file.
pub fn is_part(name: &str) -> bool {
    name.strip_prefix(PART_START)
        .and_then(|rest| rest.strip_suffix(PART_END))
        .is_some_and(|hash| hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Whether the client reserves this name; nothing that is fetched may have it.
///
/// The comparison ignores case, because some file systems do.
pub fn is_reserved(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name == LOG
        || name == LOG_TEMPORARY
        || (name.starts_with(PART_START) && (name.ends_with(PART_END) || name.ends_with(LOCK_END)))
}
