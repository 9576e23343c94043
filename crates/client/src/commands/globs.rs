//! Transfers of files that match patterns: `mget`, `mput`.

use lexopt::ValueExt;

use super::{Command, CompletionKind, OptionValue, options};
use crate::Result;
use crate::outcome::CommandOutcome;
use crate::recursive::Pattern;
use crate::shell::Shell;

pub const MGET: Command = Command {
    name: "mget",
    aliases: &[],
    usage: "mget [-r] PATTERN... [-o FOLDER]",
    summary: "fetch files that match patterns",
    help: "In a PATTERN * is any text and ? any character within a name,\n\
           [a-z] is one of several characters, and {one,two} is either text.\n\
           A wildcard never matches a leading dot. A backslash makes the next character literal;\n\
           the shell's rules require quotes around it.\n\
           -o names the folder for the files. Folders are skipped; -r transfers them too.\n\n\
           Example: mget '*.txt' 'photos/2026-0[1-3]-*' -o /tmp",
    options: &[("-r", OptionValue::Nothing), ("-o", OptionValue::Local)],
    completes: CompletionKind::RemotePatterns,
    run: mget,
};

pub const MPUT: Command = Command {
    name: "mput",
    aliases: &[],
    usage: "mput [-r] PATTERN... [-o FOLDER]",
    summary: "send files that match patterns",
    help: "Patterns work as in mget, for local names. -o names the remote folder for the files.\n\
           Folders are skipped; -r transfers them too. Links are not followed.\n\n\
           Example: mput '*.{jpg,png}' -o /photos",
    options: &[("-r", OptionValue::Nothing), ("-o", OptionValue::Remote)],
    completes: CompletionKind::LocalPatterns,
    run: mput,
};

/// The arguments of `mget` and `mput`.
#[derive(Debug)]
struct GlobArgs {
    patterns: Vec<Pattern>,
    folder: Option<String>,
    recursive: bool,
}

fn mget(shell: &mut Shell, args: Vec<String>) -> Result<CommandOutcome> {
    let GlobArgs { patterns, folder, recursive } = read(args)?;
    shell.get_matching(&patterns, folder.as_deref(), recursive).map(CommandOutcome::Batch)
}

fn mput(shell: &mut Shell, args: Vec<String>) -> Result<CommandOutcome> {
    let GlobArgs { patterns, folder, recursive } = read(args)?;
    shell.put_matching(&patterns, folder.as_deref(), recursive).map(CommandOutcome::Batch)
}

fn read(args: Vec<String>) -> Result<GlobArgs> {
    let (mut folder, mut recursive) = (None, false);
    let names = options::names(args, &mut |option, parser| {
        match option {
            "-o" => folder = Some(parser.value()?.string()?),
            "-r" => recursive = true,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if folder.as_deref() == Some("-") {
        fail!(
            Usage,
            "several files cannot go to standard output; a folder called - is written ./-"
        );
    }
    let patterns = options::at_least_one(names)?
        .iter()
        .map(|name| Pattern::new(name))
        .collect::<Result<_, _>>()?;
    Ok(GlobArgs { patterns, folder, recursive })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_parsed() {
        let read = |args: &[&str]| read(args.iter().map(|w| w.to_string()).collect());
        let args = read(&["*.a", "-o", "x", "-r", "b?"]).unwrap();
        assert_eq!(
            (args.patterns.len(), args.folder.as_deref(), args.recursive),
            (2, Some("x"), true)
        );
        for bad in [&[][..], &["*", "-o"], &["*", "-o", "-"], &["-x", "*"], &["[a"], &["{a"], &[""]]
        {
            assert_eq!(read(bad).unwrap_err().status(), 2, "{bad:?}");
        }
    }
}
