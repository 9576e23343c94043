//! Changes to the tree: `mkdir`, `rm`, `mv`.

use relais_proto::{ErrorCode, Lsn, TreePath};

use super::command::{ANY, Args, Command, CompletionKind, NameFilter, ON_REMOTE_NAMES};
use super::each_name::{self, UsedTargets, resolved};
use crate::Result;
use crate::outcome::CommandOutcome;
use crate::shell::{Shell, with_path};

pub const MKDIR: Command = Command {
    name: "mkdir",
    usage: "mkdir [-p] PATH...",
    summary: "make remote folders",
    help: "With -p missing parents are made too, and an existing folder is not an error.\n\n\
           Example: mkdir -p music/live/1999",
    options: &[("-p", None)],
    completes: CompletionKind::Remote(NameFilter::Folders),
    run: mkdir,
    ..ON_REMOTE_NAMES
};

pub const RM: Command = Command {
    name: "rm",
    usage: "rm [-r] PATH... [--if-version V]",
    summary: "remove remote files and folders",
    help: "A folder must be empty; -r removes it with its content in one step. With --if-version\n\
           a single file or folder is removed only if it still has that version.\n\n\
           Example: rm -r music/old",
    options: &[("-r", None), ("--if-version", Some(CompletionKind::Nothing))],
    run: rm,
    ..ON_REMOTE_NAMES
};

pub const MV: Command = Command {
    name: "mv",
    usage: "mv FROM... TO [--if-version V]",
    summary: "rename or move remote files and folders",
    help: "If TO is a folder, FROM moves into it. Otherwise TO is the new name, and replaces\n\
           a file of that name. With several FROM, or if TO ends in /, TO must be a folder.\n\
           With --if-version a single FROM moves only if it still has that version.\n\n\
           Example: mv draft.txt final.txt",
    options: &[("--if-version", Some(CompletionKind::Nothing))],
    names: (2, ANY),
    run: mv,
    ..ON_REMOTE_NAMES
};

fn mkdir(shell: &mut Shell, args: Args) -> Result<CommandOutcome> {
    each(shell, &args.names, &mut |shell, name| {
        let path = shell.resolve_remote(name)?;
        let made = if args.has("-p") {
            with_parents(shell, &path)
        } else {
            shell.session.make_folder(&path).map(Some)
        };
        made.map_err(|failure| with_path(&path, failure))
    })
}

fn rm(shell: &mut Shell, args: Args) -> Result<CommandOutcome> {
    let (recursive, expect) = (args.has("-r"), args.if_version()?);
    each(shell, &args.names, &mut |shell, name| {
        let path = shell.resolve_remote(name)?;
        if path.is_root() {
            fail!(Denied, "the root cannot be removed");
        }
        let removed = shell.session.remove(&path, recursive, expect);
        removed.map(Some).map_err(|failure| match failure.code {
            ErrorCode::NotEmpty => {
                with_path(&path, failure.and("rm -r removes it with its content"))
            }
            _ => shell.explain(&path, failure),
        })
    })
}

fn mv(shell: &mut Shell, mut args: Args) -> Result<CommandOutcome> {
    let onto = args.names.pop().unwrap_or_default();
    let (names, expect) = (&args.names, args.if_version()?);
    let to = shell.resolve_remote(&onto)?;
    let into = onto.ends_with('/') || names.len() > 1 || to.is_root();
    // One check before the first move gives one message instead of one for each name.
    if names.len() > 1 && !shell.is_folder(&to)? {
        fail!(NotFolder, "{to} is not a folder, and several names need a folder");
    }
    let mut used = UsedTargets::default();
    each(shell, names, &mut |shell, name| {
        let from = shell.resolve_remote(name)?;
        let Some(last) = from.last() else {
            fail!(Denied, "the root cannot be moved");
        };
        let target = if into { to.join(last)? } else { to.clone() };
        // Without this check, a second file of the same name would replace the first one.
        used.once(&target.to_string(), &from.to_string(), || {
            let moved = match shell.session.rename(&from, &target, expect) {
                Err(failure)
                    if !into && failure.code == ErrorCode::Exists && shell.is_folder(&to)? =>
                {
                    shell.session.rename(&from, &to.join(last)?, expect)
                }
                other => other,
            };
            moved.map(Some).map_err(|failure| with_path(&from, failure))
        })
    })
}

/// Makes a folder and its missing parents; returns none if it exists already.
fn with_parents(shell: &mut Shell, path: &TreePath) -> Result<Option<Lsn>> {
    let make = |shell: &mut Shell| match shell.session.make_folder(path) {
        // The folder existed or was made meanwhile. A file at the path is another error.
        Err(failure) if failure.code == ErrorCode::Exists => Ok(None),
        made => made.map(Some),
    };
    // Mostly only the last folder is missing, so parents are tried on demand; a path has an end.
    match (make(shell), path.split_last()) {
        (Err(failure), Some((parent, _)))
            if failure.code == ErrorCode::NotFound && !parent.is_root() =>
        {
            let made = with_parents(shell, &parent)?;
            Ok(make(shell)?.or(made))
        }
        (made, _) => made,
    }
}

/// Changes each name; a failure does not stop the others. A change may not be needed.
fn each(
    shell: &mut Shell,
    names: &[String],
    change: each_name::EachName<'_, Option<Lsn>>,
) -> Result<CommandOutcome> {
    let mut version = None;
    let failed = each_name::each(shell, names, &resolved, &mut |shell, name| {
        version = change(shell, name)?.or(version);
        Ok(())
    })?;
    Ok(CommandOutcome::Changes { version, failed: (names.len() > 1).then_some(failed) })
}

#[cfg(test)]
mod tests {
    use relais_proto::Expect;

    use super::*;

    #[test]
    fn arguments_are_parsed() {
        let rm = |words: &[&str]| RM.args(words)?.if_version();
        assert_eq!(rm(&["a", "-r", "b"]).unwrap(), Expect::Any);
        let expect = Expect::Lsn(Lsn { epoch: 1, number: 42 });
        assert_eq!(rm(&["a", "--if-version=1-42"]).unwrap(), expect);
        for bad in [
            &[][..],
            &["-r"],
            &["-x", "a"],
            &["a", "b", "--if-version=1-2"],
            &["a", "--if-version"],
        ] {
            assert_eq!(rm(bad).unwrap_err().status(), 2, "{bad:?}");
        }
        assert!(RM.args(&["a", "-r", "b"]).unwrap().has("-r"));
        assert!(!RM.args(&["--", "-r"]).unwrap().has("-r"));
        assert_eq!(MKDIR.args(&["a", "--if-version=1-2"]).unwrap_err().status(), 2);
    }
}
