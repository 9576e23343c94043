//! The argument of a command, in the forms that several commands share.

use crate::command::error::ParseError;

/// What follows the name and one space; empty if nothing does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Argument<'a>(pub &'a [u8]);

impl<'a> Argument<'a> {
    /// Accepts no argument; spaces alone are none.
    pub(super) fn none(self) -> Result<(), ParseError> {
        if self.0.iter().all(|byte| *byte == b' ') { Ok(()) } else { Err(ParseError::syntax()) }
    }

    /// Returns the text, which may be empty. Names that are not UTF-8 get 501 (RFC 2640).
    pub(super) fn text(self) -> Result<&'a str, ParseError> {
        std::str::from_utf8(self.0).map_err(|_| ParseError::new(501, "Names are sent in UTF-8."))
    }

    /// Returns a text exactly as the client wrote it, also its spaces; empty is an error.
    pub(super) fn path(self) -> Result<String, ParseError> {
        self.optional()?.ok_or_else(ParseError::syntax)
    }

    /// Returns a text exactly as the client wrote it, or `None` if there is none.
    pub(super) fn optional(self) -> Result<Option<String>, ParseError> {
        let text = self.text()?;
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }

    /// Returns the words in upper case.
    pub(super) fn words(self) -> Result<Vec<String>, ParseError> {
        Ok(self.text()?.split_ascii_whitespace().map(str::to_ascii_uppercase).collect())
    }
}

/// Reads a decimal number without a sign; one above `most` is an error.
pub(super) fn number(text: &str, most: u64) -> Result<u64, ParseError> {
    let is_decimal = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = is_decimal.then(|| text.parse().ok()).flatten();
    number.filter(|number| *number <= most).ok_or_else(ParseError::syntax)
}

/// Returns the only word; none or several are an error.
pub(super) fn one(words: &[String]) -> Result<&str, ParseError> {
    if let [word] = words { Ok(word) } else { Err(ParseError::syntax()) }
}
