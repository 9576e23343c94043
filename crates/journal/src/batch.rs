//! The rules for a batch: the order of its numbers, its size and its encoding. No input or output.

use relais_proto::{Decoder, Encoder, LogEntry, Lsn, Wire};

use crate::error::JournalError;
use crate::format::{BATCH_BYTES, BATCH_CHANGES};

/// Whether `next` may follow `last` directly.
///
/// The number rises by one within an epoch. A higher epoch may begin at any number but 0.
pub(crate) fn follows(last: Lsn, next: Lsn) -> bool {
    if next.epoch == last.epoch {
        last.number.checked_add(1) == Some(next.number)
    } else {
        next.epoch > last.epoch && next.number > 0
    }
}

/// Checks that a batch may follow `after`, and appends its encoding to `buffer`.
pub(crate) fn encode(
    after: Lsn,
    batch: &[LogEntry],
    buffer: &mut Vec<u8>,
) -> Result<(), JournalError> {
    let too_large = || JournalError::TooLarge { changes: batch.len() };
    if batch.len() > BATCH_CHANGES {
        return Err(too_large());
    }
    let (mut after, start) = (after, buffer.len());
    for entry in batch {
        let found = entry.version;
        if !follows(after, found) {
            return Err(JournalError::Order { after, found });
        }
        after = found;
        // An entry that does not decode would make the whole journal unreadable.
        let at = buffer.len();
        entry.encode(&mut Encoder::new(buffer));
        let mut from = Decoder::new(&buffer[at..]);
        if !LogEntry::decode(&mut from).is_ok_and(|read| read == *entry) || !from.is_empty() {
            return Err(JournalError::Unreadable(found));
        }
        if buffer.len() - start > BATCH_BYTES {
            return Err(too_large());
        }
    }
    Ok(())
}
