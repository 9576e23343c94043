//! The arguments of MDTM and MFMT.

use relais_proto::FileTime;

use crate::command::argument::Argument;
use crate::command::error::{ParseError, Parsed};
use crate::command::model::Command;
use crate::time::parse_time;

/// MDTM (RFC 3659, section 3). `MDTM TIME PATH` sets the time for old clients (lftp, WS_FTP).
pub(super) fn mdtm(argument: Argument<'_>) -> Parsed {
    let path = argument.path()?;
    Ok(Command::Mdtm { set: timed_path(&path), path })
}

/// MFMT (`draft-somers-ftp-mfxx`, section 3).
pub(super) fn mfmt(argument: Argument<'_>) -> Parsed {
    let (mtime, path) = timed_path(argument.text()?).ok_or_else(ParseError::syntax)?;
    Ok(Command::Mfmt { mtime, path })
}

fn timed_path(text: &str) -> Option<(FileTime, String)> {
    let (time, path) = text.split_once(' ')?;
    Some((parse_time(time)?, Some(path).filter(|path| !path.is_empty())?.to_owned()))
}
