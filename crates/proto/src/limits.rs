//! All limits on what a peer may send or use.
//!
//! A time limit covers a whole phase, so a peer cannot extend it by sending a byte per second.

use std::time::Duration;

/// Longest payload of a server's frame other than a data block, in bytes.
pub const CONTROL_FRAME: u32 = 64 * 1024;
/// Longest payload of a frame from the connecting side, in bytes.
///
/// It fits two of the longest paths and the other fields.
pub const REQUEST_FRAME: u32 = 8 * 1024 + 256;
/// Highest number of ignorable frames between two other frames.
pub const IGNORED_FRAMES: u32 = 1000;
/// Longest payload of `Ticket`, in bytes.
pub const TICKET_FRAME: u32 = 5 * 1024;
/// Longest payload of `Hello`, `Login`, `LinkOpen` and `LinkProof`, in bytes.
///
/// The value is just enough for the longest login, because thousands of unauthenticated peers can
/// send one at the same time.
pub const GREETING_FRAME: u32 = 2560;
/// Longest data block, in bytes; also the longest `--block-size`.
pub const BLOCK_MAX: u32 = 4 * 1024 * 1024;
/// Bytes in one piece: the unit of hashing, verification and repair.
pub const PIECE: u64 = 1024 * 1024;
/// Longest content of a file in bytes: the highest offset in Linux.
pub const FILE_SIZE: u64 = (1 << 63) - 1;
/// Highest number of pieces of a content.
pub const PIECES: u64 = FILE_SIZE.div_ceil(PIECE);
/// Highest number of piece values in one answer: 1,024 values of 32 bytes are 32 KiB.
pub const PIECES_PER_PAGE: u32 = 1024;
/// Longest part of a path in bytes: the limit of Linux file systems.
pub const NAME_PART: usize = 255;
/// Longest path in bytes: `PATH_MAX` without its NUL.
pub const PATH: usize = 4095;
/// Longest user name, in bytes.
pub const USER: usize = 255;
/// Longest password, in bytes.
pub const PASSWORD: usize = 1024;
/// Wrong passwords that are allowed on one connection.
pub const LOGIN_TRIES: u32 = 3;
/// TLS handshakes per second for one address in each process; further ones wait.
pub const HANDSHAKES: u32 = 200;
/// Longest handshake of the connecting side, in bytes.
pub const HANDSHAKE: usize = 8192;
/// Length of the public key in a certificate request, in bytes.
pub const POINT: usize = 65;
/// Longest certificate chain of a slave and its authority, in PEM, in bytes.
pub const CERTIFICATE: usize = 8192;
/// Longest ticket, in bytes.
pub const TICKET: usize = 5000;
/// Longest message, agent or similar text for people, in bytes.
pub const TEXT: usize = 1024;
/// Highest number of metrics in a heartbeat or status.
pub const METRICS: usize = 64;
/// Longest name of a metric, in bytes.
pub const METRIC_NAME: usize = 64;
/// Highest number of slaves in a redirect: the selected one and 16 alternatives.
pub const REDIRECT_SLAVES: usize = 17;
/// Highest number of addresses of one slave.
pub const ADDRESSES: usize = 8;
/// Highest number of paths in one `StatMany`.
pub const STAT_PATHS: usize = 1024;
/// Latest events that a slave keeps for `Watch`.
pub const EVENTS: usize = 10_000;
/// Highest number of events in one `Events`.
pub const EVENTS_PER_FRAME: usize = 1024;
/// Highest number of slaves that a client may ask the master to avoid.
pub const AVOID: usize = 64;
/// Highest number of entries in a list of a link message, unless the list has its own limit.
pub const LINK_LIST: usize = 4096;
/// Highest number of holders that are named for one content.
pub const HOLDERS: usize = 64;
/// Highest number of puts that are given up at the same time.
pub const GIVEN_UP: usize = 1024;
/// Highest number of remembered timelines of a history; older ones are dropped.
///
/// They fit into one message together with `GIVEN_UP` puts.
pub const TIMELINES: usize = 512;
/// Highest number of keys of uploads in one list of a link message.
pub const UPLOAD_KEYS: usize = 256;
/// Highest number of unfinished uploads by path that a master knows.
pub const PATH_UPLOADS: usize = 32 * 1024;
/// Highest number of log-outs in one link message.
pub const LOG_OUTS: usize = 256;
/// Highest number of slaves in one `Peers` message.
pub const PEERS: usize = 64;
/// Longest path in an operator's list, in bytes: four for each byte of a path that must be escaped.
pub const SHOWN_PATH: usize = 4 * (PATH + 1);
/// Highest number of paths that a slave reports of each list.
pub const SHOWN_PATHS: usize = 10_000;
/// Longest line of output for an operator, in bytes.
pub const LINE: usize = 60_000;
/// Bytes of requests that a client may send ahead of the answers; bytes of uploads do not count.
pub const AHEAD: usize = 64 * 1024;
/// Bytes of a refused upload that a slave reads and drops to keep the session.
///
/// The slave closes the connection after more bytes.
pub const DISCARD: u64 = 4 * 1024 * 1024;
/// Longest namespace of a property, in bytes.
pub const PROPERTY_NAMESPACE: usize = 1024;
/// Longest local name of a property, in bytes.
pub const PROPERTY_LOCAL: usize = 255;
/// Longest value of a property, in bytes.
pub const PROPERTY_VALUE: usize = 32 * 1024;
/// Highest number of properties of one path, and of changes to them in one request.
pub const PROPERTIES: usize = 256;
/// Names and values in one request that sets properties, in bytes. They fit into one frame.
pub const PROPERTY_CHANGE: usize = 48 * 1024;
/// Names and values of all properties of one path, in bytes.
pub const PROPERTIES_OF_PATH: usize = 128 * 1024;
/// Paths, names and values of all properties of a tree, in bytes.
pub const PROPERTIES_OF_TREE: usize = 64 * 1024 * 1024;
/// Longest name of the owner of a lock, in bytes.
pub const LOCK_OWNER: usize = 4 * 1024;
/// Longest time of a lock without a refresh, in seconds: 1 h.
pub const LOCK_SECONDS: u32 = 60 * 60;
/// Highest number of locks in a tree.
pub const LOCKS: usize = 10_000;
/// Highest number of locks of one account.
pub const LOCKS_PER_ACCOUNT: usize = 1000;
/// Highest number of shared locks on one path.
pub const SHARED_LOCKS: usize = 16;
/// Highest number of lock tokens that one change submits.
pub const LOCK_TOKENS: usize = 16;
/// Highest number of SHA-256 hashes of pieces of one content.
pub const SHA256_PIECES: usize = 1024;
/// SHA-256 hashes that a master keeps, in bytes; the oldest contents lose theirs.
pub const SHA256_OF_TREE: usize = 128 * 1024 * 1024;

/// Highest number of forwarded passwords that a master verifies at the same time for one slave.
pub const FORWARDED_LOGINS: usize = 128;

/// Time from accepting a connection to the end of its login.
pub const LOGIN_TIME: Duration = Duration::from_secs(10);
/// Time from the first byte of a frame to its end.
pub const FRAME_TIME: Duration = Duration::from_secs(30);
/// A transfer ends if it moves less than [`RATE_FLOOR`] bytes in this time.
pub const RATE_WINDOW: Duration = Duration::from_secs(30);
/// Lowest number of bytes in a [`RATE_WINDOW`]: 1 KiB/s.
pub const RATE_FLOOR: u64 = 30 * 1024;
/// An idle session is closed after this time.
pub const IDLE_TIME: Duration = Duration::from_secs(15 * 60);
/// Interval of `Wait` frames while an answer takes longer.
pub const WAIT_EVERY: Duration = Duration::from_secs(1);
/// A client moves to another slave after this time without a frame.
pub const SILENCE: Duration = Duration::from_secs(5);
/// Interval of a slave's heartbeats.
pub const BEAT_EVERY: Duration = Duration::from_secs(1);
/// Missed heartbeats in a row after which a slave is out of service.
pub const BEATS_MISSED: u32 = 3;
/// Validity of a ticket.
pub const TICKET_TIME: Duration = Duration::from_secs(12 * 60 * 60);
/// Time that a slave keeps the bytes of an interrupted upload.
pub const STAGED_TIME: Duration = Duration::from_secs(24 * 60 * 60);
/// Timeout for a connection to one address.
pub const CONNECT_TIME: Duration = Duration::from_secs(3);
