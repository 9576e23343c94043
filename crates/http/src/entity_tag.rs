//! Entity tags: names of one state of a resource.

use std::fmt;

/// An entity tag (RFC 9110, section 8.8.3).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EntityTag {
    is_weak: bool,
    opaque: String,
}

impl EntityTag {
    /// Makes a strong tag of a text without quotes, spaces and control characters.
    #[must_use]
    pub fn strong(opaque: impl Into<String>) -> Self {
        Self { is_weak: false, opaque: opaque.into() }
    }

    /// Makes a weak tag.
    #[must_use]
    pub fn weak(opaque: impl Into<String>) -> Self {
        Self { is_weak: true, opaque: opaque.into() }
    }

    /// Parses one tag.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (tag, rest) = Self::split(text)?;
        rest.is_empty().then_some(tag)
    }

    /// Returns the text between the quotes.
    #[must_use]
    pub fn opaque(&self) -> &str {
        &self.opaque
    }

    /// Whether it is a weak tag, which says nothing about each byte.
    #[must_use]
    pub fn is_weak(&self) -> bool {
        self.is_weak
    }

    /// The strong comparison: both are strong and equal (RFC 9110, section 8.8.3.2).
    #[must_use]
    pub fn strong_eq(&self, other: &Self) -> bool {
        !self.is_weak && self == other
    }

    /// The weak comparison: the texts are equal (RFC 9110, section 8.8.3.2).
    #[must_use]
    pub fn weak_eq(&self, other: &Self) -> bool {
        self.opaque == other.opaque
    }

    /// Splits a tag off the beginning of a text.
    pub(crate) fn split(text: &str) -> Option<(Self, &str)> {
        let (is_weak, quoted) = match text.strip_prefix("W/") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (opaque, rest) = quoted.strip_prefix('"')?.split_once('"')?;
        let is_valid = opaque.chars().all(|c| !c.is_ascii_control() && c != ' ');
        is_valid.then(|| (Self { is_weak, opaque: opaque.to_owned() }, rest))
    }
}

impl fmt::Display for EntityTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = if self.is_weak { "W/" } else { "" };
        write!(f, "{prefix}\"{}\"", self.opaque)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_parsed_and_shown() {
        for text in ["\"\"", "\"abc\"", "W/\"a,b\"", "\"!#~\u{e9}\""] {
            assert_eq!(EntityTag::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "abc", "\"a", "a\"", "w/\"a\"", "\"a b\"", "\"a\"b", "W/ \"a\"", "*"] {
            assert_eq!(EntityTag::parse(text), None, "{text}");
        }
    }

    #[test]
    fn comparisons_are_those_of_the_rfc() {
        let (weak1, weak2) = (EntityTag::weak("1"), EntityTag::weak("2"));
        let strong1 = EntityTag::strong("1");
        for (a, b, strong, weak) in [
            (&weak1, &weak1, false, true),
            (&weak1, &weak2, false, false),
            (&weak1, &strong1, false, true),
            (&strong1, &strong1, true, true),
        ] {
            assert_eq!((a.strong_eq(b), a.weak_eq(b)), (strong, weak), "{a} {b}");
        }
    }
}
