//! What single paths are: `stat`, `hash`.

use relais_proto::{Endpoint, TreePath};

use super::{Command, CompletionKind, options};
use crate::Failure;
use crate::outcome::{CommandOutcome, EntryContent, FailedName, ListedEntry};
use crate::output::Style;
use crate::session::Details;
use crate::shell::Shell;

pub const STAT: Command = Command {
    name: "stat",
    aliases: &[],
    usage: "stat PATH...",
    summary: "show all that is known of files and folders",
    help: "Kind, size, time, version, digest where it is known already, and who has the content.\n\nExample: stat big.bin",
    options: &[],
    completes: CompletionKind::Remote,
    run: stat,
};

pub const HASH: Command = Command {
    name: "hash",
    aliases: &[],
    usage: "hash PATH...",
    summary: "show the BLAKE3 digests of files",
    help: "The server computes what it does not know yet. The lines are those of b3sum.\n\nExample: hash big.bin",
    options: &[],
    completes: CompletionKind::Remote,
    run: hash,
};

fn stat(shell: &mut Shell, args: Vec<String>) -> Result<CommandOutcome, Failure> {
    each(shell, args, Style::Details, |shell, path| {
        let Details { entry, digest, holders } = shell.session.stat(path)?;
        let holders = holders.iter().map(|endpoint| holder(shell, endpoint)).collect();
        Ok(ListedEntry {
            content: Some(EntryContent { digest, holders: Some(holders) }),
            ..entry.into()
        })
    })
}

fn hash(shell: &mut Shell, args: Vec<String>) -> Result<CommandOutcome, Failure> {
    each(shell, args, Style::Digests, |shell, path| {
        let (details, digest) = shell.session.hash(path)?;
        Ok(ListedEntry {
            content: Some(EntryContent { digest: Some(digest), holders: None }),
            ..details.entry.into()
        })
    })
}

/// Asks for each name; one that fails does not keep the others from being shown.
fn each(
    shell: &mut Shell,
    args: Vec<String>,
    style: Style,
    ask: fn(&mut Shell, &TreePath) -> Result<ListedEntry, Failure>,
) -> Result<CommandOutcome, Failure> {
    let names = options::at_least_one(options::names(args, &mut options::none)?)?;
    let single = names.len() == 1;
    let mut failed = Vec::new();
    for (at, name) in names.into_iter().enumerate() {
        let result = shell.resolve_remote(&name).and_then(|path| match ask(shell, &path) {
            Ok(shown) => Ok(ListedEntry { path: Some(path.to_string()), ..shown }),
            Err(failure) => Err(shell.explain(&path, failure)),
        });
        if single {
            let shown = result?;
            shell.output.begin_entries(style)?;
            shell.output.entry(shown)?;
            break;
        }
        if at == 0 {
            shell.output.begin_entries(style)?;
        }
        match result {
            Ok(shown) => shell.output.entry(shown)?,
            Err(failure) if failure.status() == 130 => return Err(failure),
            Err(failure) => {
                shell.output.failed(&failure);
                failed.push(FailedName { remote: name, failure });
            }
        }
    }
    Ok(CommandOutcome::Entries(failed))
}

/// A holder by its first address. A slave does not know under which one the client reached
/// it, so it names itself without; the id is for holders of which nothing else is known.
fn holder(shell: &Shell, endpoint: &Endpoint) -> String {
    let addr = endpoint.addrs.first().copied().or_else(|| shell.session.address_of(endpoint.id));
    addr.map_or_else(|| endpoint.id.to_string(), |addr| addr.to_string())
}
