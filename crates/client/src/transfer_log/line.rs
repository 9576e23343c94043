//! The format of one line of the `.log`.
//!
//! `2 ENTRY CHECK`, one space between the fields. ENTRY is the JSON of a [`TransferEntry`]. A
//! serializer writes control characters in names as escapes, so an entry is one line.
//!
//! The check is the start of the BLAKE3 hash of all that precedes it, including the last space.
//! Every other format has another number in front and ends with the same check. This version
//! therefore recognises complete lines of other versions, and keeps them.

use relais_net::Host;
use relais_proto::limits;

use super::entry::{DownloadRecord, TransferEntry, TransferTask, UploadRecord};
use super::names::short_hash;
use crate::origin::host_key;

/// Longest line in bytes: a local name of 4,095 bytes, each escaped as `\u0001`, a remote name, and
/// 256 ranges.
pub const MAX_LINE: usize = 64 * 1024;
/// Longest local name in bytes: `PATH_MAX` without its NUL.
const MAX_LOCAL_NAME: usize = 4095;
/// Number of the line format, with the space that follows it.
const TAG: &str = "2 ";

/// Formats an entry as a line without the newline.
pub fn format(entry: &TransferEntry) -> String {
    // Serialising cannot fail: all keys are strings.
    let front = format!("{TAG}{} ", serde_json::to_string(entry).unwrap_or_default());
    let check = short_hash(front.as_bytes());
    front + &check
}

/// Parses a line without the newline; accepts only the spelling of [`format`].
///
/// Returns none for a line of another version.
///
/// # Errors
/// Why the line is ignored.
pub fn parse(line: &[u8]) -> Result<Option<TransferEntry>, String> {
    if line.len() > MAX_LINE {
        return Err("it is too long".to_owned());
    }
    let line = std::str::from_utf8(line).map_err(|_| "it is not UTF-8")?;
    let (front, check) = line.rsplit_once(' ').unwrap_or_default();
    if short_hash(format!("{front} ").as_bytes()) != check {
        return Err("its checksum does not fit".to_owned());
    }
    let Some(text) = front.strip_prefix(TAG) else { return Ok(None) };
    let entry = serde_json::from_str(text).map_err(|e| format!("it cannot be read: {e}"))?;
    if let Some(field) = invalid_field(&entry) {
        return Err(format!("its {field} cannot be read"));
    }
    match serde_json::to_string(&entry) {
        Ok(again) if again == text => Ok(Some(entry)),
        _ => Err("its spelling is unusual".to_owned()),
    }
}

/// Returns an invalid field, as far as the types of the fields do not exclude it.
fn invalid_field(entry: &TransferEntry) -> Option<&'static str> {
    let TransferEntry { remote, local, origin, task, .. } = entry;
    let is_key = |host: Host| host_key(&host) == origin.host;
    if remote.is_root() && !task.is_tree() {
        Some("remote name")
    } else if local.is_empty() || local.len() > MAX_LOCAL_NAME || local.contains('\0') {
        Some("local name")
    } else if !origin.host.parse().is_ok_and(is_key) {
        Some("host")
    } else {
        match task {
            TransferTask::Get(Some(DownloadRecord(state))) if state.mtime.nanos > 999_999_999 => {
                Some("time")
            }
            TransferTask::Get(Some(DownloadRecord(state))) if state.good.end() > state.size => {
                Some("size")
            }
            TransferTask::Put(UploadRecord { size, sent, .. })
                if *size > limits::FILE_SIZE || sent > size =>
            {
                Some("size")
            }
            _ => None,
        }
    }
}
