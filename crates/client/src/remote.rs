//! Resolution of remote names against the current remote folder.
//!
//! `.` and `..` are resolved here and never sent. A name above the root is an error, because
//! treating it as the root would transfer or list the wrong files.

use relais_proto::TreePath;

use crate::{Failure, Result};

/// Resolves `text` in `folder`.
///
/// A leading `/` starts at the root. Repeated and trailing slashes are ignored.
///
/// # Errors
/// The name is empty, above the root, or breaks the rules for names.
pub fn resolve(folder: &TreePath, text: &str) -> Result<TreePath> {
    if text.is_empty() {
        fail!(BadName, "the name is empty");
    }
    let mut path = if text.starts_with('/') { TreePath::root() } else { folder.clone() };
    for part in text.split('/') {
        path = match part {
            "" | "." => path,
            ".." => match path.split_last() {
                Some((parent, _)) => parent,
                None => {
                    fail!(BadName, "{text} is above the root");
                }
            },
            name => path.join(name).map_err(|e| Failure::from(e).of(text))?,
        };
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(folder: &str, text: &str) -> Result<String, String> {
        resolve(&TreePath::new(folder).unwrap(), text).map(|p| p.to_string()).map_err(|e| e.message)
    }

    #[test]
    fn names_are_resolved_against_the_folder() {
        for (folder, text, path) in [
            ("", "a", "/a"),
            ("a/b", "c", "/a/b/c"),
            ("a/b", "/c", "/c"),
            ("a/b", "..", "/a"),
            ("a/b", "../../c", "/c"),
            ("a/b", "./.././b//x/", "/a/b/x"),
            ("", "/", "/"),
            ("a", ".", "/a"),
            ("a", "...", "/a/..."),
            ("", "-r", "/-r"),
        ] {
            assert_eq!(at(folder, text).unwrap(), path, "{text} in {folder}");
        }
    }

    #[test]
    fn names_above_the_root_are_errors() {
        for (folder, text) in [("", ".."), ("a", "../.."), ("a/b", "/../c"), ("", "x/../../x")] {
            assert!(at(folder, text).unwrap_err().contains("above the root"), "{text}");
        }
    }

    #[test]
    fn names_that_break_the_rules_are_refused() {
        for text in ["", "a\nb", ".relais/x", &"x".repeat(256)] {
            assert!(at("", text).is_err(), "{text:?}");
        }
    }
}
