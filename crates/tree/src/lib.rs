//! Access to one pinned folder, and content digests. No other code changes files in the folder.
//!
//! A [`Folder`] holds a descriptor and resolves every name from it. It follows no link, crosses no
//! mount point and reaches nothing outside the folder, even during concurrent renames.
//!
//! Slave workers, the replicator and the client use this crate. It knows no protocol messages
//! except the types of names and digests, and it never prints.

mod error;
mod folder;
mod hash;
mod list;
mod local;
mod meta;
mod pieces;
mod replace;
mod resolve;
#[cfg(test)]
mod tests;

pub use error::{TreeError, UnservedKind};
pub use folder::{EntryInfo, Folder, OpenFile};
pub use hash::{hash_file, piece_values};
pub use list::FolderEntry;
pub use local::{complete_file, set_mode, set_times, umask};
pub use meta::{Meta, MetaKind};
pub use pieces::{PieceHasher, join, piece_count, piece_value};
pub use replace::FORMER;
