//! The bytes of HTTP/1.1 on the side of the server.
//!
//! The crate turns what an HTTP client sends into checked values, and answers into bytes. It is
//! pure: it never opens a file or a socket and never reads a clock. A time is a parameter.
//!
//! Every parser is total: any input gives a value or an error that names its status. A parser
//! allocates little more memory than the client has sent.
//!
//! Sources: RFC 9110 (semantics), 9112 (HTTP/1.1), 3986 (URIs), 6266 and 8187 (file names), 6265
//! (cookies), 7239 (proxies), 7617 (Basic), 9530 and 3230 (digests). Each item cites its section.

pub mod accept;
pub mod auth;
mod authority;
mod body_length;
pub mod byteranges;
mod chunked;
pub mod conditions;
pub mod content_type;
pub mod cookie;
pub mod date;
pub mod digest;
pub mod disposition;
mod entity_tag;
pub mod escape;
mod form;
pub mod forwarded;
mod head;
mod headers;
pub mod limits;
mod method;
pub mod range;
mod request_error;
mod response;
mod status;
mod target;

pub use body_length::BodyLength;
pub use chunked::{ChunkedDecoder, ChunkedEncoder, ChunkedProgress};
pub use conditions::Preconditions;
pub use entity_tag::EntityTag;
pub use form::Form;
pub use head::{RequestHead, Version};
pub use headers::Headers;
pub use method::Method;
pub use request_error::RequestError;
pub use response::{InvalidHeader, Response};
pub use status::Status;
pub use target::Target;
