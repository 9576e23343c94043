//! Media types by the names of files.

use mime_guess::MimeGuess;

/// Returns the value of `Content-Type` for a file name (RFC 9110, section 8.3).
///
/// Text is UTF-8. A name that tells no type means bytes of any kind.
#[must_use]
pub fn of_name(name: &str) -> String {
    let guess = MimeGuess::from_path(name).first();
    match guess {
        None => "application/octet-stream".to_owned(),
        Some(mime) if mime.type_() == "text" => format!("{mime}; charset=utf-8"),
        Some(mime) => mime.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_told_by_the_last_extension() {
        for (name, expected) in [
            ("a.txt", "text/plain; charset=utf-8"),
            ("A.HTML", "text/html; charset=utf-8"),
            ("a.css", "text/css; charset=utf-8"),
            ("a.json", "application/json"),
            ("a.png", "image/png"),
            ("a.svg", "image/svg+xml"),
            ("a.tar.gz", "application/gzip"),
            ("a.mp4", "video/mp4"),
            ("a", "application/octet-stream"),
            (".txt", "application/octet-stream"),
            ("a.unknown-extension", "application/octet-stream"),
        ] {
            assert_eq!(of_name(name), expected, "{name}");
        }
    }
}
