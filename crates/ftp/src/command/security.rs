//! The arguments of AUTH, PBSZ and PROT.

use crate::command::argument::{Argument, number, one};
use crate::command::error::{ParseError, Parsed};
use crate::command::model::{Command, DataProtection};

/// AUTH (RFC 2228, section 3; RFC 4217, section 4). `SSL` and `TLS-P` are the names of its drafts.
pub(super) fn auth(argument: Argument<'_>) -> Parsed {
    match one(&argument.words()?)? {
        "TLS" | "TLS-C" => Ok(Command::Auth { protect_data: false }),
        "SSL" | "TLS-P" => Ok(Command::Auth { protect_data: true }),
        _ => Err(ParseError::parameter("Mechanisms: TLS")),
    }
}

/// PBSZ (RFC 2228, section 3).
pub(super) fn pbsz(argument: Argument<'_>) -> Parsed {
    let size = number(one(&argument.words()?)?, u32::MAX.into())?;
    Ok(Command::Pbsz(u32::try_from(size).map_err(|_| ParseError::syntax())?))
}

/// PROT (RFC 2228, section 3; RFC 4217, section 9).
pub(super) fn prot(argument: Argument<'_>) -> Parsed {
    match one(&argument.words()?)? {
        "C" => Ok(Command::Prot(DataProtection::Clear)),
        "P" => Ok(Command::Prot(DataProtection::Private)),
        "S" | "E" => Err(ParseError::new(536, "TLS has levels C and P alone.")),
        _ => Err(ParseError::parameter("Levels: C, P")),
    }
}
