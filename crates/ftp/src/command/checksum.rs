//! The arguments of XSHA256, XMD5 and XCRC.

use relais_proto::limits;

use crate::command::argument::{Argument, number};
use crate::command::error::{ParseError, Parsed};
use crate::command::model::Command;
use crate::hash::HashAlgorithm;
use crate::range::ByteRange;

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
