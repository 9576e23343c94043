//! Patterns for names: `*`, `?`, `[...]`, `{a,b}`, and a backslash before a literal character.
//!
//! A pattern becomes a regular expression. The automaton matches in linear time, so no pattern is
//! slow. A wildcard matches characters, not bytes. Pure functions.

use regex::{Regex, RegexBuilder};
use thiserror::Error;

/// Longest pattern in bytes: the longest path.
const MAX_PATTERN: usize = 4095;
/// Characters that make a text a pattern.
const SPECIAL: [char; 5] = ['*', '?', '[', '{', '\\'];
/// Largest automaton, in bytes.
const MAX_AUTOMATON: usize = 1024 * 1024;
/// Deepest nesting of braces.
const MAX_NESTING: u32 = 64;

/// The reason why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GlobError {
    /// The text ends with a backslash.
    #[error("nothing follows the backslash")]
    Backslash,
    /// A brace is not closed.
    #[error("a {{ has no }}")]
    OpenBrace,
    /// A character class is not closed.
    #[error("a [ has no ]")]
    OpenClass,
    /// A range ends before it begins.
    #[error("the range {0}-{1} is reversed")]
    Reversed(char, char),
    /// The automaton would be too large, or the braces are nested too deeply.
    #[error("the pattern is too large")]
    TooLarge,
}

/// Returns whether a text has a special character, and so is a pattern and no name.
#[must_use]
pub fn is_pattern(text: &str) -> bool {
    text.contains(SPECIAL)
}

/// A pattern for one name.
#[derive(Debug, Clone)]
pub struct Glob(Regex);

impl Glob {
    /// Parses a pattern. A text without special characters matches itself.
    ///
    /// # Errors
    /// The reason why the text is no pattern.
    pub fn new(text: &str) -> Result<Self, GlobError> {
        if text.len() > MAX_PATTERN {
            return Err(GlobError::TooLarge);
        }
        let expression = translate(text)?;
        let built = RegexBuilder::new(&expression)
            .size_limit(MAX_AUTOMATON)
            .nest_limit(MAX_NESTING)
            .build();
        built.map(Self).map_err(|_| GlobError::TooLarge)
    }

    /// Returns whether a name matches. A wildcard never matches a leading dot.
    #[must_use]
    pub fn is_match(&self, name: &str) -> bool {
        // If a wildcard matches the dot, it also matches a character that no name contains.
        self.0.is_match(name)
            && name.strip_prefix('.').is_none_or(|rest| !self.0.is_match(&format!("\u{1}{rest}")))
    }
}

/// Translates a part with wildcards into a regular expression.
fn translate(text: &str) -> Result<String, GlobError> {
    let (mut out, mut open) = ("(?s)^(?:".to_owned(), 0_u32);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' => out.push_str(".*"),
            '?' => out.push('.'),
            '[' => class(&mut chars, &mut out)?,
            '{' => {
                open += 1;
                out.push_str("(?:");
            }
            ',' if open > 0 => out.push('|'),
            '}' if open > 0 => {
                open -= 1;
                out.push(')');
            }
            '\\' => literal(chars.next().ok_or(GlobError::Backslash)?, &mut out),
            other => literal(other, &mut out),
        }
    }
    if open > 0 {
        return Err(GlobError::OpenBrace);
    }
    out.push_str(")$");
    Ok(out)
}

/// Translates a character class after its `[`. A leading `]` is a member.
fn class(chars: &mut std::str::Chars<'_>, out: &mut String) -> Result<(), GlobError> {
    let mut next = || chars.next().ok_or(GlobError::OpenClass);
    let mut c = next()?;
    out.push('[');
    if matches!(c, '!' | '^') {
        out.push('^');
        c = next()?;
    }
    // The second value says whether a member is escaped.
    let mut members = Vec::new();
    while c != ']' || members.is_empty() {
        members.push(if c == '\\' { (next()?, true) } else { (c, false) });
        c = next()?;
    }
    let mut rest = members.as_slice();
    while let [(from, _), others @ ..] = rest {
        let to = match others {
            [('-', false), (to, _), more @ ..] => {
                rest = more;
                to
            }
            _ => {
                rest = others;
                from
            }
        };
        if to < from {
            return Err(GlobError::Reversed(*from, *to));
        }
        out.push_str(&format!("\\x{{{:x}}}-\\x{{{:x}}}", u32::from(*from), u32::from(*to)));
    }
    out.push(']');
    Ok(())
}

fn literal(c: char, out: &mut String) {
    out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Glob::new(pattern).unwrap().is_match(name)
    }

    #[test]
    fn wildcards_match() {
        for (pattern, yes, no) in [
            ("*.txt", &["a.txt", "x y.txt"][..], &["txt", "a.txt.gz", "a.TXT"][..]),
            ("a?c", &["abc", "a\u{e9}c", "a*c"], &["ac", "abbc"]),
            ("[a-c]x", &["ax", "cx"], &["dx", "x"]),
            ("[!a]x", &["bx"], &["ax"]),
            ("{one,two}*", &["one", "two2"], &["three"]),
            ("x{,y}", &["x", "xy"], &["xyy"]),
            ("a\\*b", &["a*b"], &["axb"]),
            ("**", &["anything"], &[]),
            ("plain", &["plain"], &["plainer"]),
            ("[]a-]+(b)", &["]+(b)", "-+(b)"], &["b+(b)"]),
            ("[\\]-a]", &["]", "a", "_"], &["-", "b"]),
            ("[\u{e0}-\u{ef}]", &["\u{e9}"], &["e"]),
            ("a}b,c*", &["a}b,c"], &["ab"]),
        ] {
            yes.iter().for_each(|name| assert!(matches(pattern, name), "{pattern} {name}"));
            no.iter().for_each(|name| assert!(!matches(pattern, name), "{pattern} {name}"));
        }
    }

    #[test]
    fn wildcards_do_not_match_a_leading_dot() {
        for (pattern, name, is_match) in [
            ("*", ".hidden", false),
            ("?hidden", ".hidden", false),
            ("[!a]hidden", ".hidden", false),
            (".*", ".hidden", true),
            (".h*", ".hidden", true),
            ("{.a,b}*", ".ab", true),
            ("*.*", ".x.y", false),
        ] {
            assert_eq!(matches(pattern, name), is_match, "{pattern} {name}");
        }
    }

    #[test]
    fn matching_takes_linear_time() {
        let begun = std::time::Instant::now();
        let pattern = format!("{}b", "*a".repeat(60));
        assert!(!matches(&pattern, &"a".repeat(255)));
        assert!(begun.elapsed() < std::time::Duration::from_secs(5));
    }

    #[test]
    fn invalid_and_large_patterns_are_rejected() {
        let deep = format!("{}{}", "{a,".repeat(1000), "}".repeat(1000));
        for (bad, error) in [
            ("[a", GlobError::OpenClass),
            ("[", GlobError::OpenClass),
            ("{a", GlobError::OpenBrace),
            ("a\\", GlobError::Backslash),
            ("[b-a]", GlobError::Reversed('b', 'a')),
            (deep.as_str(), GlobError::TooLarge),
            (&"?".repeat(5000), GlobError::TooLarge),
        ] {
            assert_eq!(Glob::new(bad).unwrap_err(), error, "{bad:.20}");
        }
    }

    #[test]
    fn special_characters_make_a_pattern() {
        assert!(["*", "a?", "[a]", "{a}", "\\a"].into_iter().all(is_pattern));
        assert!(["", "a", "a.b", "]", "}"].into_iter().all(|name| !is_pattern(name)));
    }
}
