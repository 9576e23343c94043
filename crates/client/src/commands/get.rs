//! Fetching files: `get`.

use std::time::Instant;

use lexopt::ValueExt;
use relais_proto::{ErrorCode, TreePath};

use super::several::{self, Places};
use super::{Command, Completes, Takes, cat, options};
use crate::Failure;
use crate::outcome::{Outcome, Received, Several};
use crate::output::Content;
use crate::receive::Job;
use crate::shell::Shell;

pub const GET: Command = Command {
    name: "get",
    aliases: &[],
    usage: "get [-r] REMOTE... [-o LOCAL]",
    summary: "fetch files",
    help: "A file gets its name once it is whole and its digest was checked; until then it has a temporary one.\n\
           Cut off, it goes on from another server, or where it was when the same get is typed again.\n\
           -o names the local file, or the folder it goes into; - is standard output. An existing file is replaced.\n\
           -r fetches folders with all that is in them.\n\n\
           Example: get big.bin 'two words.txt' -o /tmp/",
    options: &[("-r", Takes::Nothing), ("-o", Takes::Local)],
    completes: Completes::Remote,
    run: get,
};

/// What was typed behind `get`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Words {
    names: Vec<String>,
    into: Option<String>,
    recursive: bool,
}

fn get(shell: &mut Shell, words: Vec<String>) -> Result<Outcome, Failure> {
    let Words { names, into, recursive } = read(words)?;
    let into = into.as_deref();
    if into == Some("-") {
        shell.output.begin_content(Content::Told);
        return cat::show(shell, &names);
    }
    if names.len() > 1 && into.is_some() {
        // Said once, before anything is fetched, rather than for each name.
        shell.local.target("x", into, true)?;
    }
    match names.as_slice() {
        names if recursive => trees(shell, names, into).map(Outcome::Several),
        [name] => one(shell, name, into, &mut Places::default()).map(Outcome::Received),
        names => {
            let mut places = Places::default();
            all(shell, names, &mut |shell, name| one(shell, name, into, &mut places))
                .map(Outcome::Several)
        }
    }
}

fn read(words: Vec<String>) -> Result<Words, Failure> {
    let mut read = Words::default();
    read.names = options::at_least_one(options::names(words, &mut |option, parser| {
        match option {
            "-o" => read.into = Some(parser.value()?.string()?),
            "-r" => read.recursive = true,
            _ => return Ok(false),
        }
        Ok(true)
    })?)?;
    if read.recursive && read.into.as_deref() == Some("-") {
        return Err(Failure::usage(
            "folders cannot go to standard output; a local folder called - is named ./-",
        ));
    }
    Ok(read)
}

fn one(
    shell: &mut Shell,
    name: &str,
    into: Option<&str>,
    places: &mut Places,
) -> Result<Received, Failure> {
    let path = shell.remote(name)?;
    let job = job(shell, name, path, into)?;
    places.once(&job.target.shown(), &job.remote.to_string(), || {
        let received = shell.receive_named(&job);
        received.map_err(|failure| suggest(name, shell.explain(&job.remote, failure)))
    })
}

/// Adds the option or command that the name needs: a folder takes `-r`, a pattern `mget`.
fn suggest(name: &str, failure: Failure) -> Failure {
    let more = match failure.code {
        ErrorCode::IsFolder => "get -r fetches folders",
        ErrorCode::NotFound if name.contains(['*', '?', '[', '{']) => "mget takes patterns",
        _ => return failure,
    };
    Failure { message: format!("{}; {more}", failure.message), ..failure }
}

fn job(shell: &Shell, name: &str, path: TreePath, into: Option<&str>) -> Result<Job, Failure> {
    let Some(last) = path.last().filter(|_| !name.ends_with('/')) else {
        return Err(Failure::new(
            ErrorCode::IsFolder,
            format!("{name} is a folder; get -r fetches folders"),
        ));
    };
    let target = shell.local.target(last, into, false)?;
    let logged = shell.local.logged(&target)?;
    Ok(Job { remote: path, target, logged })
}

/// Fetches one name.
pub type One<'a> = &'a mut dyn FnMut(&mut Shell, &str) -> Result<Received, Failure>;

/// Each name is tried; what fails is told and does not keep the others from being fetched.
pub fn all(shell: &mut Shell, names: &[String], one: One<'_>) -> Result<Several, Failure> {
    let (begun, mut fetched) = (Instant::now(), Several::default());
    let failed = several::each(shell, names, &mut |shell, name| {
        let file = one(shell, name)?;
        fetched.add(&file);
        shell.output.received(&file)
    })?;
    // As with a file that came: the whole path, or what was typed where that is none.
    Ok(Several { time: begun.elapsed(), failed: several::with_paths(shell, failed), ..fetched })
}

/// Folders with all that is in them.
fn trees(shell: &mut Shell, names: &[String], into: Option<&str>) -> Result<Several, Failure> {
    let (begun, mut fetched) = (Instant::now(), Several::default());
    let mut places = Places::default();
    let mut fetch = |shell: &mut Shell, name: &str| {
        let path = shell.remote(name)?;
        places.once(path.last().unwrap_or("/"), &path.to_string(), || {
            fetched.merge(
                shell.get_tree(&path, into).map_err(|failure| shell.explain(&path, failure))?,
            );
            Ok(())
        })
    };
    let failed = match names {
        [name] => fetch(shell, name).map(|()| Vec::new())?,
        names => several::each(shell, names, &mut fetch)?,
    };
    fetched.failed.extend(several::with_paths(shell, failed));
    Ok(Several { time: begun.elapsed(), ..fetched })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read() {
        let words = |words: &[&str]| read(words.iter().map(|w| w.to_string()).collect());
        let read =
            |names: &[&str]| words(names).map(|words| (words.names, words.into, words.recursive));
        assert_eq!(
            read(&["a", "-o", "x", "b"]).unwrap(),
            (vec!["a".into(), "b".into()], Some("x".into()), false)
        );
        assert_eq!(read(&["-r", "--", "-o"]).unwrap(), (vec!["-o".into()], None, true));
        assert_eq!(read(&["a", "-o", "-"]).unwrap().1, Some("-".into()));
        for bad in [&[][..], &["a", "-o"], &["a", "-r", "-o", "-"], &["-x", "a"], &["-o", "x"]] {
            assert_eq!(read(bad).unwrap_err().status(), 2, "{bad:?}");
        }
    }
}
