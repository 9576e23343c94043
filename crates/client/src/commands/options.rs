//! Parsing of the options and names of a command; options may stand anywhere before `--`.

use lexopt::{Arg, Parser, ValueExt};
use relais_proto::{Expect, Lsn};

use crate::{Failure, Result};

/// Splits arguments into options, which are passed to `take`, and names.
///
/// `take` returns whether it knows the option, and may read its value from the parser.
///
/// # Errors
/// An option is unknown, or lacks its value.
pub fn names(
    args: Vec<String>,
    take: &mut dyn FnMut(&str, &mut Parser) -> Result<bool, lexopt::Error>,
) -> Result<Vec<String>> {
    let mut parser = Parser::from_args(args);
    let mut names = Vec::new();
    loop {
        let option = match parser.next().map_err(wrong)? {
            None => return Ok(names),
            Some(Arg::Value(name)) => {
                names.push(name.string().map_err(wrong)?);
                continue;
            }
            Some(Arg::Short(letter)) => format!("-{letter}"),
            Some(Arg::Long(word)) => format!("--{word}"),
        };
        if !take(&option, &mut parser).map_err(wrong)? {
            fail!(Usage, "unknown option {option}");
        }
    }
}

/// Knows no options.
pub fn none(_: &str, _: &mut Parser) -> Result<bool, lexopt::Error> {
    Ok(false)
}

/// Reads `--if-version V`, the precondition of a change; false for another option.
///
/// # Errors
/// The value is missing, or no version as `ls --json` and `stat` show it, such as `1-42`.
pub fn if_version(
    option: &str,
    parser: &mut Parser,
    expect: &mut Expect,
) -> Result<bool, lexopt::Error> {
    if option != "--if-version" {
        return Ok(false);
    }
    let text = parser.value()?.string()?;
    let number =
        |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    let version = text.split_once('-').and_then(|(epoch, count)| {
        Some(Lsn { epoch: u32::try_from(number(epoch)?).ok()?, number: number(count)? })
    });
    *expect = Expect::Lsn(version.ok_or_else(|| {
        format!("{text:?} is not a version; stat shows the version, such as 1-42")
    })?);
    Ok(true)
}

/// Returns the only name, if there is one.
///
/// # Errors
/// There are several names.
pub fn at_most_one(mut names: Vec<String>) -> Result<Option<String>> {
    if names.len() > 1 {
        fail!(Usage, "too many names");
    }
    Ok(names.pop())
}

/// Returns the names.
///
/// # Errors
/// There is no name.
pub fn at_least_one(names: Vec<String>) -> Result<Vec<String>> {
    if names.is_empty() { Err(failure!(Usage, "a name is missing")) } else { Ok(names) }
}

#[allow(clippy::needless_pass_by_value, reason = "fits map_err")]
fn wrong(error: lexopt::Error) -> Failure {
    failure!(Usage, "{error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str]) -> Result<(Vec<String>, bool, Option<String>), Failure> {
        let (mut long, mut local) = (false, None);
        let args = args.iter().map(|w| w.to_string()).collect();
        let names = names(args, &mut |option, parser| {
            match option {
                "-l" => long = true,
                "-o" => local = Some(parser.value()?.string()?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok((names, long, local))
    }

    #[test]
    fn options_stand_anywhere_before_dashes() {
        assert_eq!(
            read(&["a", "-l", "b", "-o", "x"]).unwrap(),
            (vec!["a".into(), "b".into()], true, Some("x".into()))
        );
        assert_eq!(
            read(&["-ofile", "--", "-l", "-o"]).unwrap(),
            (vec!["-l".into(), "-o".into()], false, Some("file".into()))
        );
        assert_eq!(read(&["-"]).unwrap().0, ["-"]);
    }

    #[test]
    fn mistakes_are_usage_errors() {
        assert!(read(&["-x"]).unwrap_err().message.contains("-x"));
        assert!(read(&["--long"]).unwrap_err().message.contains("--long"));
        assert_eq!(read(&["-o"]).unwrap_err().status(), 2);
        assert!(
            at_most_one(vec!["a".into(), "b".into()]).is_err() && at_least_one(vec![]).is_err()
        );
    }
}
