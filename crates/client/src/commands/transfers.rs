//! What is unfinished in the local folder: `transfers`.

use super::{Command, Completes, Takes, options};
use crate::Failure;
use crate::log::{Entry, Upload, Work, contents};
use crate::outcome::{Outcome, Transfer, Transfers};
use crate::shell::Shell;

pub const TRANSFERS: Command = Command {
    name: "transfers",
    aliases: &[],
    usage: "transfers [--drop]",
    summary: "show unfinished transfers",
    help: "The transfers that the .log in the local folder names: each goes on when its command is typed again, or at the start of a prompt.\n\
           --drop deletes them, with what was fetched of them.\n\n\
           Example: transfers",
    options: &[("--drop", Takes::Nothing)],
    completes: Completes::Nothing,
    run: transfers,
};

fn transfers(shell: &mut Shell, words: Vec<String>) -> Result<Outcome, Failure> {
    let mut drop = false;
    let names = options::names(words, &mut |option, _| {
        drop |= option == "--drop";
        Ok(option == "--drop")
    })?;
    if !names.is_empty() {
        return Err(Failure::usage("it takes no names"));
    }
    let contents = contents(shell.local.home())?;
    for bad in &contents.bad {
        shell.notices.say(&format!(".log, line {}: left out: {}", bad.number, bad.why));
    }
    let entries = if drop { shell.drop_transfers(contents.entries)? } else { contents.entries };
    let transfers = entries.iter().map(transfer).collect();
    Ok(Outcome::Transfers(Transfers { transfers, dropped: drop }))
}

fn transfer(entry: &Entry) -> Transfer {
    let (is_put, is_tree, bytes, size) = match &entry.work {
        Work::Get(Some(state)) => (false, false, Some(state.good.total()), Some(state.size)),
        Work::Get(None) => (false, false, Some(0), None),
        Work::Put(Upload { sent, size, .. }) => (true, false, Some(*sent), Some(*size)),
        Work::GetTree => (false, true, None, None),
        Work::PutTree => (true, true, None, None),
    };
    Transfer {
        is_put,
        is_tree,
        remote: entry.remote.to_string(),
        local: entry.local.clone(),
        host: entry.origin.host.clone(),
        bytes,
        size,
        since: entry.since,
    }
}
