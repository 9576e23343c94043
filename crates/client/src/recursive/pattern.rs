//! Paths with patterns. Each part has its own [`Glob`], so none matches across a `/`.

use relais_glob::{Glob, is_pattern};

use crate::Result;
use crate::shell_words::quote;

/// Longest pattern in bytes: the longest path.
const MAX_PATTERN: usize = relais_proto::limits::PATH;

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
    Glob(Glob),
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
        if !is_pattern(text) {
            return Ok(Self::Name(text.to_owned()));
        }
        Glob::new(text).map(Self::Glob).map_err(|error| error.to_string())
    }

    /// Whether a name matches. A wildcard never matches a leading dot.
    pub fn is_match(&self, name: &str) -> bool {
        match self {
            Self::Up => false,
            Self::Name(own) => own == name,
            Self::Glob(glob) => glob.is_match(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_paths_are_split() {
        let pattern = Pattern::new("/a//./*/../b?").unwrap();
        assert!(pattern.absolute && pattern.quoted() == "'/a//./*/../b?'");
        assert!(matches!(
            pattern.parts.as_slice(),
            [PatternPart::Name(_), PatternPart::Glob(_), PatternPart::Up, PatternPart::Glob(_)]
        ));
        let names = ["a", "x", ".x", "bc"];
        let matched = |part: &PatternPart| names.map(|name| part.is_match(name));
        assert_eq!(
            pattern.parts.iter().map(matched).collect::<Vec<_>>(),
            [
                [true, false, false, false],
                [true, true, false, true],
                [false; 4],
                [false, false, false, true]
            ]
        );
    }

    #[test]
    fn invalid_and_large_patterns_are_rejected() {
        let deep = format!("{}{}", "{a,".repeat(1000), "}".repeat(1000));
        let long = "?".repeat(5000);
        for bad in ["", "/", "..", "a/..", "[a", "{a", "a\\", "[b-a]", "{a/b,c}", &deep, &long] {
            assert_eq!(Pattern::new(bad).unwrap_err().status(), 2, "{bad:.20}");
        }
    }
}
