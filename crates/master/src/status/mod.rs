//! What `ftpmaster status` does: asks a running master, and shows what it says.

mod ask;
mod json;
mod table;

pub(crate) use ask::talk;
pub use ask::{Report, StatusError, ask};
pub use json::json;
pub use table::table;
