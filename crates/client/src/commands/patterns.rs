//! Transfers of files that match patterns: `mget`, `mput`.

use super::command::{ANY, Args, Command, CompletionKind, NameFilter, PLAIN};
use crate::Result;
use crate::outcome::CommandOutcome;
use crate::recursive::{Pattern, get_matching, put_matching};

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
    options: &[("-r", None), ("-o", Some(CompletionKind::Local(NameFilter::All)))],
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
    options: &[("-r", None), ("-o", Some(CompletionKind::Remote(NameFilter::All)))],
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::command::parse;

    #[test]
    fn arguments_are_parsed() {
        let read = |words: &[&str]| patterns(&parse(&MGET, words)?);
        assert_eq!(read(&["*.a", "-o", "x", "-r", "b?"]).unwrap().len(), 2);
        for bad in [&[][..], &["*", "-o"], &["*", "-o", "-"], &["-x", "*"], &["[a"], &["{a"], &[""]]
        {
            assert_eq!(read(bad).unwrap_err().status(), 2, "{bad:?}");
        }
    }
}
