//! The arguments of EPSV, PORT and EPRT.

use crate::address::{AddressError, parse_eprt, parse_port};
use crate::command::argument::{Argument, number};
use crate::command::error::{ParseError, Parsed};
use crate::command::model::{Command, EpsvRequest};

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
