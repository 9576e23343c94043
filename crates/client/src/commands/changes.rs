//! Changes to the tree: `mkdir`, `rm`, `mv`.

use relais_proto::{ErrorCode, Expect, Kind, Lsn, TreePath};

use super::each_name::{self, UsedTargets};
use super::{Command, CompletionKind, OptionValue, options};
use crate::outcome::{Changes, CommandOutcome};
use crate::shell::{Shell, with_path};
use crate::{Failure, Result};

pub const MKDIR: Command = Command {
    name: "mkdir",
    aliases: &[],
    usage: "mkdir [-p] PATH...",
    summary: "make remote folders",
    help: "With -p missing parents are made too, and an existing folder is not an error.\n\n\
           Example: mkdir -p music/live/1999",
    options: &[("-p", OptionValue::Nothing)],
    completes: CompletionKind::RemoteFolders,
    run: mkdir,
};

pub const RM: Command = Command {
    name: "rm",
    aliases: &[],
    usage: "rm [-r] PATH... [--if-version V]",
    summary: "remove remote files and folders",
    help: "A folder must be empty; -r removes it with its content in one step. With --if-version\n\
           a single file or folder is removed only if it still has that version.\n\n\
           Example: rm -r music/old",
    options: &[("-r", OptionValue::Nothing), ("--if-version", OptionValue::Value)],
    completes: CompletionKind::Remote,
    run: rm,
};

pub const MV: Command = Command {
    name: "mv",
    aliases: &[],
    usage: "mv FROM... TO [--if-version V]",
    summary: "rename or move remote files and folders",
    help: "If TO is a folder, FROM moves into it. Otherwise TO is the new name, and replaces\n\
           a file of that name. With several FROM, or if TO ends in /, TO must be a folder.\n\
           With --if-version a single FROM moves only if it still has that version.\n\n\
           Example: mv draft.txt final.txt",
    options: &[("--if-version", OptionValue::Value)],
    completes: CompletionKind::Remote,
    run: mv,
};

fn mkdir(shell: &mut Shell, args: Vec<String>) -> Result<CommandOutcome> {
    let (names, parents, _) = read(args, "-p", false)?;
    each(shell, &names, &mut |shell, name| {
        let path = shell.resolve_remote(name)?;
        let made = if parents {
            with_parents(shell, &path)
        } else {
            shell.session.make_folder(&path).map(Some)
        };
        made.map_err(|failure| with_path(&path, failure))
    })
}

fn rm(shell: &mut Shell, args: Vec<String>) -> Result<CommandOutcome> {
    let (names, recursive, expect) = read(args, "-r", true)?;
    each(shell, &names, &mut |shell, name| {
        let path = shell.resolve_remote(name)?;
        if path.is_root() {
            fail!(Denied, "the root cannot be removed");
        }
        shell.session.remove(&path, recursive, expect).map(Some).map_err(|failure| {
            match failure.code {
                ErrorCode::NotEmpty => with_path(
                    &path,
                    Failure {
                        message: format!("{failure}; rm -r removes it with its content"),
                        ..failure
                    },
                ),
                _ => shell.explain(&path, failure),
            }
        })
    })
}

fn mv(shell: &mut Shell, args: Vec<String>) -> Result<CommandOutcome> {
    let mut expect = Expect::Any;
    let mut names = options::names(args, &mut |option, parser| {
        options::if_version(option, parser, &mut expect)
    })?;
    let onto = names
        .pop()
        .filter(|_| !names.is_empty())
        .ok_or_else(|| failure!(Usage, "the command takes at least two names"))?;
    of_one(expect, &names)?;
    let to = shell.resolve_remote(&onto)?;
    let into = onto.ends_with('/') || names.len() > 1 || to.is_root();
    if names.len() > 1 {
        // One check before the first move gives one message instead of one for each name.
        let kind =
            shell.session.stat(&to).map_err(|failure| shell.explain(&to, failure))?.entry.kind;
        if kind != Kind::Folder {
            fail!(NotFolder, "{to} is not a folder, and several names need a folder");
        }
    }
    let mut used = UsedTargets::default();
    each(shell, &names, &mut |shell, name| {
        let from = shell.resolve_remote(name)?;
        let Some(last) = from.last() else {
            fail!(Denied, "the root cannot be moved");
        };
        let target = if into { to.join(last)? } else { to.clone() };
        // Without this check, a second file of the same name would replace the first one.
        used.once(&target.to_string(), &from.to_string(), || {
            let moved = match shell.session.rename(&from, &target, expect) {
                Err(failure)
                    if !into && failure.code == ErrorCode::Exists && is_folder(shell, &to)? =>
                {
                    shell.session.rename(&from, &to.join(last)?, expect)
                }
                other => other,
            };
            moved.map(Some).map_err(|failure| with_path(&from, failure))
        })
    })
}

/// Whether a folder is at `path`; a move replaces no folder.
fn is_folder(shell: &mut Shell, path: &TreePath) -> Result<bool> {
    let details = shell.session.stat(path).map_err(|failure| with_path(path, failure))?;
    Ok(details.entry.kind == Kind::Folder)
}

/// Parses at least one name, whether `flag` is given, and `--if-version` if it is `versioned`.
fn read(args: Vec<String>, flag: &str, versioned: bool) -> Result<(Vec<String>, bool, Expect)> {
    let (mut found, mut expect) = (false, Expect::Any);
    let names = options::names(args, &mut |option, parser| {
        found |= option == flag;
        Ok(option == flag || versioned && options::if_version(option, parser, &mut expect)?)
    })?;
    of_one(expect, &names)?;
    Ok((options::at_least_one(names)?, found, expect))
}

/// Checks that `--if-version` is given for one name only.
fn of_one(expect: Expect, names: &[String]) -> Result<()> {
    if expect != Expect::Any && names.len() > 1 {
        fail!(Usage, "--if-version is for a single file or folder");
    }
    Ok(())
}

/// Makes a folder and its missing parents; returns none if it exists already.
fn with_parents(shell: &mut Shell, path: &TreePath) -> Result<Option<Lsn>> {
    let mut missing = vec![path.clone()];
    let mut made = None;
    // Mostly only the last folder is missing, so parents are tried on demand; a path has an end.
    while let Some(next) = missing.last().cloned() {
        let parent = next.split_last().map(|(parent, _)| parent).filter(|parent| !parent.is_root());
        match (shell.session.make_folder(&next), parent) {
            (Ok(version), _) => made = Some(version),
            // The folder existed or was made meanwhile. A file at the path is another error.
            (Err(failure), _) if failure.code == ErrorCode::Exists => {}
            (Err(failure), Some(parent))
                if failure.code == ErrorCode::NotFound && !missing.contains(&parent) =>
            {
                missing.push(parent);
                continue;
            }
            (Err(failure), _) => return Err(failure),
        }
        missing.pop();
    }
    Ok(made)
}

/// Changes one name; returns none if nothing had to be changed.
type ChangeOne<'a> = &'a mut dyn FnMut(&mut Shell, &str) -> Result<Option<Lsn>>;

/// Changes each name; a failure does not stop the others.
fn each(shell: &mut Shell, names: &[String], change: ChangeOne<'_>) -> Result<CommandOutcome> {
    if let [name] = names {
        return change(shell, name)
            .map(|version| CommandOutcome::Changes(Changes { version, ..Changes::default() }));
    }
    let mut last = None;
    let failed = each_name::each(shell, names, &mut |shell, name| {
        last = change(shell, name)?.or(last);
        Ok(())
    })?;
    Ok(CommandOutcome::Changes(Changes {
        version: last,
        several: true,
        failed: each_name::with_paths(shell, failed),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_parsed() {
        let args = |args: &[&str]| args.iter().map(|w| w.to_string()).collect();
        let rm = |words: &[&str]| read(args(words), "-r", true);
        assert_eq!(
            rm(&["a", "-r", "b"]).unwrap(),
            (vec!["a".into(), "b".into()], true, Expect::Any)
        );
        assert_eq!(rm(&["--", "-r"]).unwrap(), (vec!["-r".into()], false, Expect::Any));
        let expect = Expect::Lsn(Lsn { epoch: 1, number: 42 });
        assert_eq!(rm(&["a", "--if-version=1-42"]).unwrap(), (vec!["a".into()], false, expect));
        for bad in [
            &[][..],
            &["-r"],
            &["-x", "a"],
            &["a", "b", "--if-version=1-2"],
            &["a", "--if-version"],
        ] {
            assert_eq!(rm(bad).unwrap_err().status(), 2, "{bad:?}");
        }
        let mkdir = read(args(&["a", "--if-version=1-2"]), "-p", false);
        assert_eq!(mkdir.unwrap_err().status(), 2);
    }
}
