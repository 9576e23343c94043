//! All limits on what an HTTP client may send in a head, a chunk or a form.

/// Longest request head in bytes, with its last empty line.
pub const HEAD: usize = 16 * 1024;
/// Longest request target in bytes.
pub const TARGET: usize = 8 * 1024;
/// Highest number of header fields of a request.
pub const HEADERS: usize = 100;
/// Highest number of ranges in one request; more are ignored (RFC 9110, section 14.2).
pub const RANGES: usize = 16;
/// Longest line with the size and the extensions of a chunk, in bytes.
pub const CHUNK_LINE: usize = 256;
/// Longest trailer section after a chunked body, in bytes.
pub const TRAILERS: usize = 4096;
/// Highest number of pairs in a query or form.
pub const FORM_PAIRS: usize = 64;
/// Longest body of a form that a server takes, in bytes.
pub const FORM: usize = 16 * 1024;
/// Highest number of elements that are looked at in a list, for example of `Accept`.
pub const LIST: usize = 64;
