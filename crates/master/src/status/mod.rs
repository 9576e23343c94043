//! The output of `ftpmaster status`: the report of a master as a table and as JSON.

mod json;
mod report;
mod rows;
mod table;

pub use json::json;
pub(crate) use json::{SlaveJson, StatusJson};
pub use report::Report;
pub(crate) use report::lag;
pub(crate) use rows::{NO_SERVICE, SlaveRow, headlines, remarks, unknown};
pub use table::table;
