//! Patterns for names: `*`, `?`, `[...]`, `{a,b}`, and a backslash before a literal character.
//!
//! Each part of a path has its own regular expression. The automaton matches in linear time, so no
//! pattern is slow, and none matches across a `/`. A wildcard matches characters, not bytes. Pure
//! functions.

use regex::{Regex, RegexBuilder};

use crate::Result;
use crate::shell_words::quote;

/// Longest pattern in bytes: the longest path.
const MAX_PATTERN: usize = relais_proto::limits::PATH;
/// Characters that make a part a pattern.
const SPECIAL: [char; 5] = ['*', '?', '[', '{', '\\'];
/// Largest automaton of one part, in bytes.
const MAX_AUTOMATON: usize = 1024 * 1024;
/// Deepest nesting of braces.
const MAX_NESTING: u32 = 64;

/// A path with wildcards.
#[derive(Debug, Clone)]
pub struct Pattern {
    /// The pattern as the user typed it.
    text: String,
    /// Whether the pattern begins at the root.
    pub absolute: bool,
    /// Parts from the root down.
    pub parts: Vec<PatternPart>,
}

/// One part of a pattern.
#[derive(Debug, Clone)]
pub enum PatternPart {
    /// The parent folder.
    Up,
    /// Exactly this name.
    Name(String),
    /// All names that match.
    Glob(Regex),
}

impl Pattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// The pattern is invalid or too large, which is a usage error.
    pub fn new(text: &str) -> Result<Self> {
        let wrong = |why: &str| failure!(Usage, "{}: {why}", quote(text));
        if text.len() > MAX_PATTERN {
            fail!(Usage, "a pattern is longer than {MAX_PATTERN} bytes");
        }
        let parts = text.split('/').filter(|part| !matches!(*part, "" | "."));
        let parts = parts
            .map(|part| PatternPart::new(part).map_err(|why| wrong(&why)))
            .collect::<Result<Vec<_>, _>>()?;
        match parts.last() {
            None | Some(PatternPart::Up) => Err(wrong("the pattern names no files")),
            Some(_) => Ok(Self { text: text.to_owned(), absolute: text.starts_with('/'), parts }),
        }
    }

    /// Returns the pattern quoted for a command line.
    pub fn quoted(&self) -> String {
        quote(&self.text).into_owned()
    }
}

impl PatternPart {
    fn new(text: &str) -> Result<Self, String> {
        if text == ".." {
            return Ok(Self::Up);
        }
        if !text.contains(SPECIAL) {
            return Ok(Self::Name(text.to_owned()));
        }
        let expression = translate(text)?;
        let built = RegexBuilder::new(&expression)
            .size_limit(MAX_AUTOMATON)
            .nest_limit(MAX_NESTING)
            .build();
        built.map(Self::Glob).map_err(|_| "the pattern is too large".to_owned())
    }

    /// Whether a name matches. A wildcard never matches a leading dot.
    pub fn is_match(&self, name: &str) -> bool {
        match self {
            Self::Up => false,
            Self::Name(own) => own == name,
            // If a wildcard matches the dot, it also matches a character that no name contains.
            Self::Glob(glob) => {
                glob.is_match(name)
                    && name
                        .strip_prefix('.')
                        .is_none_or(|rest| !glob.is_match(&format!("\u{1}{rest}")))
            }
        }
    }
}

/// Translates a part with wildcards into a regular expression.
fn translate(text: &str) -> Result<String, String> {
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
            '\\' => literal(chars.next().ok_or("nothing follows the backslash")?, &mut out),
            other => literal(other, &mut out),
        }
    }
    if open > 0 {
        return Err("a { has no }".to_owned());
    }
    out.push_str(")$");
    Ok(out)
}

/// Translates a character class after its `[`. A leading `]` is a member.
fn class(chars: &mut std::str::Chars<'_>, out: &mut String) -> Result<(), String> {
    let mut next = || chars.next().ok_or_else(|| "a [ has no ]".to_owned());
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
            return Err(format!("the range {from}-{to} is reversed"));
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
        Pattern::new(pattern).unwrap().parts.last().unwrap().is_match(name)
    }

    #[test]
    fn wildcards_match_within_one_part() {
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
    fn pattern_paths_are_split() {
        let pattern = Pattern::new("/a//./*/../b?").unwrap();
        assert!(pattern.absolute && pattern.quoted() == "'/a//./*/../b?'");
        assert!(matches!(
            pattern.parts.as_slice(),
            [PatternPart::Name(_), PatternPart::Glob(_), PatternPart::Up, PatternPart::Glob(_)]
        ));
    }

    #[test]
    fn invalid_and_large_patterns_are_rejected() {
        let deep = format!("{}{}", "{a,".repeat(1000), "}".repeat(1000));
        let long = "?".repeat(5000);
        for bad in ["", "/", "..", "a/..", "[a", "{a", "a\\", "[b-a]", "{a/b,c}", &deep, &long] {
            assert_eq!(Pattern::new(bad).unwrap_err().status(), 2, "{bad:.20}");
        }
    }

    #[test]
    fn matching_takes_linear_time() {
        let begun = std::time::Instant::now();
        let pattern = format!("{}b", "*a".repeat(60));
        assert!(!matches(&pattern, &"a".repeat(255)));
        assert!(begun.elapsed() < std::time::Duration::from_secs(5));
    }
}
