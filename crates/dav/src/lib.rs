//! The bytes of WebDAV: XML bodies, conditions, locks, multistatus answers.
//!
//! The crate turns what a WebDAV client sends into checked values, and answers into bytes. It is
//! pure: it never opens a file or a socket and never reads a clock.
//!
//! Every parser is total: any input gives a value or a [`DavError`]. XML has neither document types
//! nor entities besides the five predefined ones, and caps on its size, depth and numbers
//! ([`limits`]).
//!
//! Sources: RFC 4918 (WebDAV), RFC 4331 (quota), XML 1.0 and Namespaces in XML 1.0. Each item cites
//! its section.

mod error;
mod error_body;
mod headers;
mod if_header;
pub mod limits;
mod live_property;
mod lock;
mod lock_info;
mod multistatus;
mod property_name;
mod property_update;
mod propfind;
#[cfg(test)]
mod tests;
mod timeout;
mod xml;

pub use error::{Condition, DavError};
pub use error_body::error_body;
pub use headers::{Depth, depth, lock_token, overwrite};
pub use if_header::{IfHeader, ResourceState, StateToken};
pub use live_property::LiveProperty;
pub use lock::{ActiveLock, LockDepth, LockScope, lock_discovery, lock_response, supported_lock};
pub use lock_info::LockInfo;
pub use multistatus::{Multistatus, PropertyStatus};
pub use property_name::{DAV, MICROSOFT, empty_element};
pub use property_update::{Instruction, PropertyUpdate};
pub use propfind::PropFind;
pub use timeout::timeout;
