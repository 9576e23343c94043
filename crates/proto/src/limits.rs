//! Every limit on what a peer may send or take, in one place.
//!
//! A limit on time holds for a whole phase: a peer that sends a byte a second
//! does not outlive it.

use std::time::Duration;

/// Longest payload of a server's frame that is not a data block, in bytes.
pub const CONTROL_FRAME: u32 = 64 * 1024;
/// Longest payload of a frame from the side that connects, in bytes: two of the longest paths, with room for the other fields.
pub const REQUEST_FRAME: u32 = 8 * 1024 + 256;
/// Longest payload of `Ticket`, in bytes.
pub const TICKET_FRAME: u32 = 5 * 1024;
/// Longest payload of `Hello`, `Login`, `LinkOpen` and `LinkProof`, in bytes. Thousands of strangers can each send
/// one at the same time, so it is just what the longest login needs.
pub const GREETING_FRAME: u32 = 2560;
/// Longest data block, in bytes; also the longest `--block-size`.
pub const BLOCK_MAX: u32 = 4 * 1024 * 1024;
/// Bytes in one piece: the unit in which content is hashed, checked and asked for again.
pub const PIECE: u64 = 1024 * 1024;
/// Longest content of a file, in bytes: the highest offset in Linux.
pub const FILE_SIZE: u64 = (1 << 63) - 1;
/// Most pieces that content can have.
pub const PIECES: u64 = FILE_SIZE.div_ceil(PIECE);
/// Most piece values in one answer: 1,024 values of 32 bytes are 32 KiB.
pub const PIECES_PER_PAGE: u32 = 1024;
/// Longest part of a name, in bytes: what Linux file systems take.
pub const NAME_PART: usize = 255;
/// Longest path, in bytes: `PATH_MAX` less its NUL.
pub const PATH: usize = 4095;
/// Longest user name, in bytes.
pub const USER: usize = 255;
/// Longest password, in bytes.
pub const PASSWORD: usize = 1024;
/// Passwords that may be wrong on one connection.
pub const LOGIN_TRIES: u32 = 3;
/// TLS handshakes that an address may have in a second, in each process; further ones wait.
pub const HANDSHAKES: u32 = 200;
/// Longest handshake of a side that connects, in bytes.
pub const HANDSHAKE: usize = 8192;
/// Bytes of a public key that is to be certified.
pub const POINT: usize = 65;
/// Longest certificate with its authority's, in PEM, in bytes.
pub const CERTIFICATE: usize = 8192;
/// Longest ticket, in bytes.
pub const TICKET: usize = 5000;
/// Longest message, agent or similar text meant for people, in bytes.
pub const TEXT: usize = 1024;
/// Most slaves named in a redirect: the next in turn and 16 after it.
pub const REDIRECT_SLAVES: usize = 17;
/// Most addresses of one slave.
pub const ADDRESSES: usize = 8;
/// Most slaves that a client may ask the master to leave out.
pub const AVOID: usize = 64;
/// Most entries of any list in a message of a link that has no limit of its own.
pub const LINK_LIST: usize = 4096;
/// Most holders of one content that are named.
pub const HOLDERS: usize = 64;
/// Most puts that are given up at the same time.
pub const GIVEN_UP: usize = 1024;
/// Most timelines of a history that are remembered; older ones are dropped. They fit into one message together with `GIVEN_UP` puts.
pub const TIMELINES: usize = 512;
/// Most slaves named in one `Peers`.
pub const PEERS: usize = 64;
/// Longest path in a list for an operator, in bytes: four for each of a path that cannot be shown.
pub const SHOWN_PATH: usize = 4 * (PATH + 1);
/// Most paths of each list that a slave names.
pub const SHOWN_PATHS: usize = 10_000;
/// Longest line of what an operator is told, in bytes.
pub const LINE: usize = 60_000;
/// Bytes of requests that a client may have unanswered; the bytes of uploads do not count.
pub const AHEAD: usize = 64 * 1024;
/// Bytes of a refused upload that a slave reads and drops, so that the session can go on. It closes after more.
pub const DISCARD: u64 = 4 * 1024 * 1024;

/// Time from accepting a connection to the end of its login.
pub const LOGIN_TIME: Duration = Duration::from_secs(10);
/// Time for the rest of a frame once its first byte came.
pub const FRAME_TIME: Duration = Duration::from_secs(30);
/// A transfer that moves less than [`RATE_FLOOR`] bytes in this time is ended.
pub const RATE_WINDOW: Duration = Duration::from_secs(30);
/// Fewest bytes in a [`RATE_WINDOW`]: 1 KiB/s.
pub const RATE_FLOOR: u64 = 30 * 1024;
/// A session that asks nothing for this long is closed.
pub const IDLE_TIME: Duration = Duration::from_secs(15 * 60);
/// Who needs longer than this to answer sends `Wait`, and again after each such time.
pub const WAIT_EVERY: Duration = Duration::from_secs(1);
/// A client moves to another slave after this long without a frame.
pub const SILENCE: Duration = Duration::from_secs(5);
/// Time between two heartbeats of a slave.
pub const BEAT_EVERY: Duration = Duration::from_secs(1);
/// Heartbeats missed in a row after which a slave is out of service.
pub const BEATS_MISSED: u32 = 3;
/// How long a ticket is good.
pub const TICKET_TIME: Duration = Duration::from_secs(12 * 60 * 60);
/// How long a slave keeps the bytes of an upload that was cut off.
pub const STAGED_TIME: Duration = Duration::from_secs(24 * 60 * 60);
/// Time to connect to one address.
pub const CONNECT_TIME: Duration = Duration::from_secs(3);
