//! `ftpmaster status`: gets the report of a running master and formats it.

mod ask;
mod json;
mod table;

pub(crate) use ask::talk;
pub use ask::{Report, StatusError, ask};
pub use json::json;
pub use table::table;
