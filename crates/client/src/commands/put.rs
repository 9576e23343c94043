//! Sending files: `put`.

use std::path::Path;

use relais_proto::{ErrorCode, Expect, Kind, TreePath};

use super::command::{ANY, Args, Command, CompletionKind, NameFilter, PLAIN};
use super::each_name::{self, UsedTargets};
use crate::outcome::CommandOutcome;
use crate::recursive::put_tree;
use crate::send::{UploadJob, send, send_stream};
use crate::shell::Shell;
use crate::{Failure, Result};

pub const PUT: Command = Command {
    name: "put",
    usage: "put [-r] LOCAL... [-o REMOTE] [--if-version V]",
    summary: "send files",
    help: "The new file appears under its name when it is stored completely.\n\
           Until then the old file stays visible. An interrupted upload resumes through another\n\
           server, or when the same put runs again.\n\
           -o names the remote file, or the folder for the files. An existing file is replaced;\n\
           with --if-version only if it still has that version. -r sends folders recursively.\n\
           - sends standard input, which needs a name from -o and cannot be resumed.\n\n\
           Example: put big.bin 'two words.txt' -o /incoming/",
    options: &[
        ("-r", None),
        ("-o", Some(CompletionKind::Remote(NameFilter::All))),
        ("--if-version", Some(CompletionKind::Nothing)),
    ],
    names: (1, ANY),
    completes: CompletionKind::Local(NameFilter::All),
    run: put,
    ..PLAIN
};

/// Where files go.
#[derive(Debug, Clone)]
enum PutTarget {
    /// Into this folder, each under its own name.
    Folder(TreePath),
    /// A single file, under this name.
    Name(TreePath),
}

fn put(shell: &mut Shell, args: Args) -> Result<CommandOutcome> {
    let expect = check(&args)?;
    let (names, onto, several) = (&args.names, args.value("-o"), args.names.len() > 1);
    if *names == ["-"] {
        return input(shell, onto, expect);
    }
    let mut used = UsedTargets::default();
    if args.has("-r") {
        let slash = if several && !onto.is_some_and(|onto| onto.ends_with('/')) { "/" } else { "" };
        let onto = onto.map(|onto| format!("{onto}{slash}"));
        if several {
            // One check before the first upload gives one message instead of one for each name.
            place(shell, onto.as_deref(), true)?;
        }
        return each_name::folders(shell, names, &|_, _| None, &mut |shell, name| {
            let last = Path::new(name).file_name().unwrap_or_default().to_string_lossy();
            used.once(&last, name, || {
                if name.is_empty() {
                    fail!(Usage, "the local name is empty");
                }
                put_tree(shell, &shell.local.resolve(name), onto.as_deref())
            })
        });
    }
    let onto = place(shell, onto, several)?;
    let remote_of =
        |shell: &Shell, name: &str| Some(job(shell, name, &onto).ok()?.remote.to_string());
    each_name::files(shell, names, &remote_of, &mut |shell, name| {
        let job = UploadJob { expect, ..job(shell, name, &onto)? };
        used.once(&job.remote.to_string(), &job.shown(), || {
            send(shell, &job).map_err(|failure| suggest_pattern(name, &job.local, failure))
        })
    })
}

/// Checks the arguments, and returns what the remote file must be.
fn check(args: &Args) -> Result<Expect> {
    let is_many = args.has("-r") || args.names.len() > 1;
    let expect = args.if_version()?;
    if is_many && expect != Expect::Any {
        fail!(Usage, "--if-version is for a single file");
    }
    if args.value("-o") == Some("") {
        fail!(Usage, "the remote name is empty");
    }
    if is_many && args.names.iter().any(|name| name == "-") {
        fail!(Usage, "standard input is sent alone; a file called - is written ./-");
    }
    Ok(expect)
}

/// Resolves `-o`; an existing folder means into it.
fn place(shell: &mut Shell, onto: Option<&str>, several: bool) -> Result<PutTarget> {
    let Some(name) = onto else { return Ok(PutTarget::Folder(shell.cwd.clone())) };
    let path = shell.resolve_remote(name)?;
    if path.is_root() || name.ends_with('/') && !several {
        return Ok(PutTarget::Folder(path));
    }
    match shell.session.stat(&path).map(|details| details.entry.kind) {
        Ok(Kind::Folder) => Ok(PutTarget::Folder(path)),
        Err(failure) if failure.code == ErrorCode::NotFound && !several => {
            Ok(PutTarget::Name(path))
        }
        Ok(Kind::File) if !several => Ok(PutTarget::Name(path)),
        Ok(Kind::File) => {
            fail!(NotFolder, "{path} is not a folder, and several files need a folder")
        }
        Err(failure) => Err(shell.explain(&path, failure)),
    }
}

/// Describes the upload of one name.
fn job(shell: &Shell, name: &str, onto: &PutTarget) -> Result<UploadJob> {
    if name.is_empty() {
        fail!(Usage, "a local name is empty");
    }
    let local = shell.local.resolve(name);
    let remote = match onto {
        PutTarget::Name(path) => path.clone(),
        PutTarget::Folder(folder) => {
            let is_folder = || failure!(IsFolder, "{name} is a folder; put -r sends folders");
            let last = Path::new(name).file_name().ok_or_else(is_folder)?;
            folder.join(&last.to_string_lossy()).map_err(|e| Failure::from(e).of(name))?
        }
    };
    let log_name = shell.local.log_name_of(&local);
    Ok(UploadJob::new(local, remote, log_name))
}

/// Adds a hint to the failure if the name looks like a pattern.
fn suggest_pattern(name: &str, local: &Path, failure: Failure) -> Failure {
    let is_pattern = name.contains(['*', '?', '[', '{']);
    if failure.code != ErrorCode::Local || !is_pattern || local.symlink_metadata().is_ok() {
        return failure;
    }
    failure.and("mput takes patterns")
}

/// Sends standard input.
fn input(shell: &mut Shell, onto: Option<&str>, expect: Expect) -> Result<CommandOutcome> {
    if shell.input_is_commands {
        fail!(Usage, "put - cannot be used here: the commands come from standard input");
    }
    let Some(onto) = onto else { fail!(Usage, "put - needs -o with a name") };
    match place(shell, Some(onto), false)? {
        PutTarget::Name(path) => {
            send_stream(shell, std::io::stdin(), &path, expect).map(CommandOutcome::File)
        }
        PutTarget::Folder(path) => fail!(IsFolder, "{path} is a folder; -o must name the file"),
    }
}

#[cfg(test)]
mod tests {
    use relais_proto::Lsn;

    use super::*;
    use crate::commands::command::parse;

    fn checked(words: &[&str]) -> Result<Expect> {
        check(&parse(&PUT, words)?)
    }

    #[test]
    fn arguments_are_parsed() {
        let args = parse(&PUT, &["a", "-o", "x/", "-r", "b"]).unwrap();
        assert_eq!(args.names, ["a", "b"]);
        assert_eq!((args.value("-o"), args.has("-r")), (Some("x/"), true));
        assert_eq!(
            checked(&["a", "--if-version=1-42"]).unwrap(),
            Expect::Lsn(Lsn { epoch: 1, number: 42 })
        );
        assert_eq!(checked(&["-", "-o", "x"]).unwrap(), Expect::Any);
        assert_eq!(parse(&PUT, &["--", "-r"]).unwrap().names, ["-r"]);
    }

    #[test]
    fn mistakes_are_usage_errors() {
        for bad in [
            &[][..],
            &["-r"],
            &["a", "-o"],
            &["a", "-o", ""],
            &["-", "a"],
            &["-r", "-"],
            &["a", "b", "--if-version", "1-2"],
            &["a", "--if-version", "1"],
            &["a", "--if-version", "+1-2"],
            &["a", "--if-version", "4294967296-2"],
            &["a", "--if-version", "-"],
            &["a", "--version"],
        ] {
            assert_eq!(checked(bad).unwrap_err().status(), 2, "{bad:?}");
        }
    }
}
