//! Downloads one file into a part file: resumable, verified and with failover.
//!
//! [`download`] requests the missing bytes and returns only after the whole content matches its
//! digest. After a connection failure it resumes at the next byte with another server. It fetches
//! damaged pieces again. The client calls it, and so does a slave that fetches content from another
//! slave.
//!
//! [`stream`] passes the content on instead of storing it.
//!
//! It never opens, renames or removes a file. It allocates no memory or disk space for bytes that
//! have not arrived, because a server's announcement is only a claim.

mod blocks;
mod content;
mod hashing;
mod intake;
mod ordered;
mod requests;
mod retry_loop;
mod state;
mod stream;
mod streams;
mod striping;
#[cfg(test)]
mod tests;
mod verify;

pub use blocks::piece_range;
pub use content::CompletedDownload;
pub use requests::ask_for_pieces;
pub use retry_loop::download;
pub use stream::{CompletedStream, Sink, stream};
