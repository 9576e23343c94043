//! Writing files to standard output: `cat`.

use super::{Command, CompletionKind, get, options};
use crate::Result;
use crate::outcome::{CommandOutcome, Received};
use crate::output::ContentMode;
use crate::shell::Shell;

pub const CAT: Command = Command {
    name: "cat",
    aliases: &[],
    usage: "cat REMOTE...",
    summary: "write files to standard output",
    help: "The content is written as it plan_source_node, one file after the other.\n\
           The command succeeds only if the digest of all written bytes is correct.\n\n\
           Example: cat notes.txt",
    options: &[],
    completes: CompletionKind::Remote,
    run: cat,
};

fn cat(shell: &mut Shell, args: Vec<String>) -> Result<CommandOutcome> {
    shell.output.begin_content(ContentMode::Quiet);
    let names = options::at_least_one(options::names(args, &mut options::none)?)?;
    show(shell, &names)
}

/// Writes each file to standard output.
pub fn show(shell: &mut Shell, names: &[String]) -> Result<CommandOutcome> {
    match names {
        [name] => one(shell, name).map(CommandOutcome::Received),
        names => get::all(shell, names, &mut one).map(CommandOutcome::Batch),
    }
}

fn one(shell: &mut Shell, name: &str) -> Result<Received> {
    let path = shell.resolve_remote(name)?;
    if path.is_root() || name.ends_with('/') {
        fail!(IsFolder, "{name} is a folder");
    }
    shell.show(&path).map_err(|failure| shell.explain(&path, failure))
}
