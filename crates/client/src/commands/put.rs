//! Sending files: `put`.

use std::os::fd::AsFd;
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
    if is_closed(std::io::stdin()) {
        fail!(Usage, "put - cannot be used here: standard input is closed");
    }
    let path = shell.resolve_remote(onto)?;
    let found = shell.session.stat(&path).map(|details| details.entry.kind);
    if path.is_root() || onto.ends_with('/') || found == Ok(Kind::Folder) {
        fail!(IsFolder, "{path} is a folder; -o must name the file");
    }
    send_stream(shell, std::io::stdin(), &path, expect).map(CommandOutcome::File)
}

/// Whether standard input was closed when the program started.
///
/// Rust's start-up opens the null device for a closed descriptor, for reading and writing. A shell
/// opens it only for reading (`</dev/null`), which means an empty file.
fn is_closed(input: impl AsFd) -> bool {
    let null = rustix::fs::stat("/dev/null").map(|null| null.st_rdev);
    rustix::fs::fstat(&input).is_ok_and(|found| {
        rustix::fs::FileType::from_raw_mode(found.st_mode).is_char_device()
            && null == Ok(found.st_rdev)
    }) && rustix::fs::fcntl_getfl(&input)
        .is_ok_and(|flags| flags.contains(rustix::fs::OFlags::RDWR))
}

#[cfg(test)]
mod tests {
    use relais_proto::Lsn;

    use super::*;

    fn checked(words: &[&str]) -> Result<Expect> {
        check(&PUT.args(words)?)
    }

    #[test]
    fn closed_input_is_no_empty_file() {
        let open = |path: &str, write| {
            std::fs::File::options().read(true).write(write).open(path).unwrap()
        };
        // What Rust's start-up opens for a closed descriptor.
        assert!(is_closed(open("/dev/null", true)));
        assert!(!is_closed(open("/dev/null", false)));
        assert!(!is_closed(open("/dev/zero", true)));
        assert!(!is_closed(std::io::pipe().unwrap().0));
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
