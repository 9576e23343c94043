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

    /// Makes the strong tag of content with a digest: its bytes in base32 (RFC 4648, section 6).
    ///
    /// Some clients have little room for the tags of an `If` header, so it is shorter than in hex.
    #[must_use]
    pub fn of_digest(digest: &[u8]) -> Self {
        const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let (mut opaque, mut bits, mut count) = (String::new(), 0_u16, 0);
        for byte in digest.iter().chain(&[0]) {
            bits = bits << 8 | u16::from(*byte);
            count += 8;
            while count >= 5 && opaque.len() < (digest.len() * 8).div_ceil(5) {
                count -= 5;
                opaque.push(char::from(DIGITS[usize::from(bits >> count & 31)]));
            }
            bits &= 31;
        }
        Self::strong(opaque)
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
    fn digests_are_written_in_base32() {
        // RFC 4648, section 10.
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "my"),
            (b"fo", "mzxq"),
            (b"foo", "mzxw6"),
            (b"foob", "mzxw6yq"),
            (b"fooba", "mzxw6ytb"),
            (b"foobar", "mzxw6ytboi"),
        ] {
            assert_eq!(EntityTag::of_digest(bytes).opaque(), text);
        }
        let digest = EntityTag::of_digest(&[0xff; 32]).to_string();
        assert_eq!(digest, format!("\"{}q\"", "7".repeat(51)));
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
