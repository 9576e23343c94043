//! Fetching files: `get`, and `cat`, which writes them to standard output.

use relais_proto::ErrorCode;

use super::command::{Args, Command, LOCAL, ON_REMOTE_NAMES};
use super::each_name::{self, UsedTargets, resolved};
use crate::outcome::CommandOutcome;
use crate::output::ContentMode;
use crate::receive::{DownloadJob, receive, receive_to_output};
use crate::recursive::get_tree;
use crate::shell::Shell;
use crate::{Failure, Result};

pub const GET: Command = Command {
    name: "get",
    usage: "get [-r] REMOTE... [-o LOCAL]",
    summary: "fetch files",
    help: "A file gets its name when it is complete and its digest is verified. Until then\n\
           it has a temporary name. An interrupted download resumes from another server, or when\n\
           the same get runs again.\n\
           -o names the local file, or the folder for the files; - is standard output.\n\
           An existing file is replaced. -r fetches folders recursively.\n\n\
           Example: get big.bin 'two words.txt' -o /tmp/",
    options: &[("-r", None), ("-o", Some(LOCAL))],
    run: get,
    ..ON_REMOTE_NAMES
};

pub const CAT: Command = Command {
    name: "cat",
    usage: "cat REMOTE...",
    summary: "write files to standard output",
    help: "The content is written as it is, one file after the other.\n\
           The command succeeds only if the digest of all written bytes is correct.\n\n\
           Example: cat notes.txt",
    shows_content: true,
    run: cat,
    ..ON_REMOTE_NAMES
};

fn get(shell: &mut Shell, args: Args) -> Result<CommandOutcome> {
    let (names, into) = (args.names.as_slice(), args.value("-o"));
    let mut used = UsedTargets::default();
    match into {
        Some("-") if args.has("-r") => fail!(
            Usage,
            "folders cannot go to standard output; a local folder called - is written ./-"
        ),
        Some("-") => {
            shell.output.content_mode = ContentMode::Reported;
            return cat(shell, args);
        }
        // One check before the first download gives one message instead of one for each name.
        Some(into) if names.len() > 1 => drop(shell.local.target("x", Some(into), true)?),
        _ => {}
    }
    if args.has("-r") {
        return each_name::folders(shell, names, &resolved, &mut |shell, name| {
            let path = shell.resolve_remote(name)?;
            used.once(path.last().unwrap_or("/"), &path.to_string(), || {
                get_tree(shell, &path, into).map_err(|failure| shell.explain(&path, failure))
            })
        });
    }
    each_name::files(shell, names, &resolved, &mut |shell, name| {
        let path = shell.resolve_remote(name)?;
        let Some(last) = path.last().filter(|_| !name.ends_with('/')) else {
            fail!(IsFolder, "{name} is a folder; get -r fetches folders");
        };
        let target = shell.local.target(last, into, false)?;
        let log_name = shell.local.log_name(&target)?;
        let job = DownloadJob { remote: path, target, log_name };
        used.once(&job.target.shown(), &job.remote.to_string(), || {
            let received = receive(shell, &job);
            received.map_err(|failure| suggest(name, shell.explain(&job.remote, failure)))
        })
    })
}

fn cat(shell: &mut Shell, args: Args) -> Result<CommandOutcome> {
    each_name::files(shell, &args.names, &resolved, &mut |shell, name| {
        let path = shell.resolve_remote(name)?;
        if path.is_root() || name.ends_with('/') {
            fail!(IsFolder, "{name} is a folder");
        }
        let shown = receive_to_output(shell, &path);
        shown.map_err(|failure| shell.explain(&path, failure))
    })
}

/// Adds a hint to the failure: a folder needs `-r`, a pattern needs `mget`.
fn suggest(name: &str, failure: Failure) -> Failure {
    let more = match failure.code {
        ErrorCode::IsFolder => "get -r fetches folders",
        ErrorCode::NotFound if name.contains(['*', '?', '[', '{']) => "mget takes patterns",
        _ => return failure,
    };
    failure.and(more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_parsed() {
        let read = |words: &[&str]| -> Result<(bool, Vec<String>, Option<String>)> {
            let args = GET.args(words)?;
            let into = args.value("-o").map(str::to_owned);
            Ok((args.has("-r"), args.names, into))
        };
        assert_eq!(
            read(&["a", "-o", "x", "b"]).unwrap(),
            (false, vec!["a".into(), "b".into()], Some("x".into()))
        );
        assert_eq!(read(&["-r", "--", "-o"]).unwrap(), (true, vec!["-o".into()], None));
        assert_eq!(read(&["a", "-o", "-"]).unwrap().2, Some("-".into()));
        for bad in [&[][..], &["a", "-o"], &["-x", "a"], &["-o", "x"]] {
            assert_eq!(read(bad).unwrap_err().status(), 2, "{bad:?}");
        }
    }
}
