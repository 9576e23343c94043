//! Takes a line apart.

use crate::command::argument::Argument;
use crate::command::error::ParseError;
use crate::command::info::CommandInfo;
use crate::command::model::{Command, SiteCommand};
use crate::command::site::SITE_COMMANDS;
use crate::command::table::{COMMANDS, NOT_OFFERED};
use crate::hash::HashAlgorithm;

impl Command {
    /// Reads a line without its end: a name in any case, and an argument after one space.
    ///
    /// # Errors
    /// [`ParseError`], with the reply to the line.
    pub fn parse(line: &[u8]) -> Result<Self, ParseError> {
        let end = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
        let (name, rest) = line.split_at(end);
        let Some(info) = CommandInfo::find(name) else {
            let is_known =
                NOT_OFFERED.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(name));
            return Err(if is_known {
                ParseError::new(502, "The command is not offered.")
            } else {
                ParseError::new(500, "Unknown command.")
            });
        };
        (info.parse)(Argument(rest.get(1..).unwrap_or_default())).map_err(|error| {
            // A text of its own says more than the usage.
            if error == ParseError::syntax() {
                ParseError::new(501, format!("Usage: {}", info.usage()))
            } else {
                error
            }
        })
    }

    /// Returns the row of the command; of SITE, the row of its command.
    #[must_use]
    pub fn info(&self) -> &'static CommandInfo {
        let name = self.name();
        let mut rows = COMMANDS.iter().chain(SITE_COMMANDS);
        // A test parses each command and asks for its row.
        rows.find(|info| info.name == name).unwrap_or(&COMMANDS[0])
    }

    /// Returns the name in the table; of forms with X, that of RFC 959.
    #[must_use]
    #[rustfmt::skip]
    pub fn name(&self) -> &'static str {
        match self {
            Self::User(_) => "USER", Self::Pass(_) => "PASS", Self::Rein => "REIN",
            Self::Quit => "QUIT", Self::Noop => "NOOP", Self::Feat => "FEAT",
            Self::Help(_) => "HELP", Self::Syst => "SYST", Self::Stat(_) => "STAT",
            Self::Site(SiteCommand::Help(_)) => "SITE HELP",
            Self::Site(SiteCommand::Chmod { .. }) => "SITE CHMOD",
            Self::Site(SiteCommand::Utime { .. }) => "SITE UTIME",
            Self::Opts(_) => "OPTS", Self::Clnt(_) => "CLNT", Self::Host(_) => "HOST",
            Self::Lang => "LANG", Self::Auth { .. } => "AUTH", Self::Pbsz(_) => "PBSZ",
            Self::Prot(_) => "PROT", Self::Pasv => "PASV", Self::Epsv(_) => "EPSV",
            Self::Port(_) => "PORT", Self::Eprt(_) => "EPRT", Self::Type(_) => "TYPE",
            Self::Stru => "STRU", Self::Mode => "MODE", Self::Retr(_) => "RETR",
            Self::Stor(_) => "STOR", Self::Appe(_) => "APPE", Self::Stou(_) => "STOU",
            Self::Allo(_) => "ALLO", Self::Rest(_) => "REST", Self::Rang(_) => "RANG",
            Self::Abor => "ABOR", Self::List(_) => "LIST", Self::Nlst(_) => "NLST",
            Self::Mlsd(_) => "MLSD", Self::Mlst(_) => "MLST", Self::Cwd(_) => "CWD",
            Self::Cdup => "CDUP", Self::Pwd => "PWD", Self::Mkd(_) => "MKD",
            Self::Rmd(_) => "RMD", Self::Dele(_) => "DELE", Self::Rnfr(_) => "RNFR",
            Self::Rnto(_) => "RNTO", Self::Size(_) => "SIZE", Self::Mdtm { .. } => "MDTM",
            Self::Mfmt { .. } => "MFMT", Self::Avbl(_) => "AVBL", Self::Hash(_) => "HASH",
            Self::Checksum { algorithm: HashAlgorithm::Md5, .. } => "XMD5",
            Self::Checksum { algorithm: HashAlgorithm::Crc32, .. } => "XCRC",
            Self::Checksum { .. } => "XSHA256",
        }
    }
}

impl CommandInfo {
    /// Finds a command by its name, in any case.
    #[must_use]
    pub fn find(name: &[u8]) -> Option<&'static Self> {
        COMMANDS.iter().find(|info| info.name.as_bytes().eq_ignore_ascii_case(name))
    }
}
