//! Rules for names of files and folders. No other module decides which names are allowed.

use std::fmt;

use thiserror::Error;

use crate::limits;

/// Reason why a name is rejected.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// A part is empty, as in `a//b`, or the path begins or ends with `/`.
    #[error("a part of the path is empty")]
    EmptyPart,
    /// A part is longer than 255 bytes.
    #[error("a part of the path is longer than {} bytes", limits::NAME_PART)]
    PartTooLong,
    /// The path is longer than 4,095 bytes.
    #[error("the path is longer than {} bytes", limits::PATH)]
    PathTooLong,
    /// A part is `.` or `..`.
    #[error("`.` and `..` are not names")]
    Dots,
    /// A part contains NUL, another control character or `/`.
    #[error("the name holds a control character")]
    Control,
    /// The first part is the server's own folder.
    #[error("`.relais` is the server's own folder")]
    Reserved,
    /// The name is not UTF-8.
    #[error("the name is not UTF-8")]
    NotUtf8,
}

/// Top-level folder that the server reserves for itself.
pub const RESERVED: &str = ".relais";

/// Checks one part of a path.
///
/// A part has 1 to 255 bytes, no `/` and no control character (C0, DEL, C1), and is not `.` or
/// `..`.
///
/// # Errors
/// The rule that the part breaks.
pub fn check_part(part: &str) -> Result<(), NameError> {
    match part {
        "" => Err(NameError::EmptyPart),
        "." | ".." => Err(NameError::Dots),
        _ if part.len() > limits::NAME_PART => Err(NameError::PartTooLong),
        _ if part.chars().any(|c| c == '/' || c.is_control()) => Err(NameError::Control),
        _ => Ok(()),
    }
}

/// Returns whether a top-level part is the server's own folder on some file system.
///
/// The check covers spellings that a case-folding file system treats as the same name. ext4 and
/// f2fs fold case and skip invisible characters. FAT drops trailing dots and spaces.
fn is_reserved(part: &str) -> bool {
    let shown = part.trim_end_matches(|c| c == '.' || c == ' ' || is_ignorable(c));
    shown.chars().filter(|c| !is_ignorable(*c)).map(fold).eq(RESERVED.chars())
}

/// Folds the letters of the reserved name to lower case.
///
/// The long s is the only letter outside ASCII that folds to one of them.
fn fold(c: char) -> char {
    if c == '\u{17f}' { 's' } else { c.to_ascii_lowercase() }
}

/// Returns whether Unicode calls the character default-ignorable.
fn is_ignorable(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// A checked path from the root of the tree.
///
/// `/` joins the parts, with none before the first or after the last. The empty path is the root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TreePath(String);

impl TreePath {
    /// Returns the root of the tree.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// Checks a path without a leading `/`; the empty path is the root.
    ///
    /// # Errors
    /// The rule that the path breaks.
    pub fn new(path: impl Into<String>) -> Result<Self, NameError> {
        let path = path.into();
        if path.len() > limits::PATH {
            return Err(NameError::PathTooLong);
        }
        if !path.is_empty() {
            for (depth, part) in path.split('/').enumerate() {
                check_part(part)?;
                if depth == 0 && is_reserved(part) {
                    return Err(NameError::Reserved);
                }
            }
        }
        Ok(Self(path))
    }

    /// Checks a path that the file system gives as bytes.
    ///
    /// # Errors
    /// [`NameError::NotUtf8`], or the rule that the path breaks.
    pub fn from_bytes(path: &[u8]) -> Result<Self, NameError> {
        Self::new(std::str::from_utf8(path).map_err(|_| NameError::NotUtf8)?)
    }

    /// Appends one part to the path.
    ///
    /// # Errors
    /// The rule that the longer path breaks.
    pub fn join(&self, part: &str) -> Result<Self, NameError> {
        check_part(part)?;
        if self.is_root() {
            return Self::new(part);
        }
        if self.0.len() + 1 + part.len() > limits::PATH {
            return Err(NameError::PathTooLong);
        }
        Ok(Self(format!("{}/{part}", self.0)))
    }

    /// Appends a name that the file system gives as bytes; `None` if it breaks a rule.
    #[must_use]
    pub fn join_bytes(&self, name: &[u8]) -> Option<Self> {
        self.join(std::str::from_utf8(name).ok()?).ok()
    }

    /// Returns the path relative to `top`; `None` if it lies outside.
    #[must_use]
    pub fn relative_to(&self, top: &Self) -> Option<Self> {
        if top.is_root() {
            return Some(self.clone());
        }
        match self.0.strip_prefix(&top.0)? {
            "" => Some(Self::root()),
            rest => rest.strip_prefix('/').map(|rest| Self(rest.into())),
        }
    }

    /// Returns the path after a move of `from`, which is this path or above it, to `to`.
    ///
    /// `None` if the path is elsewhere, or would become too long.
    #[must_use]
    pub fn moved(&self, from: &Self, to: &Self) -> Option<Self> {
        let rest = self.0.strip_prefix(&from.0)?;
        let is_moved = rest.is_empty() || rest.starts_with('/');
        is_moved.then(|| Self::new(format!("{}{rest}", to.0)).ok())?
    }

    /// Returns how many bytes both paths begin with, in whole characters.
    #[must_use]
    pub fn shared_with(&self, other: &Self) -> usize {
        let both = self.0.bytes().zip(other.0.bytes());
        let mut shared = both.take_while(|(own, other)| own == other).count();
        while !self.0.is_char_boundary(shared) || !other.0.is_char_boundary(shared) {
            shared -= 1;
        }
        shared
    }

    /// Keeps the first bytes and replaces the rest, without a check: both parts are those of a
    /// checked path that [`Self::shared_with`] has divided.
    pub fn replace_end(&mut self, kept: usize, end: &str) {
        self.0.truncate(kept);
        self.0.push_str(end);
    }

    /// Returns whether this is the root of the tree.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether this path lies below `other`.
    #[must_use]
    pub fn is_below(&self, other: &Self) -> bool {
        match self.0.strip_prefix(other.as_str()) {
            Some(rest) => other.is_root() && !rest.is_empty() || rest.starts_with('/'),
            None => false,
        }
    }

    /// Returns the path as text; empty for the root.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Iterates over the parts from the root down.
    pub fn parts(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/').filter(|p| !p.is_empty())
    }

    /// Returns the parent folder and the last part; `None` for the root.
    #[must_use]
    pub fn split_last(&self) -> Option<(Self, &str)> {
        if self.is_root() {
            return None;
        }
        Some(match self.0.rsplit_once('/') {
            Some((parent, last)) => (Self(parent.to_owned()), last),
            None => (Self::root(), &self.0),
        })
    }

    /// Returns the last part; `None` for the root.
    #[must_use]
    pub fn last(&self) -> Option<&str> {
        self.split_last().map(|(_, last)| last)
    }
}

impl fmt::Display for TreePath {
    /// Writes the path with a leading `/`, as users write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_ordinary_names() {
        for ok in [
            "",
            "a",
            "a/b/c",
            "-r",
            "with space",
            "\"q\"",
            "naïve/日本",
            ".hidden",
            ".log",
            "a/.relais",
            "...",
            ".relaisx",
            ".relais.x",
            ".relai",
        ] {
            assert_eq!(TreePath::new(ok).unwrap().as_str(), ok);
        }
        assert!(TreePath::new("x".repeat(255)).is_ok());
    }

    #[test]
    fn refuses_what_could_leave_the_tree() {
        for (bad, why) in [
            ("/a", NameError::EmptyPart),
            ("a/", NameError::EmptyPart),
            ("a//b", NameError::EmptyPart),
            ("/", NameError::EmptyPart),
            ("..", NameError::Dots),
            ("a/../b", NameError::Dots),
            ("./a", NameError::Dots),
            ("a\0b", NameError::Control),
            ("a\nb", NameError::Control),
            ("a\u{1b}[2J", NameError::Control),
            ("a\u{7f}", NameError::Control),
            ("a\u{9b}", NameError::Control),
            (".relais", NameError::Reserved),
            (".Relais/staging", NameError::Reserved),
            (".RELAIS", NameError::Reserved),
            (".relais.", NameError::Reserved),
            (".relais ", NameError::Reserved),
            (".relai\u{17f}", NameError::Reserved),
            (".re\u{200d}lais", NameError::Reserved),
            ("\u{feff}.relais. \u{ad}", NameError::Reserved),
        ] {
            assert_eq!(TreePath::new(bad), Err(why), "{bad:?}");
        }
        assert_eq!(TreePath::new("x".repeat(256)), Err(NameError::PartTooLong));
        assert_eq!(TreePath::new("xy/".repeat(1365) + "x"), Err(NameError::PathTooLong));
        assert_eq!(TreePath::from_bytes(b"a\xff"), Err(NameError::NotUtf8));
    }

    #[test]
    fn joins_and_splits() {
        let a = TreePath::root().join("a").unwrap();
        let b = a.join("b").unwrap();
        assert_eq!(b.to_string(), "/a/b");
        assert_eq!(b.split_last(), Some((a.clone(), "b")));
        assert_eq!(TreePath::root().split_last(), None);
        assert!(b.join("c/d").is_err());
        assert!(TreePath::root().join(".relais").is_err());
        assert_eq!(b.parts().collect::<Vec<_>>(), ["a", "b"]);
        let moved = |path: &TreePath, to: &str| path.moved(&a, &TreePath::new(to).unwrap());
        assert_eq!(moved(&b, "x/y").unwrap().as_str(), "x/y/b");
        assert_eq!(moved(&a, "x").unwrap().as_str(), "x");
        assert_eq!(moved(&TreePath::new("ab").unwrap(), "x"), None);
    }
}
