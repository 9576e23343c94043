//! Content of another slave as a stream of verified pieces.
//!
//! Native clients are redirected to a slave that has the content. For other clients the worker
//! reads it from there and passes it on. A piece reaches the front end only after it was compared
//! with a value that the digest of the catalogue proves, so neither a damaged disk nor a slave that
//! lies changes a byte. After a failure the stream continues with another slave at the same piece.
//!
//! A stream runs in the thread of its session. It holds one piece, and 32 bytes for each MiB of the
//! content.

mod client_watch;
mod dialer;
mod holders;
mod piece_reader;
mod pieces;
mod proved_values;
mod source;
mod stream;
#[cfg(test)]
mod tests;
mod wanted;
mod window;

pub use dialer::ReplicaDialer;
pub use source::ContentSource;
pub use stream::ReplicaStream;
