//! Sending files: `put`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use lexopt::ValueExt;
use relais_proto::{ErrorCode, Expect, Kind, TreePath};

use super::each_name::{self, UsedTargets};
use super::{Command, CompletionKind, OptionValue, options};
use crate::outcome::{BatchSummary, CommandOutcome, Sent};
use crate::send::UploadJob;
use crate::shell::Shell;
use crate::{Failure, Result};

pub const PUT: Command = Command {
    name: "put",
    aliases: &[],
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
        ("-r", OptionValue::Nothing),
        ("-o", OptionValue::Remote),
        ("--if-version", OptionValue::Value),
    ],
    completes: CompletionKind::Local,
    run: put,
};

/// The arguments of `put`.
#[derive(Debug, Default, PartialEq, Eq)]
struct PutArgs {
    names: Vec<String>,
    onto: Option<String>,
    expect: Expect,
    recursive: bool,
}

/// The remote target of files.
#[derive(Debug, Clone)]
enum PutTarget {
    /// This folder; each file keeps its own name.
    Folder(TreePath),
    /// This path, for a single file.
    Name(TreePath),
}

fn put(shell: &mut Shell, args: Vec<String>) -> Result<CommandOutcome> {
    let args = read(args)?;
    if args.names == ["-"] {
        return input(shell, &args).map(CommandOutcome::Sent);
    }
    if args.recursive {
        return trees(shell, &args).map(CommandOutcome::Batch);
    }
    let onto = place(shell, args.onto.as_deref(), args.names.len() > 1)?;
    if let [name] = args.names.as_slice() {
        return one(shell, name, &onto, args.expect, &mut UsedTargets::default())
            .map(CommandOutcome::Sent);
    }
    let mut used = UsedTargets::default();
    let (begun, mut sent) = (Instant::now(), BatchSummary::default());
    let mut failed = each_name::each(shell, &args.names, &mut |shell, name| {
        let file = one(shell, name, &onto, Expect::Any, &mut used)?;
        sent.add_sent(&file);
        shell.output.sent(&file)
    })?;
    for one in &mut failed {
        // Failed names are shown as remote paths too, where they have one.
        if let Ok((_, remote)) = names(shell, &one.remote, &onto) {
            one.remote = remote.to_string();
        }
    }
    Ok(CommandOutcome::Batch(BatchSummary { time: begun.elapsed(), failed, ..sent }))
}

fn read(args: Vec<String>) -> Result<PutArgs> {
    let mut read = PutArgs::default();
    read.names = options::names(args, &mut |option, parser| {
        match option {
            "-o" => read.onto = Some(parser.value()?.string()?),
            "-r" => read.recursive = true,
            _ => return options::if_version(option, parser, &mut read.expect),
        }
        Ok(true)
    })?;
    if read.names.is_empty() {
        fail!(Usage, "a name is missing");
    }
    if read.expect != Expect::Any && (read.recursive || read.names.len() > 1) {
        fail!(Usage, "--if-version is for a single file");
    }
    if read.onto.as_deref() == Some("") {
        fail!(Usage, "the remote name is empty");
    }
    if read.names.iter().any(|name| name == "-") && (read.recursive || read.names.len() > 1) {
        fail!(Usage, "standard input is sent alone; a file called - is written ./-");
    }
    Ok(read)
}

/// Determines the target; asks a server only if the name may be that of a folder.
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
            Err(failure!(NotFolder, "{path} is not a folder, and several files need a folder"))
        }
        Err(failure) => Err(shell.explain(&path, failure)),
    }
}

fn one(
    shell: &mut Shell,
    name: &str,
    onto: &PutTarget,
    expect: Expect,
    used: &mut UsedTargets,
) -> Result<Sent> {
    let (local, remote) = names(shell, name, onto)?;
    let log_name = shell.local.log_name_of(&local);
    let (place, shown) = (remote.to_string(), local.display().to_string());
    let job = UploadJob { shown, local, remote, log_name, expect, resumed: false };
    used.once(&place, &job.shown, || {
        shell.send_named(&job).map_err(|failure| suggest_pattern(name, &job.local, failure))
    })
}

/// Adds the hint that `mput` takes patterns to the failure for a missing local file.
fn suggest_pattern(name: &str, local: &Path, failure: Failure) -> Failure {
    let is_pattern = name.contains(['*', '?', '[', '{']);
    if failure.code != ErrorCode::Local || !is_pattern || local.symlink_metadata().is_ok() {
        return failure;
    }
    Failure { message: format!("{}; mput takes patterns", failure.message), ..failure }
}

/// Returns the local path and the remote path of a name.
fn names(shell: &Shell, name: &str, onto: &PutTarget) -> Result<(PathBuf, TreePath)> {
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
    Ok((local, remote))
}

/// Sends folders recursively, and files among the names as they are.
fn trees(shell: &mut Shell, args: &PutArgs) -> Result<BatchSummary> {
    let is_many = args.names.len() > 1;
    let onto = args.onto.as_deref().map(|onto| {
        if is_many && !onto.ends_with('/') { format!("{onto}/") } else { onto.to_owned() }
    });
    if is_many {
        // One check before the first upload gives one message instead of one for each name.
        place(shell, onto.as_deref(), true)?;
    }
    let (begun, mut sent) = (Instant::now(), BatchSummary::default());
    let mut used = UsedTargets::default();
    let mut send = |shell: &mut Shell, name: &str| {
        let last = Path::new(name).file_name().unwrap_or_default().to_string_lossy().into_owned();
        used.once(&last, name, || {
            sent.merge(shell.put_tree(name, onto.as_deref())?);
            Ok(())
        })
    };
    let failed = match args.names.as_slice() {
        [name] => send(shell, name).map(|()| Vec::new())?,
        names => each_name::each(shell, names, &mut send)?,
    };
    sent.failed.extend(failed);
    Ok(BatchSummary { time: begun.elapsed(), ..sent })
}

/// Sends standard input under the name of `-o`.
fn input(shell: &mut Shell, args: &PutArgs) -> Result<Sent> {
    if shell.input_is_commands {
        fail!(Usage, "put - cannot be used here: the commands come from standard input");
    }
    let Some(onto) = &args.onto else {
        fail!(Usage, "put - needs -o with a name");
    };
    match place(shell, Some(onto), false)? {
        PutTarget::Name(path) => shell.send_input(&path, args.expect),
        PutTarget::Folder(path) => {
            Err(failure!(IsFolder, "{path} is a folder; -o must name the file"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(args: &[&str]) -> Result<PutArgs, Failure> {
        read(args.iter().map(|w| w.to_string()).collect())
    }

    #[test]
    fn arguments_are_parsed() {
        let read = args(&["a", "-o", "x/", "-r", "b"]).unwrap();
        assert_eq!(
            (read.names, read.onto, read.recursive),
            (vec!["a".into(), "b".into()], Some("x/".into()), true)
        );
        assert_eq!(
            args(&["a", "--if-version=1-42"]).unwrap().expect,
            Expect::Lsn(relais_proto::Lsn { epoch: 1, number: 42 })
        );
        assert_eq!(args(&["-", "-o", "x"]).unwrap().names, ["-"]);
        assert_eq!(
            args(&["--", "-r"]).unwrap(),
            PutArgs { names: vec!["-r".into()], ..PutArgs::default() }
        );
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
            assert_eq!(args(bad).unwrap_err().status(), 2, "{bad:?}");
        }
    }
}
