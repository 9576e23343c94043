//! Copies of whole folders and of files that match patterns: `mirror`, `mget`, `mput`.

use super::command::{ANY, Args, Command, CompletionKind, LOCAL, NameFilter, PLAIN, REMOTE};
use crate::Result;
use crate::outcome::CommandOutcome;
use crate::recursive::{MirrorOptions, Pattern, get_matching, mirror, put_matching};

pub const MGET: Command = Command {
    name: "mget",
    usage: "mget [-r] PATTERN... [-o FOLDER]",
    summary: "fetch files that match patterns",
    help: "In a PATTERN * is any text and ? any character within a name,\n\
           [a-z] is one of several characters, and {one,two} is either text.\n\
           A wildcard never matches a leading dot. A backslash makes the next character literal;\n\
           the shell's rules require quotes around it.\n\
           -o names the folder for the files. Folders are skipped; -r transfers them too.\n\n\
           Example: mget '*.txt' 'photos/2026-0[1-3]-*' -o /tmp",
    options: &[("-r", None), ("-o", Some(LOCAL))],
    names: (1, ANY),
    completes: CompletionKind::Remote(NameFilter::Pattern),
    run: |shell, args| {
        let patterns = patterns(&args)?;
        get_matching(shell, &patterns, args.value("-o"), args.has("-r")).map(CommandOutcome::Batch)
    },
    ..PLAIN
};

pub const MPUT: Command = Command {
    name: "mput",
    usage: "mput [-r] PATTERN... [-o FOLDER]",
    summary: "send files that match patterns",
    help: "Patterns work as in mget, for local names. -o names the remote folder for the files.\n\
           Folders are skipped; -r transfers them too. Links are not followed.\n\n\
           Example: mput '*.{jpg,png}' -o /photos",
    options: &[("-r", None), ("-o", Some(REMOTE))],
    names: (1, ANY),
    completes: CompletionKind::Local(NameFilter::Pattern),
    run: |shell, args| {
        let patterns = patterns(&args)?;
        put_matching(shell, &patterns, args.value("-o"), args.has("-r")).map(CommandOutcome::Batch)
    },
    ..PLAIN
};

fn patterns(args: &Args) -> Result<Vec<Pattern>> {
    if args.value("-o") == Some("-") {
        fail!(
            Usage,
            "several files cannot go to standard output; a folder called - is written ./-"
        );
    }
    args.names.iter().map(|name| Pattern::new(name)).collect()
}

pub const MIRROR: Command = Command {
    name: "mirror",
    usage: "mirror [-R] [--delete] [--dry-run] [--checksum] [--force] SRC DST",
    summary: "make a local folder equal to a remote one; with -R the reverse",
    help: "Transfers files that differ in kind, size or time; with --checksum, in kind, size\n\
           or digest. With -R (--reverse) SRC is local and DST remote.\n\
           --delete then removes what only DST has, if all of SRC was listed and transferred.\n\
           Links, devices, mount points and ftpclient's own files are never removed.\n\
           An empty SRC empties DST only with --force. --dry-run only shows the steps.\n\
           A missing DST is made.\n\n\
           Example: mirror --delete photos backup/photos",
    options: &[
        ("-R", None),
        ("--reverse", None),
        ("--delete", None),
        ("--dry-run", None),
        ("--checksum", None),
        ("--force", None),
    ],
    names: (2, 2),
    completes: CompletionKind::Mirror,
    run: |shell, args| mirror(shell, &options(args)?).map(CommandOutcome::Batch),
    ..PLAIN
};

fn options(args: Args) -> Result<MirrorOptions> {
    let [up, delete, dry_run, checksum, force] =
        ["-R", "--delete", "--dry-run", "--checksum", "--force"].map(|option| args.has(option));
    let up = up || args.has("--reverse");
    let [source, target] = <[String; 2]>::try_from(args.names).unwrap_or_default();
    if source.is_empty() || target.is_empty() {
        fail!(Usage, "a name is empty");
    }
    Ok(MirrorOptions { source, target, up, delete, dry_run, checksum, force })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_parsed() {
        let read = |words: &[&str]| patterns(&MGET.args(words)?);
        assert_eq!(read(&["*.a", "-o", "x", "-r", "b?"]).unwrap().len(), 2);
        for bad in [&[][..], &["*", "-o"], &["*", "-o", "-"], &["-x", "*"], &["[a"], &["{a"], &[""]]
        {
            assert_eq!(read(bad).unwrap_err().status(), 2, "{bad:?}");
        }
    }

    #[test]
    fn mirror_arguments_are_parsed() {
        let read = |words: &[&str]| options(MIRROR.args(words)?);
        let mirror = read(&["-R", "a", "--delete", "b", "--dry-run", "--checksum"]).unwrap();
        let wanted = MirrorOptions {
            source: "a".into(),
            target: "b".into(),
            up: true,
            delete: true,
            dry_run: true,
            checksum: true,
            force: false,
        };
        assert_eq!(mirror, wanted);
        assert!(read(&["--force", "--", "-a", "b"]).unwrap().force);
        for bad in
            [&[][..], &["a"], &["a", "b", "c"], &["a", ""], &["", "b"], &["--remove", "a", "b"]]
        {
            assert_eq!(read(bad).unwrap_err().status(), 2, "{bad:?}");
        }
    }
}
