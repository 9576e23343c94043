//! One pinned folder: the only code that opens, renames or removes a file in it; digests.
//!
//! A [`Folder`] holds a descriptor, and every name is resolved from that descriptor: no link is
//! followed, no mount point is crossed, and nothing outside the folder is ever reached, whatever
//! is renamed meanwhile. Slave workers, the replicator and the client use it. It knows no protocol
//! message but the values of names and digests, and it never prints.

mod error;
mod folder;
mod hash;
mod list;
mod local;
mod meta;
mod over;
mod pieces;
mod remove;
mod replace;
mod resolve;
#[cfg(test)]
mod tests;

pub use error::{TreeError, UnservedKind};
pub use folder::{EntryInfo, Folder, OpenFile};
pub use hash::{hash_file, piece_values};
pub use list::{FolderEntries, FolderEntry};
pub use local::{set_mode, set_times, umask};
pub use meta::{Meta, MetaKind};
pub use pieces::{PieceHasher, join, piece_count, piece_value};
pub use replace::FORMER;
