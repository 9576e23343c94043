//! The argument of LIST, NLST and STAT: options as of `ls`, and a path or pattern.

/// Letters of `ls` that clients send; other words that begin with `-` are names.
const LETTERS: &[u8] = b"1AaCcdFgGhHiLlmnopqrRsStTuUx";

/// What LIST, NLST or STAT is to list.
///
/// RFC 959 knows no options. Clients send those of `ls` all the same, so servers accept them
/// (vsftpd, ProFTPD). Sorting and layout options change nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListOptions {
    /// `-a` or `-A`: names that begin with a dot are listed too.
    pub all: bool,
    /// `-R`: folders below are listed too.
    pub recursive: bool,
    /// Path or pattern; `None` is the current folder.
    pub path: Option<String>,
}

impl ListOptions {
    /// Splits an argument into options and path.
    ///
    /// A path that looks like options follows `--`, or begins with `./`.
    #[must_use]
    pub fn parse(argument: &str) -> Self {
        let (mut found, mut rest) = (Self::default(), argument);
        while rest.starts_with('-') {
            let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
            if word == "--" {
                rest = after;
                break;
            }
            let letters = word.as_bytes().get(1..).unwrap_or_default();
            if letters.is_empty() || !letters.iter().all(|letter| LETTERS.contains(letter)) {
                break;
            }
            found.all |= letters.contains(&b'a') || letters.contains(&b'A');
            found.recursive |= letters.contains(&b'R');
            rest = after;
        }
        found.path = (!rest.is_empty()).then(|| rest.to_owned());
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_and_paths_are_told_apart() {
        for (argument, all, recursive, path) in [
            ("", false, false, None),
            ("-a", true, false, None),
            ("-la", true, false, None),
            ("-aL", true, false, None),
            ("-l", false, false, None),
            ("-lR", false, true, None),
            ("-l -A x y", true, false, Some("x y")),
            ("-la  x", true, false, Some(" x")),
            ("-- -la", false, false, Some("-la")),
            ("-a -- -la", true, false, Some("-la")),
            ("./-la", false, false, Some("./-la")),
            ("-file.txt", false, false, Some("-file.txt")),
            ("-a -é", true, false, Some("-é")),
            ("-", false, false, Some("-")),
            ("*.txt", false, false, Some("*.txt")),
            ("a -l", false, false, Some("a -l")),
        ] {
            let path = path.map(str::to_owned);
            let expected = ListOptions { all, recursive, path };
            assert_eq!(ListOptions::parse(argument), expected, "{argument}");
        }
    }
}
