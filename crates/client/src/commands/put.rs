//! Sending files: `put`.

use std::path::Path;

use relais_proto::{ErrorCode, Expect, Kind};

use super::command::{ANY, Args, Command, CompletionKind, LOCAL, PLAIN, REMOTE};
use super::each_name::{self, UsedTargets};
use crate::outcome::CommandOutcome;
use crate::recursive::{put_tree, remote_top};
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
    options: &[("-r", None), ("-o", Some(REMOTE)), ("--if-version", Some(CompletionKind::Nothing))],
    names: (1, ANY),
    completes: LOCAL,
    run: put,
    ..PLAIN
};

fn put(shell: &mut Shell, args: Args) -> Result<CommandOutcome> {
    let expect = check(&args)?;
    let (names, mut onto) = (&args.names, args.value("-o").map(str::to_owned));
    if *names == ["-"] {
        return input(shell, onto.as_deref(), expect);
    }
    if let Some(folder) = onto.as_mut().filter(|_| names.len() > 1) {
        // One check before the first upload gives one message instead of one for each name.
        let path = shell.resolve_remote(folder)?;
        if !shell.is_folder(&path)? {
            fail!(NotFolder, "{path} is not a folder, and several files need a folder");
        }
        folder.push('/');
    }
    let (onto, mut used) = (onto.as_deref(), UsedTargets::default());
    if args.has("-r") {
        return each_name::folders(shell, names, &|_, _| None, &mut |shell, name| {
            let last = Path::new(name).file_name().unwrap_or_default().to_string_lossy();
            used.once(&last, name, || {
                if name.is_empty() {
                    fail!(Usage, "the local name is empty");
                }
                put_tree(shell, &shell.local.resolve(name), onto)
            })
        });
    }
    let remote_of =
        |shell: &mut Shell, name: &str| Some(job(shell, name, onto).ok()?.remote.to_string());
    each_name::files(shell, names, &remote_of, &mut |shell, name| {
        let job = UploadJob { expect, ..job(shell, name, onto)? };
        used.once(&job.remote.to_string(), &job.shown(), || {
            send(shell, &job).map_err(|failure| suggest_pattern(name, &job.local, failure))
        })
    })
}

/// Checks the arguments, and returns what the remote file must be.
fn check(args: &Args) -> Result<Expect> {
    let is_many = args.has("-r") || args.names.len() > 1;
    if is_many && args.has("--if-version") {
        fail!(Usage, "--if-version is for a single file");
    }
    if args.value("-o") == Some("") {
        fail!(Usage, "the remote name is empty");
    }
    if is_many && args.names.iter().any(|name| name == "-") {
        fail!(Usage, "standard input is sent alone; a file called - is written ./-");
    }
    args.if_version()
}

/// Describes the upload of one name.
fn job(shell: &mut Shell, name: &str, onto: Option<&str>) -> Result<UploadJob> {
    if name.is_empty() {
        fail!(Usage, "a local name is empty");
    }
    let local = shell.local.resolve(name);
    let is_folder = || failure!(IsFolder, "{name} is a folder; put -r sends folders");
    let last = Path::new(name).file_name().ok_or_else(is_folder)?.to_string_lossy();
    let remote = remote_top(shell, Some(&last), onto, None)?;
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
    let path = shell.resolve_remote(onto)?;
    let found = shell.session.stat(&path).map(|details| details.entry.kind);
    if path.is_root() || onto.ends_with('/') || found == Ok(Kind::Folder) {
        fail!(IsFolder, "{path} is a folder; -o must name the file");
    }
    send_stream(shell, std::io::stdin(), &path, expect).map(CommandOutcome::File)
}

#[cfg(test)]
mod tests {
    use relais_proto::Lsn;

    use super::*;

    fn checked(words: &[&str]) -> Result<Expect> {
        check(&PUT.args(words)?)
    }

    #[test]
    fn arguments_are_parsed() {
        let args = PUT.args(&["a", "-o", "x/", "-r", "b"]).unwrap();
        assert_eq!(args.names, ["a", "b"]);
        assert_eq!((args.value("-o"), args.has("-r")), (Some("x/"), true));
        assert_eq!(
            checked(&["a", "--if-version=1-42"]).unwrap(),
            Expect::Lsn(Lsn { epoch: 1, number: 42 })
        );
        assert_eq!(checked(&["-", "-o", "x"]).unwrap(), Expect::Any);
        assert_eq!(PUT.args(&["--", "-r"]).unwrap().names, ["-r"]);
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
