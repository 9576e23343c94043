//! Errors as users read them.

use std::borrow::Cow;

/// Rust's display of a system error ends in this, a number and a parenthesis.
const NUMBER: &str = " (os error ";

/// Returns an error with its causes, in the system's words and without its numbers.
#[must_use]
pub fn error_text(error: &anyhow::Error) -> String {
    without_os_numbers(&format!("{error:#}")).into_owned()
}

/// Removes the numbers that Rust appends to system errors, such as ` (os error 13)`.
///
/// The text before the number names the same error, so the number tells users nothing.
#[must_use]
pub fn without_os_numbers(text: &str) -> Cow<'_, str> {
    if !text.contains(NUMBER) {
        return Cow::Borrowed(text);
    }
    let (mut kept, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once(NUMBER) {
        kept.push_str(before);
        let digits = after.trim_start_matches(|c: char| c.is_ascii_digit());
        match digits.strip_prefix(')') {
            Some(behind) if digits.len() < after.len() => rest = behind,
            _ => {
                kept.push_str(NUMBER);
                rest = after;
            }
        }
    }
    kept.push_str(rest);
    Cow::Owned(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_texts_have_no_system_numbers() {
        let denied = std::io::Error::from_raw_os_error(13);
        let error = anyhow::Error::from(denied).context("cannot open /x");
        assert_eq!(error_text(&error), "cannot open /x: Permission denied");
        for (text, shown) in [
            ("a (os error 2); b (os error 17)", "a; b"),
            ("a (os error )", "a (os error )"),
            ("a (os error 2", "a (os error 2"),
            ("nothing to remove", "nothing to remove"),
        ] {
            assert_eq!(without_os_numbers(text), shown);
        }
    }
}
