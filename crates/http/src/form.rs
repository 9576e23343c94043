//! Pairs of names and values: of queries and of the bodies of HTML forms.

use percent_encoding::percent_decode_str;

use crate::escape::has_valid_escapes;
use crate::limits;
use crate::request_error::RequestError;

/// Decoded pairs in the form `application/x-www-form-urlencoded` (URL Standard, section 5).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Form(Vec<(String, String)>);

impl Form {
    /// Parses pairs. A name without `=` has an empty value.
    ///
    /// # Errors
    /// Status 400 for a malformed encoding, or for too many pairs.
    pub fn parse(text: &str) -> Result<Self, RequestError> {
        let mut pairs = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            if pairs.len() == limits::FORM_PAIRS {
                return Err(RequestError::bad("the query or form has too many pairs"));
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            pairs.push((decode(name)?, decode(value)?));
        }
        Ok(Self(pairs))
    }

    /// Returns the first value of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// Whether a name is there, with or without a value.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }
}

fn decode(text: &str) -> Result<String, RequestError> {
    const BAD: RequestError = RequestError::bad("the query or form has a malformed encoding");
    let text = text.replace('+', " ");
    if !has_valid_escapes(&text) {
        return Err(BAD);
    }
    percent_decode_str(&text).decode_utf8().map(|text| text.into_owned()).map_err(|_| BAD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded() {
        let form = Form::parse("tar&user=a%26b+c&&user=d&empty=&x=y=z&%C3%A9=1").unwrap();
        assert!(form.has("tar") && form.has("empty") && !form.has("zip"));
        assert_eq!((form.get("tar"), form.get("empty")), (Some(""), Some("")));
        assert_eq!((form.get("user"), form.get("x")), (Some("a&b c"), Some("y=z")));
        assert_eq!(form.get("é"), Some("1"));
        assert_eq!(Form::parse("").unwrap(), Form::default());
    }

    #[test]
    fn malformed_pairs_are_rejected() {
        for text in ["%", "a=%1", "a=%ff", "%zz=1", &"a&".repeat(limits::FORM_PAIRS + 1)] {
            assert!(Form::parse(text).is_err(), "{text}");
        }
        assert!(Form::parse(&"a&".repeat(limits::FORM_PAIRS)).is_ok());
    }
}
