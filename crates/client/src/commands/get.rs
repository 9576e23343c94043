//! Fetching files: `get`.

use std::time::Instant;

use lexopt::ValueExt;
use relais_proto::{ErrorCode, TreePath};

use super::each_name::{self, UsedTargets};
use super::{Command, CompletionKind, OptionValue, cat, options};
use crate::outcome::{BatchSummary, CommandOutcome, Received};
use crate::output::ContentMode;
use crate::receive::DownloadJob;
use crate::shell::Shell;
use crate::{Failure, Result};

pub const GET: Command = Command {
    name: "get",
    aliases: &[],
    usage: "get [-r] REMOTE... [-o LOCAL]",
    summary: "fetch files",
    help: "A file gets its name when it is complete and its digest is verified. Until then\n\
           it has a temporary name. An interrupted download resumes from another server, or when\n\
           the same get runs again.\n\
           -o names the local file, or the folder for the files; - is standard output.\n\
           An existing file is replaced. -r fetches folders recursively.\n\n\
           Example: get big.bin 'two words.txt' -o /tmp/",
    options: &[("-r", OptionValue::Nothing), ("-o", OptionValue::Local)],
    completes: CompletionKind::Remote,
    run: get,
};

/// The arguments of `get`.
#[derive(Debug, Default, PartialEq, Eq)]
struct GetArgs {
    names: Vec<String>,
    into: Option<String>,
    recursive: bool,
}

fn get(shell: &mut Shell, args: Vec<String>) -> Result<CommandOutcome> {
    let GetArgs { names, into, recursive } = read(args)?;
    let into = into.as_deref();
    if into == Some("-") {
        shell.output.begin_content(ContentMode::Reported);
        return cat::show(shell, &names);
    }
    if names.len() > 1 && into.is_some() {
        // One check before the first download gives one message instead of one for each name.
        shell.local.target("x", into, true)?;
    }
    match names.as_slice() {
        names if recursive => trees(shell, names, into).map(CommandOutcome::Batch),
        [name] => one(shell, name, into, &mut UsedTargets::default()).map(CommandOutcome::Received),
        names => {
            let mut used = UsedTargets::default();
            all(shell, names, &mut |shell, name| one(shell, name, into, &mut used))
                .map(CommandOutcome::Batch)
        }
    }
}

fn read(args: Vec<String>) -> Result<GetArgs> {
    let mut read = GetArgs::default();
    read.names = options::at_least_one(options::names(args, &mut |option, parser| {
        match option {
            "-o" => read.into = Some(parser.value()?.string()?),
            "-r" => read.recursive = true,
            _ => return Ok(false),
        }
        Ok(true)
    })?)?;
    if read.recursive && read.into.as_deref() == Some("-") {
        fail!(
            Usage,
            "folders cannot go to standard output; a local folder called - is written ./-"
        );
    }
    Ok(read)
}

fn one(
    shell: &mut Shell,
    name: &str,
    into: Option<&str>,
    used: &mut UsedTargets,
) -> Result<Received> {
    let path = shell.resolve_remote(name)?;
    let job = job(shell, name, path, into)?;
    used.once(&job.target.shown(), &job.remote.to_string(), || {
        let received = shell.receive_named(&job);
        received.map_err(|failure| suggest(name, shell.explain(&job.remote, failure)))
    })
}

/// Adds a hint to the failure: a folder needs `-r`, a pattern needs `mget`.
fn suggest(name: &str, failure: Failure) -> Failure {
    let more = match failure.code {
        ErrorCode::IsFolder => "get -r fetches folders",
        ErrorCode::NotFound if name.contains(['*', '?', '[', '{']) => "mget takes patterns",
        _ => return failure,
    };
    Failure { message: format!("{}; {more}", failure.message), ..failure }
}

fn job(shell: &Shell, name: &str, path: TreePath, into: Option<&str>) -> Result<DownloadJob> {
    let Some(last) = path.last().filter(|_| !name.ends_with('/')) else {
        fail!(IsFolder, "{name} is a folder; get -r fetches folders");
    };
    let target = shell.local.target(last, into, false)?;
    let log_name = shell.local.log_name(&target)?;
    Ok(DownloadJob { remote: path, target, log_name })
}

/// Fetches one name.
pub type FetchOne<'a> = &'a mut dyn FnMut(&mut Shell, &str) -> Result<Received>;

/// Fetches each name; a failure is reported and does not stop the others.
pub fn all(shell: &mut Shell, names: &[String], one: FetchOne<'_>) -> Result<BatchSummary> {
    let (begun, mut fetched) = (Instant::now(), BatchSummary::default());
    let failed = each_name::each(shell, names, &mut |shell, name| {
        let file = one(shell, name)?;
        fetched.add(&file);
        shell.output.received(&file)
    })?;
    // Failed names are shown as full paths too, where they have one.
    Ok(BatchSummary {
        time: begun.elapsed(),
        failed: each_name::with_paths(shell, failed),
        ..fetched
    })
}

/// Fetches folders recursively.
fn trees(shell: &mut Shell, names: &[String], into: Option<&str>) -> Result<BatchSummary> {
    let (begun, mut fetched) = (Instant::now(), BatchSummary::default());
    let mut used = UsedTargets::default();
    let mut fetch = |shell: &mut Shell, name: &str| {
        let path = shell.resolve_remote(name)?;
        used.once(path.last().unwrap_or("/"), &path.to_string(), || {
            fetched.merge(
                shell.get_tree(&path, into).map_err(|failure| shell.explain(&path, failure))?,
            );
            Ok(())
        })
    };
    let failed = match names {
        [name] => fetch(shell, name).map(|()| Vec::new())?,
        names => each_name::each(shell, names, &mut fetch)?,
    };
    fetched.failed.extend(each_name::with_paths(shell, failed));
    Ok(BatchSummary { time: begun.elapsed(), ..fetched })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_parsed() {
        let args = |args: &[&str]| read(args.iter().map(|w| w.to_string()).collect());
        let read = |names: &[&str]| args(names).map(|args| (args.names, args.into, args.recursive));
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
