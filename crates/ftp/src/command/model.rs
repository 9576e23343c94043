//! Commands as values.

use std::net::{SocketAddr, SocketAddrV4};

use relais_proto::{FileTime, Mode};

use crate::facts::FactSet;
use crate::hash::HashAlgorithm;
use crate::list_options::ListOptions;
use crate::password::Password;
use crate::range::ByteRange;

/// A command with checked arguments.
///
/// A `String` that is not explained is a path as the client wrote it; `path::resolve` reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the table has the syntax of each")]
pub enum Command {
    User(String),
    Pass(Password),
    Rein,
    Quit,
    Noop,
    Feat,
    /// The command or the words that help is wanted for.
    Help(Option<String>),
    Syst,
    /// Without a value: the state of session and transfer.
    Stat(Option<ListOptions>),
    Site(SiteCommand),
    Opts(OptsCommand),
    /// Name of the client's program.
    Clnt(String),
    /// Host name, or an address; IPv6 in brackets.
    Host(String),
    /// English, which is the only language, or the default.
    Lang,
    /// `protect_data`: the old names that imply PROT P.
    Auth {
        protect_data: bool,
    },
    Pbsz(u32),
    Prot(DataProtection),
    Pasv,
    Epsv(EpsvRequest),
    Port(SocketAddrV4),
    Eprt(SocketAddr),
    Type(TransferType),
    /// File structure, which is the only one.
    Stru,
    /// Stream mode, which is the only one.
    Mode,
    Retr(String),
    Stor(String),
    Appe(String),
    /// The name that the client proposes, which RFC 959 does not know.
    Stou(Option<String>),
    /// Bytes that an upload needs.
    Allo(u64),
    Rest(u64),
    Rang(RangeRequest),
    Abor,
    List(ListOptions),
    Nlst(ListOptions),
    Mlsd(Option<String>),
    Mlst(Option<String>),
    Cwd(String),
    Cdup,
    Pwd,
    Mkd(String),
    Rmd(String),
    Dele(String),
    Rnfr(String),
    Rnto(String),
    Size(String),
    /// `set` is the other reading of `path`, which begins with a time: if nothing has the name
    /// `path`, the file named in `set` gets this time.
    Mdtm {
        path: String,
        set: Option<(FileTime, String)>,
    },
    Mfmt {
        mtime: FileTime,
        path: String,
    },
    Avbl(Option<String>),
    Hash(String),
    /// XSHA256, XMD5 and XCRC.
    Checksum {
        algorithm: HashAlgorithm,
        path: String,
        range: ByteRange,
    },
}

/// A command of this site.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the table has the syntax of each")]
pub enum SiteCommand {
    Help(Option<String>),
    Chmod { mode: Mode, path: String },
    Utime { mtime: FileTime, path: String },
}

/// An option of a command (RFC 2389, section 4).
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the table has the syntax of each")]
pub enum OptsCommand {
    /// Whether names are UTF-8 (`draft-ietf-ftpext-utf-8-option`).
    Utf8(bool),
    Mlst(FactSet),
    Hash(HashOption),
}

/// What OPTS HASH does (`draft-bryan-ftpext-hash`, section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashOption {
    /// Shows the algorithm of the session.
    Show,
    /// Chooses the algorithm of the session.
    Choose(HashAlgorithm),
}

/// Protection of data connections (RFC 2228, section 3; RFC 4217, section 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DataProtection {
    /// PROT C.
    #[default]
    Clear,
    /// PROT P: TLS.
    Private,
}

/// What EPSV asks for (RFC 2428, sections 3 and 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EpsvRequest {
    /// The network protocol of the control connection.
    Default,
    /// Protocol 1.
    Ipv4,
    /// Protocol 2.
    Ipv6,
    /// From now on, only EPSV opens data connections.
    All,
}

/// Representation type (RFC 959, section 3.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TransferType {
    /// TYPE A: line ends are converted.
    #[default]
    Ascii,
    /// TYPE I and TYPE L 8.
    Image,
}

/// The argument of RANG (`draft-bryan-ftp-range`, section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeRequest {
    /// These bytes.
    Bytes(ByteRange),
    /// The whole file: `1 0`.
    Whole,
    /// A first byte behind the last one. It is refused, and resets an earlier range.
    Invalid,
}
