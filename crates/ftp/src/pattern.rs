//! Patterns in the argument of LIST, NLST and STAT.

use relais_glob::{Glob, is_pattern};

/// A pattern for the names of one folder.
///
/// Only the last part of an argument can be a pattern; those before it are names. Its cost is
/// linear in pattern and name (`relais_glob`).
#[derive(Debug, Clone)]
pub struct Pattern<'a> {
    /// Path of the folder as the client wrote it: with a final `/`, or empty.
    pub folder: &'a str,
    glob: Glob,
}

impl<'a> Pattern<'a> {
    /// Splits an argument; `None` if its last part has no wildcards, or invalid ones.
    ///
    /// A caller looks for an entry of this very name first, because names can contain `[` and the
    /// like.
    #[must_use]
    pub fn parse(argument: &'a str) -> Option<Self> {
        let split = argument.rfind('/').map_or(0, |slash| slash + 1);
        let (folder, last) = argument.split_at(split);
        if !is_pattern(last) {
            return None;
        }
        Some(Self { folder, glob: Glob::new(last).ok()? })
    }

    /// Returns whether a name matches. A wildcard never matches a leading dot.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.glob.is_match(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_part_is_the_pattern() {
        let pattern = Pattern::parse("/a*/b/*.tx?").unwrap();
        assert_eq!(pattern.folder, "/a*/b/");
        assert!(
            pattern.matches("x.txt") && !pattern.matches("x.text") && !pattern.matches(".x.txt")
        );
        assert_eq!(Pattern::parse("[a-c]*").unwrap().folder, "");
        for name in ["", "/", "a", "a*/", "a*/b", "[", "[b-a]", "a\\"] {
            assert!(Pattern::parse(name).is_none(), "{name}");
        }
    }
}
