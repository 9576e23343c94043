//! Fetching files: `get`.

use std::time::Instant;

use lexopt::ValueExt;
use relais_proto::{ErrorCode, TreePath};

use super::{Command, Completes, options};
use crate::Failure;
use crate::outcome::{Failed, Outcome, Received, Several};
use crate::receive::Job;
use crate::shell::Shell;

pub const GET: Command = Command {
    name: "get",
    aliases: &[],
    usage: "get REMOTE... [-o LOCAL]",
    summary: "fetch files",
    help: "A file gets its name once it is whole and its digest was checked; until then it has a temporary one.\n\
           Cut off, it goes on from another server, or where it was when the same get is typed again.\n\
           -o names the local file, or the folder it goes into. An existing file is replaced.\n\n\
           Example: get big.bin 'two words.txt' -o /tmp/",
    options: &[("-o", true)],
    completes: Completes::Remote,
    run: get,
};

fn get(shell: &mut Shell, words: Vec<String>) -> Result<Outcome, Failure> {
    let (names, into) = read(words)?;
    let several = names.len() > 1;
    if several && let Some(into) = &into {
        // Said once, before anything is fetched, rather than for each name.
        shell.local.target("x", Some(into), true)?;
    }
    match names.as_slice() {
        [name] => one(shell, name, into.as_deref(), false).map(Outcome::Received),
        names => all(shell, names, into.as_deref()).map(Outcome::Several),
    }
}

fn read(words: Vec<String>) -> Result<(Vec<String>, Option<String>), Failure> {
    let mut into = None;
    let names = options::names(words, &mut |option, parser| {
        if option != "-o" {
            return Ok(false);
        }
        into = Some(parser.value()?.string()?);
        Ok(true)
    })?;
    if into.as_deref() == Some("-") {
        return Err(Failure::usage("get cannot write to standard output; a file called - is named ./-"));
    }
    Ok((options::at_least_one(names)?, into))
}

fn one(shell: &mut Shell, name: &str, into: Option<&str>, several: bool) -> Result<Received, Failure> {
    let path = shell.remote(name)?;
    let job = job(shell, name, path, into, several)?;
    shell.receive_named(&job).map_err(|failure| shell.explain(&job.remote, failure))
}

fn job(shell: &Shell, name: &str, path: TreePath, into: Option<&str>, several: bool) -> Result<Job, Failure> {
    let Some(last) = path.last().filter(|_| !name.ends_with('/')) else {
        return Err(Failure::new(ErrorCode::IsFolder, format!("{name} is a folder; get fetches files")));
    };
    let target = shell.local.target(last, into, several)?;
    let logged = shell.local.logged(&target)?;
    Ok(Job { remote: path, target, logged })
}

/// Each name is tried; what fails is told and does not keep the others from being fetched.
fn all(shell: &mut Shell, names: &[String], into: Option<&str>) -> Result<Several, Failure> {
    let (begun, mut several) = (Instant::now(), Several::default());
    for name in names {
        let failure = match one(shell, name, into, true) {
            Ok(file) => {
                shell.output.received(&file)?;
                several.add(&file);
                continue;
            }
            Err(failure) => failure,
        };
        shell.output.failed(&failure);
        let interrupted = failure.code == ErrorCode::Interrupted;
        // As with a file that came: the whole path, or what was typed where that is none.
        let remote = shell.remote(name).map_or_else(|_| name.clone(), |path| path.to_string());
        several.failed.push(Failed { remote, failure });
        if interrupted {
            break;
        }
    }
    several.time = begun.elapsed();
    Ok(several)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read() {
        let read = |words: &[&str]| read(words.iter().map(|w| w.to_string()).collect());
        assert_eq!(read(&["a", "-o", "x", "b"]).unwrap(), (vec!["a".into(), "b".into()], Some("x".into())));
        assert_eq!(read(&["--", "-o"]).unwrap(), (vec!["-o".into()], None));
        assert_eq!(read(&["a", "-o", "./-"]).unwrap().1, Some("./-".into()));
        for bad in [&[][..], &["a", "-o"], &["a", "-o", "-"], &["-x", "a"], &["-o", "x"]] {
            assert_eq!(read(bad).unwrap_err().status(), 2, "{bad:?}");
        }
    }
}
