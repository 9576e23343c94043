//! The `.log`: what is unfinished in a local folder, so that a later run can carry it on.
//!
//! One text line for each transfer. The file is read as if an enemy had written it: what is not
//! exactly a line of ours is reported and left out. It is written whole to a temporary name and
//! renamed, under a lock on the folder, and removed when nothing is left. It opens files through a
//! pinned folder alone, never follows a link, and decides nothing about what is carried on.

mod file;
mod line;
mod names;
#[cfg(test)]
mod tests;

use relais_proto::{ClusterId, TreePath};
use relais_transfer::fetch::Resume;
use relais_tree::TreeError;
use thiserror::Error;

pub use file::Log;
pub use line::LineError;
pub use names::{is_ours, part_name};

/// A transfer that is not finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The remote file.
    pub remote: TreePath,
    /// The local name: relative to the folder that the `.log` lies in, or absolute.
    pub local: String,
    /// Whose content it is.
    pub cluster: ClusterId,
    /// What is in the part file; none before a server has sent anything.
    pub state: Option<Resume>,
}

/// A line that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// Its number in the file, from 1.
    pub number: usize,
    /// What is wrong with it.
    pub why: LineError,
}

/// What was read from a `.log`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contents {
    /// The good lines, in order.
    pub entries: Vec<Entry>,
    /// The others.
    pub bad: Vec<BadLine>,
}

/// Why the `.log` could not be used. A transfer can go on without it, and cannot be carried on later.
#[derive(Debug, Error)]
pub enum LogError {
    /// Something else has the name: a link, a folder, a device. It is left alone.
    #[error("something that is not a file of its own has the name .log: {0}")]
    NotAFile(TreeError),
    /// Another process keeps the lock on the folder.
    #[error("another program keeps the folder locked")]
    Locked,
    /// There are more unfinished transfers than the file may hold.
    #[error("there are too many unfinished transfers")]
    Full,
    /// The system refused.
    #[error("{0}")]
    Folder(TreeError),
}
