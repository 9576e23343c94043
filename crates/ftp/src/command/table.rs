//! The table of commands.

use crate::command::argument::Argument;
use crate::command::info::{CommandInfo, Parser};
use crate::command::model::Command;
use crate::command::{checksum, data_address, security, session, set_time, site, transfer};
use crate::hash::HashAlgorithm;

const fn row(name: &'static str, syntax: &'static str, parse: Parser) -> CommandInfo {
    CommandInfo::new(name, syntax, parse)
}

/// Makes the parser of a command without arguments.
macro_rules! bare {
    ($command:ident) => {
        |argument: Argument<'_>| argument.none().map(|()| Command::$command)
    };
}

/// Makes the parser of a command whose argument is a path (or another text that stays as it is).
macro_rules! path {
    ($command:ident) => {
        |argument: Argument<'_>| argument.path().map(Command::$command)
    };
}

/// Makes the parser of a command whose path can be left out.
macro_rules! optional {
    ($command:ident) => {
        |argument: Argument<'_>| argument.optional().map(Command::$command)
    };
}

/// All commands, in the order of HELP.
pub const COMMANDS: &[CommandInfo] = &[
    row("ABOR", "", bare!(Abor)),
    row("ALLO", "<bytes> [R <bytes>]", transfer::allo),
    row("APPE", "<path>", path!(Appe)),
    row("AUTH", "TLS", security::auth),
    row("AVBL", "[<path>]", optional!(Avbl)),
    row("CDUP", "", bare!(Cdup)),
    row("CLNT", "<program>", path!(Clnt)),
    row("CWD", "<path>", path!(Cwd)),
    row("DELE", "<path>", path!(Dele)),
    row("EPRT", "|<1 or 2>|<address>|<port>|", data_address::eprt),
    row("EPSV", "[1 | 2 | ALL]", data_address::epsv),
    row("FEAT", "", bare!(Feat)),
    row("HASH", "<path>", path!(Hash)),
    row("HELP", "[<command>]", optional!(Help)),
    row("HOST", "<host>", session::host),
    row("LANG", "[EN]", session::lang),
    row("LIST", "[<options>] [<path>]", |a| transfer::list_options(a).map(Command::List)),
    row("MDTM", "<path>", set_time::mdtm),
    row("MFMT", "<YYYYMMDDHHMMSS> <path>", set_time::mfmt),
    row("MKD", "<path>", path!(Mkd)),
    row("MLSD", "[<path>]", optional!(Mlsd)),
    row("MLST", "[<path>]", optional!(Mlst)),
    row("MODE", "S", transfer::mode),
    row("NLST", "[<options>] [<path>]", |a| transfer::list_options(a).map(Command::Nlst)),
    row("NOOP", "", bare!(Noop)),
    row("OPTS", "<command> [<options>]", session::opts),
    row("PASS", "<password>", session::pass),
    row("PASV", "", bare!(Pasv)),
    row("PBSZ", "<bytes>", security::pbsz),
    row("PORT", "<h1,h2,h3,h4,p1,p2>", data_address::port),
    row("PROT", "C | P", security::prot),
    row("PWD", "", bare!(Pwd)),
    row("QUIT", "", bare!(Quit)),
    row("RANG", "<first> <last>", transfer::rang),
    row("REIN", "", bare!(Rein)),
    row("REST", "<offset>", transfer::rest),
    row("RETR", "<path>", path!(Retr)),
    row("RMD", "<path>", path!(Rmd)),
    row("RNFR", "<path>", path!(Rnfr)),
    row("RNTO", "<path>", path!(Rnto)),
    row("SITE", "<command>", site::site),
    row("SIZE", "<path>", path!(Size)),
    row("STAT", "[<path>]", transfer::stat),
    row("STOR", "<path>", path!(Stor)),
    row("STOU", "[<name>]", optional!(Stou)),
    row("STRU", "F", transfer::stru),
    row("SYST", "", bare!(Syst)),
    row("TYPE", "A | I | L 8", transfer::transfer_type),
    row("USER", "<name>", session::user),
    row("XCRC", "<path> [<start> <end>]", |a| checksum::checksum(HashAlgorithm::Crc32, a)),
    row("XCUP", "", bare!(Cdup)),
    row("XCWD", "<path>", path!(Cwd)),
    row("XMD5", "<path> [<start> <end>]", |a| checksum::checksum(HashAlgorithm::Md5, a)),
    row("XMKD", "<path>", path!(Mkd)),
    row("XPWD", "", bare!(Pwd)),
    row("XRMD", "<path>", path!(Rmd)),
    row("XSHA256", "<path> [<start> <end>]", |a| checksum::checksum(HashAlgorithm::Sha256, a)),
];

/// Commands of RFCs, drafts and other servers that get 502, because they are known and not offered.
///
/// RFC 959: ACCT, SMNT. RFC 2228: ADAT, CCC, CONF, ENC, MIC. RFC 1639: LPRT, LPSV. RFC 775 and
/// 743: XRCP, XRSQ, XSEM, XSEN. `draft-somers-ftp-mfxx`: MFCT, MFF. Others: checksums and the like
/// that clients try.
pub(super) const NOT_OFFERED: &[&str] = &[
    "ACCT", "ADAT", "CCC", "COMB", "CONF", "CSID", "DSIZ", "ENC", "ESTA", "ESTP", "LPRT", "LPSV",
    "MAIL", "MD5", "MFCT", "MFF", "MIC", "MLFL", "MMD5", "MRCP", "MSAM", "MSND", "MSOM", "SMNT",
    "SPSV", "THMB", "XAUT", "XRCP", "XRSQ", "XSEM", "XSEN", "XSHA", "XSHA1", "XSHA512",
];
