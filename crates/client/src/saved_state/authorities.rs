//! The known authorities: a text file like `known_hosts`, one line for each host.

use relais_net::tls::Fingerprint;

/// Name of the file.
pub const NAME: &str = "authorities";
/// Longest text that is written, in bytes; the reader accepts it.
pub const MAX_FILE_SIZE: usize = 60 * 1024;

/// Finds the authority of `host`; any invalid line is an error.
pub fn find(text: &str, host: &str) -> Result<Option<Fingerprint>, String> {
    let mut found = None;
    for (line, n) in text.lines().zip(1..) {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let bad = || format!("line {n} is not HOST:PORT SHA256:…");
        let (of, print) = line.split_once(' ').ok_or_else(bad)?;
        let print: Fingerprint = print.trim().parse().map_err(|_| bad())?;
        if of == host && found.replace(print).is_some() {
            return Err(format!("{host} is listed twice"));
        }
    }
    Ok(found)
}

/// Returns the text with one more line.
pub fn add(text: &str, host: &str, authority: Fingerprint) -> String {
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    format!("{text}{end}{host} {authority}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(digit: char) -> Fingerprint {
        format!("SHA256:{}", digit.to_string().repeat(64)).parse().unwrap()
    }

    #[test]
    fn added_authority_is_found() {
        let text = add(&add("# mine", "a:1", print('1')), "[::1]:2", print('f'));
        assert_eq!(text.lines().count(), 3);
        assert_eq!(
            (find(&text, "a:1"), find(&text, "[::1]:2"), find(&text, "a:2")),
            (Ok(Some(print('1'))), Ok(Some(print('f'))), Ok(None))
        );
        assert_eq!(find("", "a:1"), Ok(None));
        assert_eq!(find("\n# a:1\n\n", "a:1"), Ok(None));
    }

    #[test]
    fn any_bad_line_is_an_error() {
        let good = add("", "a:1", print('1'));
        for bad in [
            "x",
            "a:1",
            "a:1 SHA256:00",
            "b:1 SHA512:00",
            &format!("a:1 SHA256:{}", "g".repeat(64)),
            &format!("a:1 SHA256:{}", "+1".repeat(32)),
        ] {
            assert!(find(&format!("{good}{bad}\n"), "c:1").is_err(), "{bad}");
        }
        assert!(find(&add(&good, "a:1", print('2')), "a:1").is_err());
        assert!(find(&add(&good, "a:1", print('2')), "b:1").is_ok());
    }
}
