//! Details of single paths: `stat`, `hash`.

use relais_proto::{Endpoint, TreePath};

use super::{Command, CompletionKind, options};
use crate::Result;
use crate::outcome::{CommandOutcome, EntryContent, FailedName, ListedEntry};
use crate::output::Style;
use crate::session::Details;
use crate::shell::Shell;

pub const STAT: Command = Command {
    name: "stat",
    aliases: &[],
    usage: "stat PATH...",
    summary: "show the details of files and folders",
    help: "Shows kind, size, time, version, holders and, if it is known, the digest.\n\n\
           Example: stat big.bin",
    options: &[],
    completes: CompletionKind::Remote,
    run: stat,
};

pub const HASH: Command = Command {
    name: "hash",
    aliases: &[],
    usage: "hash PATH...",
    summary: "show the BLAKE3 digests of files",
    help: "The server computes unknown digests. The lines have the format of b3sum.\n\n\
           Example: hash big.bin",
    options: &[],
    completes: CompletionKind::Remote,
    run: hash,
};

fn stat(shell: &mut Shell, args: Vec<String>) -> Result<CommandOutcome> {
    each(shell, args, Style::Details, |shell, path| {
        let Details { entry, digest, holders } = shell.session.stat(path)?;
        let holders = holders.iter().map(|endpoint| holder(shell, endpoint)).collect();
        Ok(ListedEntry {
            content: Some(EntryContent { digest, holders: Some(holders) }),
            ..entry.into()
        })
    })
}

fn hash(shell: &mut Shell, args: Vec<String>) -> Result<CommandOutcome> {
    each(shell, args, Style::Digests, |shell, path| {
        let (details, digest) = shell.session.hash(path)?;
        Ok(ListedEntry {
            content: Some(EntryContent { digest: Some(digest), holders: None }),
            ..details.entry.into()
        })
    })
}

/// Requests the details of each name; a failure does not stop the others.
fn each(
    shell: &mut Shell,
    args: Vec<String>,
    style: Style,
    ask: fn(&mut Shell, &TreePath) -> Result<ListedEntry>,
) -> Result<CommandOutcome> {
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

/// Formats a holder by its first known address, else by its id.
///
/// A slave does not know the address at which the client reached it, so it names itself without
/// one.
fn holder(shell: &Shell, endpoint: &Endpoint) -> String {
    let addr = endpoint.addrs.first().copied().or_else(|| shell.session.address_of(endpoint.id));
    addr.map_or_else(|| endpoint.id.to_string(), |addr| addr.to_string())
}
