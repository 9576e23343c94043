//! Changes to the tree: `mkdir`, `rm`, `mv`.

use relais_proto::{ErrorCode, Kind, Lsn, TreePath};

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
    usage: "rm [-r] PATH...",
    summary: "remove remote files and folders",
    help: "A folder must be empty; -r removes it with its content in one step.\n\n\
           Example: rm -r music/old",
    options: &[("-r", OptionValue::Nothing)],
    completes: CompletionKind::Remote,
    run: rm,
};

pub const MV: Command = Command {
    name: "mv",
    aliases: &[],
    usage: "mv FROM... TO",
    summary: "rename or move remote files and folders",
    help: "If TO is a folder, FROM moves into it. Otherwise TO is the new name, and replaces\n\
           a file of that name. With several FROM, or if TO ends in /, TO must be a folder.\n\n\
           Example: mv draft.txt final.txt",
    options: &[],
    completes: CompletionKind::Remote,
    run: mv,
};

fn mkdir(shell: &mut Shell, args: Vec<String>) -> Result<CommandOutcome> {
    let (names, parents) = read(args, "-p")?;
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
    let (names, recursive) = read(args, "-r")?;
    each(shell, &names, &mut |shell, name| {
        let path = shell.resolve_remote(name)?;
        if path.is_root() {
            fail!(Denied, "the root cannot be removed");
        }
        shell.session.remove(&path, recursive).map(Some).map_err(|failure| match failure.code {
            ErrorCode::NotEmpty => with_path(
                &path,
                Failure {
                    message: format!("{failure}; rm -r removes it with its content"),
                    ..failure
                },
            ),
            _ => shell.explain(&path, failure),
        })
    })
}

fn mv(shell: &mut Shell, args: Vec<String>) -> Result<CommandOutcome> {
    let mut names = options::names(args, &mut options::none)?;
    let onto = names
        .pop()
        .filter(|_| !names.is_empty())
        .ok_or_else(|| failure!(Usage, "the command takes at least two names"))?;
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
            let moved = match shell.session.rename(&from, &target) {
                Err(failure)
                    if !into && failure.code == ErrorCode::Exists && is_folder(shell, &to)? =>
                {
                    shell.session.rename(&from, &to.join(last)?)
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

/// Parses at least one name, and whether `option` is given.
fn read(args: Vec<String>, option: &str) -> Result<(Vec<String>, bool)> {
    let mut found = false;
    let names = options::names(args, &mut |word, _| {
        found |= word == option;
        Ok(word == option)
    })?;
    Ok((options::at_least_one(names)?, found))
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
        let read = |args: &[&str]| read(args.iter().map(|w| w.to_string()).collect(), "-r");
        assert_eq!(read(&["a", "-r", "b"]).unwrap(), (vec!["a".into(), "b".into()], true));
        assert_eq!(read(&["--", "-r"]).unwrap(), (vec!["-r".into()], false));
        for bad in [&[][..], &["-r"], &["-x", "a"]] {
            assert_eq!(read(bad).unwrap_err().status(), 2, "{bad:?}");
        }
    }
}
