//! Errors as users read them.

/// Rust's display of a system error ends in this, a number and a parenthesis.
const NUMBER: &str = " (os error ";

/// Returns an error with its causes, in the system's words and without its numbers.
#[must_use]
pub fn error_text(error: &anyhow::Error) -> String {
    without_os_numbers(&format!("{error:#}"))
}

/// Removes the numbers that Rust appends to system errors, such as ` (os error 13)`. A missing file
/// is named as by the other messages.
///
/// The text before the number names the same error, so the number tells users nothing.
#[must_use]
pub fn without_os_numbers(text: &str) -> String {
    let mut parts = text.split(NUMBER);
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(')') {
            Some((digits, rest)) if digits.parse::<u32>().is_ok() => kept.push_str(rest),
            _ => kept.extend([NUMBER, part]),
        }
    }
    kept.replace("No such file or directory", "no such file or folder")
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
            ("No such file or directory (os error 2)", "no such file or folder"),
            ("a (os error )", "a (os error )"),
            ("a (os error 2", "a (os error 2"),
            ("nothing to remove", "nothing to remove"),
        ] {
            assert_eq!(without_os_numbers(text), shown);
        }
    }
}
