//! SITE: the commands of this server (RFC 959, section 4.1.3).

use relais_proto::{FileTime, Mode};

use crate::command::argument::Argument;
use crate::command::error::{ParseError, Parsed};
use crate::command::info::CommandInfo;
use crate::command::model::{Command, SiteCommand};
use crate::time::{parse_time, parse_utime};

/// The commands of SITE.
pub const SITE_COMMANDS: &[CommandInfo] = &[
    CommandInfo::new("SITE CHMOD", "<octal mode> <path>", chmod),
    CommandInfo::new("SITE HELP", "[<command>]", |argument| {
        Ok(Command::Site(SiteCommand::Help(argument.optional()?)))
    }),
    CommandInfo::new("SITE UTIME", "<YYYYMMDDhhmm[ss]> <path>", utime),
];

/// Reads a command of SITE.
pub(super) fn site(argument: Argument<'_>) -> Parsed {
    let text = argument.0;
    let end = text.iter().position(|byte| *byte == b' ').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() {
        return Err(ParseError::syntax());
    }
    let is_named = |info: &&CommandInfo| {
        info.name.strip_prefix("SITE ").is_some_and(|own| own.as_bytes().eq_ignore_ascii_case(name))
    };
    // The code of vsftpd and ProFTPD; RFC 959 has no other one for SITE.
    let info = SITE_COMMANDS.iter().find(is_named);
    let info = info.ok_or_else(|| ParseError::new(500, "Unknown SITE command."))?;
    (info.parse)(Argument(rest.get(1..).unwrap_or_default()))
}

/// SITE CHMOD (de facto: wu-ftpd, vsftpd, ProFTPD): three octal digits, or four of which the first
/// is 0.
fn chmod(argument: Argument<'_>) -> Parsed {
    let (digits, path) = argument.text()?.split_once(' ').ok_or_else(ParseError::syntax)?;
    let is_octal = digits.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    if path.is_empty() || !is_octal || !matches!(digits.len(), 3 | 4) {
        return Err(ParseError::syntax());
    }
    let bits = u32::from_str_radix(digits, 8).map_err(|_| ParseError::syntax())?;
    if bits > 0o777 {
        return Err(ParseError::parameter("setuid, setgid and sticky are not offered."));
    }
    let path = path.to_owned();
    Ok(Command::Site(SiteCommand::Chmod { mode: Mode::new(bits), path }))
}

/// SITE UTIME in its two forms (de facto): `TIME PATH` (Pure-FTPd, lftp), and
/// `PATH ATIME MTIME CTIME UTC` (NcFTP, ProFTPD, lftp). Only the time of modification is set.
fn utime(argument: Argument<'_>) -> Parsed {
    let text = argument.text()?;
    let (mtime, path) = utime_of_three(text)
        .or_else(|| {
            let (time, path) = text.split_once(' ')?;
            Some((parse_utime(time)?, path))
        })
        .ok_or_else(ParseError::syntax)?;
    if path.is_empty() {
        return Err(ParseError::syntax());
    }
    Ok(Command::Site(SiteCommand::Utime { mtime, path: path.to_owned() }))
}

fn utime_of_three(text: &str) -> Option<(FileTime, &str)> {
    let mut words = text.rsplitn(5, ' ');
    let (zone, created, modified) = (words.next()?, words.next()?, words.next()?);
    let (accessed, path) = (words.next()?, words.next()?);
    parse_time(created).and(parse_time(accessed))?;
    if zone.eq_ignore_ascii_case("UTC") { Some((parse_time(modified)?, path)) } else { None }
}
