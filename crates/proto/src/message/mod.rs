//! Messages between a client and a server.

mod page;
mod parts;
mod reply;
mod request;

pub use page::{EntriesPage, PageBuilder};
pub use parts::{
    Capabilities, ContentHeader, Endpoint, EntryResult, EventKind, GetRequest, Hello, IfMatch,
    Login, PathEvent, PutRequest, Role, ServerRole, WaitReason,
};
pub use reply::Reply;
pub use request::Request;

use crate::codec::check_cap;
use crate::{WireError, limits};

/// Checks that the pieces end within the longest content.
///
/// The number of a piece times its size is then at most the highest file offset.
fn check_pieces(first: u64, count: u64) -> Result<(), WireError> {
    check_cap("piece number", first.saturating_add(count), limits::PIECES)
}
