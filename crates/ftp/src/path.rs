//! Paths as clients write them.
//!
//! RFC 2640 makes every name UTF-8. `Command::parse` rejects others with 501.

use relais_proto::{NameError, TreePath, limits};
use thiserror::Error;

/// The reason why an argument names no path.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PathError {
    /// `..` leads above the root.
    #[error("the path leads above the root")]
    AboveRoot,
    /// The server's own folder: it does not exist for clients.
    #[error("no such file or folder")]
    Reserved,
    /// The path breaks a rule for names.
    #[error("{0}")]
    Name(NameError),
}

/// Resolves an argument relative to the current folder.
///
/// `/` begins at the root. Empty parts and `.` are skipped, and `..` removes the part before it
/// without a look at the tree. An empty argument is the current folder.
///
/// # Errors
/// The reason why the argument names no path. Nothing else is resolved instead.
pub fn resolve(current: &TreePath, argument: &str) -> Result<TreePath, PathError> {
    let mut parts: Vec<&str> = Vec::new();
    if !argument.starts_with('/') {
        parts.extend(current.parts());
    }
    // Before the loop, so that its cost is bounded whatever the caller's cap on lines is.
    if argument.len() > limits::PATH + 1 {
        return Err(PathError::Name(NameError::PathTooLong));
    }
    for part in argument.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop().ok_or(PathError::AboveRoot)?),
            name => parts.push(name),
        }
    }
    TreePath::new(parts.join("/")).map_err(|error| match error {
        NameError::Reserved => PathError::Reserved,
        other => PathError::Name(other),
    })
}

/// Quotes a path for reply 257, with each `"` doubled (RFC 959, appendix II).
#[must_use]
pub fn quote(path: &TreePath) -> String {
    format!("\"{}\"", path.to_string().replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(current: &str, argument: &str) -> Result<String, PathError> {
        resolve(&TreePath::new(current).unwrap(), argument).map(|path| path.to_string())
    }

    #[test]
    fn paths_are_relative_or_absolute() {
        for (current, argument, path) in [
            ("", "", "/"),
            ("a/b", "", "/a/b"),
            ("a/b", "c", "/a/b/c"),
            ("a/b", "/c", "/c"),
            ("a/b", "..", "/a"),
            ("a/b", "../..", "/"),
            ("a/b", "./.././/c/", "/a/c"),
            ("a", "/../x", "above"),
            ("a", "../..", "above"),
            ("", "..", "above"),
            ("", "a/../../a", "above"),
            ("", "//", "/"),
            ("", " a ", "/ a "),
            ("", "-l", "/-l"),
            ("", "...", "/..."),
            ("", "~", "/~"),
        ] {
            let expected =
                if path == "above" { Err(PathError::AboveRoot) } else { Ok(path.to_owned()) };
            assert_eq!(resolved(current, argument), expected, "{current} {argument}");
        }
    }

    #[test]
    fn reserved_folder_does_not_exist() {
        for argument in [".relais", "/.Relais/x", "a/../.relais", "/.relais. "] {
            assert_eq!(resolved("", argument), Err(PathError::Reserved), "{argument}");
        }
        assert_eq!(resolved("a", ".relais"), Ok("/a/.relais".to_owned()));
    }

    #[test]
    fn bad_names_are_rejected() {
        for argument in ["a\rb", "a\nb", "a\0b", "\u{85}", &"x".repeat(256), &"x/".repeat(3000)] {
            assert!(matches!(resolved("", argument), Err(PathError::Name(_))), "{argument:?}");
        }
    }

    #[test]
    fn quotes_are_doubled() {
        let quoted = |path: &str| quote(&TreePath::new(path).unwrap());
        assert_eq!(quoted(""), "\"/\"");
        assert_eq!(quoted("usr/dm"), "\"/usr/dm\"");
        // The example of RFC 959, appendix II.
        assert_eq!(quoted("usr/dm/foo\"bar"), "\"/usr/dm/foo\"\"bar\"");
    }
}
