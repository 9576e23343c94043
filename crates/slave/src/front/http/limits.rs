//! Limits of HTTP on a slave, beside those of `relais_http` and `relais_web`.

use std::time::Duration;

/// Time for which the thread of a session waits for the next request.
///
/// A longer wait would keep a thread and a slot for nothing; the pool waits without them.
pub const NEXT_REQUEST_TIME: Duration = Duration::from_secs(1);
/// Most logins that a worker remembers.
pub const LOGIN_CACHE: usize = 1024;
/// Time for which it remembers them.
pub const LOGIN_CACHE_TIME: Duration = Duration::from_secs(5 * 60);
/// Seconds after which a client may try again, where the refusal does not say.
pub const RETRY_AFTER: u16 = 2;
/// Most entries of one page while a folder is walked through for an archive.
pub const ARCHIVE_PAGE: u32 = 64;
