//! The arguments of the commands that do not only have a path.

use relais_proto::limits;

use crate::address::{AddressError, parse_eprt, parse_port};
use crate::command::argument::{Argument, number};
use crate::command::error::{ParseError, Parsed};
use crate::command::model::{
    Command, DataProtection, EpsvRequest, HashOption, OptsCommand, TransferType,
};
use crate::facts::FactSet;
use crate::hash::HashAlgorithm;
use crate::list_options::ListOptions;
use crate::password::Password;
use crate::range::ByteRange;
use crate::time::parse_time;

/// USER (RFC 959, section 4.1.1).
pub(super) fn user(argument: Argument<'_>) -> Parsed {
    let name = argument.path()?;
    if name.len() > limits::USER {
        return Err(ParseError::new(501, "The user name is too long."));
    }
    Ok(Command::User(name))
}

/// PASS (RFC 959, section 4.1.1). Any bytes, also none, because anonymous clients send what they
/// like.
pub(super) fn pass(argument: Argument<'_>) -> Parsed {
    if argument.0.len() > limits::PASSWORD {
        return Err(ParseError::new(501, "The password is too long."));
    }
    Ok(Command::Pass(Password::new(argument.0)))
}

/// STAT (RFC 959, section 4.1.3).
pub(super) fn stat(argument: Argument<'_>) -> Parsed {
    let is_status = argument.none().is_ok();
    Ok(Command::Stat(if is_status { None } else { Some(list_options(argument)?) }))
}

/// LIST and NLST (RFC 959, section 4.1.3), with the options of `ls`.
///
/// `-R` is refused, because a client would take the names of one folder for the whole tree.
pub(super) fn list_options(argument: Argument<'_>) -> Result<ListOptions, ParseError> {
    let options = ListOptions::parse(argument.text()?);
    if options.recursive {
        return Err(ParseError::parameter("Recursive listings are not offered."));
    }
    Ok(options)
}

/// OPTS (RFC 2389, section 4): UTF8, MLST and HASH.
pub(super) fn opts(argument: Argument<'_>) -> Parsed {
    let text = argument.text()?;
    let (name, value) = text.split_once(' ').unwrap_or((text, ""));
    Ok(Command::Opts(match name.to_ascii_uppercase().as_str() {
        "UTF8" | "UTF-8" => OptsCommand::Utf8(match value.trim().to_ascii_uppercase().as_str() {
            "" | "ON" => true,
            "OFF" => false,
            _ => return Err(ParseError::syntax()),
        }),
        "MLST" => OptsCommand::Mlst(FactSet::parse(value.trim())),
        "HASH" => OptsCommand::Hash(match value.trim() {
            "" => HashOption::Show,
            name => HashOption::Choose(HashAlgorithm::parse(name).ok_or_else(|| {
                ParseError::parameter(format!("Algorithms: {}", HashAlgorithm::names()))
            })?),
        }),
        // The code of RFC 2389, section 4 for an option that is not known.
        _ => return Err(ParseError::new(501, "Options: UTF8, MLST, HASH")),
    }))
}

/// HOST (RFC 7151, section 3.1).
pub(super) fn host(argument: Argument<'_>) -> Parsed {
    let name = argument.path()?;
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    if name.len() > 255 || !name.bytes().all(is_allowed) {
        return Err(ParseError::syntax());
    }
    Ok(Command::Host(name))
}

/// LANG (RFC 2640, section 4.1). Texts are English.
pub(super) fn lang(argument: Argument<'_>) -> Parsed {
    match argument.words()?.as_slice() {
        [] => Ok(Command::Lang),
        [tag] if tag == "EN" || tag.starts_with("EN-") => Ok(Command::Lang),
        [_] => Err(ParseError::parameter("Languages: EN")),
        _ => Err(ParseError::syntax()),
    }
}

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

/// EPSV (RFC 2428, sections 3 and 4).
pub(super) fn epsv(argument: Argument<'_>) -> Parsed {
    let words = argument.words()?;
    let request = match words.first().map_or("", String::as_str) {
        "" => EpsvRequest::Default,
        "ALL" => EpsvRequest::All,
        "1" => EpsvRequest::Ipv4,
        "2" => EpsvRequest::Ipv6,
        other => return Err(number(other, u64::MAX).map_or_else(|e| e, |_| no_protocol())),
    };
    if words.len() > 1 { Err(ParseError::syntax()) } else { Ok(Command::Epsv(request)) }
}

/// PORT (RFC 959, section 4.1.2).
pub(super) fn port(argument: Argument<'_>) -> Parsed {
    parse_port(argument.text()?.trim_end()).map(Command::Port).map_err(address_error)
}

/// EPRT (RFC 2428, section 2).
pub(super) fn eprt(argument: Argument<'_>) -> Parsed {
    parse_eprt(argument.text()?.trim_end()).map(Command::Eprt).map_err(address_error)
}

fn address_error(error: AddressError) -> ParseError {
    match error {
        AddressError::Syntax => ParseError::syntax(),
        AddressError::Protocol => no_protocol(),
    }
}

fn no_protocol() -> ParseError {
    ParseError::new(522, "Network protocol not supported, use (1,2)")
}

/// TYPE (RFC 959, section 4.1.2): A, A N, I and L 8.
pub(super) fn transfer_type(argument: Argument<'_>) -> Parsed {
    let words = argument.words()?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["A"] | ["A", "N"] => Ok(Command::Type(TransferType::Ascii)),
        // `L8` is how several clients write it.
        ["I"] | ["L", "8"] | ["L8"] => Ok(Command::Type(TransferType::Image)),
        ["A" | "E", "N" | "T" | "C"] | ["E"] => Err(ParseError::parameter("Types: A, A N, I, L 8")),
        ["L", size] if number(size, u64::MAX).is_ok() => {
            Err(ParseError::parameter("Types: A, A N, I, L 8"))
        }
        _ => Err(ParseError::syntax()),
    }
}

/// STRU (RFC 959, section 4.1.2).
pub(super) fn stru(argument: Argument<'_>) -> Parsed {
    match one(&argument.words()?)? {
        "F" => Ok(Command::Stru),
        "R" | "P" => Err(ParseError::parameter("Structures: F")),
        _ => Err(ParseError::syntax()),
    }
}

/// MODE (RFC 959, section 4.1.2). Z is compression (`draft-preston-ftpext-deflate`).
pub(super) fn mode(argument: Argument<'_>) -> Parsed {
    match one(&argument.words()?)? {
        "S" => Ok(Command::Mode),
        "B" | "C" | "Z" => Err(ParseError::parameter("Modes: S")),
        _ => Err(ParseError::syntax()),
    }
}

/// ALLO (RFC 959, section 4.1.3). The record size means nothing for files.
pub(super) fn allo(argument: Argument<'_>) -> Parsed {
    let words = argument.words()?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ([size] | [size, "R", _]) = words.as_slice() else { return Err(ParseError::syntax()) };
    if let [_, _, record] = words.as_slice() {
        number(record, u64::MAX)?;
    }
    Ok(Command::Allo(number(size, u64::MAX)?))
}

/// REST in stream mode (RFC 3659, section 5).
pub(super) fn rest(argument: Argument<'_>) -> Parsed {
    Ok(Command::Rest(number(one(&argument.words()?)?, limits::FILE_SIZE)?))
}

/// RANG (`draft-bryan-ftp-range`, section 3): first and last byte; `1 0` resets the range.
pub(super) fn rang(argument: Argument<'_>) -> Parsed {
    let words = argument.words()?;
    let [start, last] = words.as_slice() else { return Err(ParseError::syntax()) };
    let start = number(start, limits::FILE_SIZE)?;
    match (start, number(last, limits::FILE_SIZE - 1)?) {
        (1, 0) => Ok(Command::Rang(None)),
        (start, last) if start > last => Err(ParseError::syntax()),
        (start, last) => Ok(Command::Rang(Some(ByteRange { start, end: Some(last + 1) }))),
    }
}

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

fn timed_path(text: &str) -> Option<(relais_proto::FileTime, String)> {
    let (time, path) = text.split_once(' ')?;
    Some((parse_time(time)?, Some(path).filter(|path| !path.is_empty())?.to_owned()))
}

/// XSHA256, XMD5 and XCRC, as Serv-U, ProFTPD and FileZilla Server read them.
///
/// The path is quoted with `"`, doubled inside, or not. Start and end (which is not part of the
/// range) follow. Two numbers at the end of a path without quotes are start and end.
pub(super) fn checksum(algorithm: HashAlgorithm, argument: Argument<'_>) -> Parsed {
    let text = argument.text()?;
    let (path, numbers) = match text.strip_prefix('"').and_then(unquote) {
        Some((path, rest)) => (path, rest.split_ascii_whitespace().collect()),
        None => trailing_numbers(text),
    };
    let most = limits::FILE_SIZE;
    let range = match numbers.as_slice() {
        [] => ByteRange::default(),
        [start] => ByteRange { start: number(start, most)?, end: None },
        [start, end] => ByteRange { start: number(start, most)?, end: Some(number(end, most)?) },
        _ => return Err(ParseError::syntax()),
    };
    if path.is_empty() || range.end.is_some_and(|end| end < range.start) {
        return Err(ParseError::syntax());
    }
    Ok(Command::Checksum { algorithm, path, range })
}

/// Returns the text up to its closing quote and the rest, which a space separates.
fn unquote(text: &str) -> Option<(String, &str)> {
    let (mut path, mut rest) = (String::new(), text);
    loop {
        let (part, after) = rest.split_once('"')?;
        path.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => {
                path.push('"');
                rest = more;
            }
            None if after.is_empty() || after.starts_with(' ') => return Some((path, after)),
            None => return None,
        }
    }
}

fn trailing_numbers(text: &str) -> (String, Vec<&str>) {
    let is_number = |word: &str| number(word, u64::MAX).is_ok();
    let two = text.rsplit_once(' ').and_then(|(rest, end)| {
        let (path, start) = rest.rsplit_once(' ')?;
        (is_number(start) && is_number(end) && !path.is_empty()).then_some((path, start, end))
    });
    match two {
        Some((path, start, end)) => (path.to_owned(), vec![start, end]),
        None => (text.to_owned(), Vec::new()),
    }
}

fn one(words: &[String]) -> Result<&str, ParseError> {
    if let [word] = words { Ok(word) } else { Err(ParseError::syntax()) }
}
