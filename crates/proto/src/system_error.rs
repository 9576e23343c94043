//! System errors as users read them.

use std::io;

/// Returns the system's words for an error, in lower case and without its number. A directory is
/// called a folder, as everywhere in this program.
///
/// Rust appends the number, such as ` (os error 13)`. The words name the same error, so the number
/// tells users nothing. The text of an error that is not the system's stays as it is.
#[must_use]
pub fn system_error_text(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error ") {
        Some((words, _)) if error.raw_os_error().is_some() => {
            words.to_ascii_lowercase().replace("directory", "folder")
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_errors_lose_their_number() {
        let denied = io::Error::from_raw_os_error(13);
        assert_eq!(system_error_text(&denied), "permission denied");
        let missing = io::Error::from_raw_os_error(2);
        assert_eq!(system_error_text(&missing), "no such file or folder");
        let own = io::Error::other("Not (os error 13) ours");
        assert_eq!(system_error_text(&own), "Not (os error 13) ours");
    }
}
