//! The bytes of FTP: lines, commands, replies, paths, listings, times, addresses and ASCII.
//!
//! The crate turns what an FTP client sends into checked values, and answers into bytes. It is
//! pure: it never opens a file or a socket and never reads a clock. A time is a parameter.
//!
//! Every parser is total: any input gives a value or an error that names its reply. A parser
//! allocates no more memory than the client has sent, and takes time linear in it.
//!
//! Sources: RFC 854 (Telnet), 959, 1123, 2228, 2389, 2428, 2640, 3659, 4217 and 7151, and the
//! drafts for HASH (`draft-bryan-ftpext-hash`), RANG (`draft-bryan-ftp-range`) and MFMT
//! (`draft-somers-ftp-mfxx`). Each item cites its section.

pub mod address;
pub mod ascii;
mod command;
mod facts;
mod features;
mod hash;
mod line;
mod list_options;
pub mod listing;
mod mlsx;
mod password;
pub mod path;
pub mod pattern;
mod range;
mod reply;
pub mod time;
mod web_request;

pub use command::{
    COMMANDS, Command, CommandInfo, DataProtection, EpsvRequest, HashOption, OptsCommand,
    ParseError, RangeRequest, SITE_COMMANDS, SiteCommand, TransferType,
};
pub use facts::{Fact, FactSet};
pub use features::{features, help, site_help};
pub use hash::{HashAlgorithm, hash_text, hex};
pub use line::{LINE_MAX, LineBuffer, LineError};
pub use list_options::ListOptions;
pub use mlsx::{MlsxWriter, mlst_line};
pub use password::Password;
pub use range::ByteRange;
pub use reply::Reply;
pub use web_request::is_web_request;
