//! The `.log`: the unfinished transfers of a local folder, from which a later run resumes.
//!
//! The file has one text line for each unfinished command or large file of a command. It is parsed
//! as untrusted input: a line that is not valid is reported and ignored. A line of another version
//! is reported and kept.
//!
//! Each change writes the whole file to a temporary name and renames it, under a lock on the
//! folder. The file is removed with its last line. This module opens files through a pinned folder
//! only and never follows a link. It does not decide what is resumed.

mod entry;
mod file;
mod line;
mod names;
#[cfg(test)]
mod tests;

pub use entry::{DownloadRecord, TransferEntry, TransferTask, UploadRecord};
pub use file::{LogHandle, TransferLog, read_log};
pub use names::{is_part, is_reserved, lock_name, part_name};
