//! The arguments of login, options and other commands about the session.

use relais_proto::limits;

use crate::command::argument::Argument;
use crate::command::error::{ParseError, Parsed};
use crate::command::model::{Command, HashOption, OptsCommand};
use crate::facts::FactSet;
use crate::hash::HashAlgorithm;
use crate::password::Password;

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
