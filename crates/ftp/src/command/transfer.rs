//! The arguments of the commands that describe transfers and listings.

use relais_proto::limits;

use crate::command::argument::{Argument, number, one};
use crate::command::error::{ParseError, Parsed};
use crate::command::model::{Command, RangeRequest, TransferType};
use crate::list_options::ListOptions;
use crate::range::ByteRange;

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
        (1, 0) => Ok(Command::Rang(RangeRequest::Whole)),
        (start, last) if start > last => Ok(Command::Rang(RangeRequest::Invalid)),
        (start, last) => {
            Ok(Command::Rang(RangeRequest::Bytes(ByteRange { start, end: Some(last + 1) })))
        }
    }
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
