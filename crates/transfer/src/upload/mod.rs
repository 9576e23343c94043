//! Uploads one file: resumable, with failover, and applied at most once.
//!
//! [`put`] asks each server how much it has, sends the rest, and returns only after a server has
//! stored the whole. After a connection failure it continues elsewhere under the same id. So it can
//! repeat a request whose answer was lost, and the change is applied once. [`put_stream`] does the
//! same for content of unknown length, as far as possible.
//!
//! The module never opens a file or a connection. It never ends an upload with the digest of bytes
//! that changed while they were read.

mod body;
mod content;
mod digest;
mod outgoing;
mod retry_loop;
mod send;
mod stream;
#[cfg(test)]
mod tests;

pub use content::{CompletedUpload, UploadSource, UploadTarget};
pub use retry_loop::put;
pub use stream::put_stream;
