//! Limits on the time and the bytes that a client may take, beside those of `relais-http`.

use std::time::Duration;

/// How long a kept connection may be idle between two requests.
pub const KEPT_TIME: Duration = Duration::from_secs(60);
/// How long a client may take to read the last answer before the connection is closed.
pub const CLOSE_TIME: Duration = Duration::from_secs(2);
/// Most bytes of the rest of a body that are read and dropped to keep a connection.
pub const DISCARD: u64 = relais_proto::limits::DISCARD;
/// How long this may take.
pub const DISCARD_TIME: Duration = relais_proto::limits::LOGIN_TIME;
/// Most bytes that a client may send ahead of the head that is parsed.
///
/// It is enough for each head that is not too long, with an empty line before it.
pub const INPUT: usize = relais_http::limits::HEAD + 3;
