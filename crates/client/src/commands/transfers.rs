//! The unfinished transfers of the local folder: `transfers`.

use super::{Command, CompletionKind, OptionValue, options};
use crate::Result;
use crate::outcome::{CommandOutcome, UnfinishedTransfer, UnfinishedTransfers};
use crate::shell::Shell;
use crate::transfer_log::{TransferEntry, TransferTask, UploadRecord, read_log};

pub const TRANSFERS: Command = Command {
    name: "transfers",
    aliases: &[],
    usage: "transfers [--drop]",
    summary: "show unfinished transfers",
    help: "Lists the transfers in the .log of the local folder. A transfer resumes when its\n\
           command runs again, or when a prompt starts.\n\
           --drop deletes the transfers and their part files.\n\n\
           Example: transfers",
    options: &[("--drop", OptionValue::Nothing)],
    completes: CompletionKind::Nothing,
    run: transfers,
};

fn transfers(shell: &mut Shell, args: Vec<String>) -> Result<CommandOutcome> {
    let mut drop = false;
    let names = options::names(args, &mut |option, _| {
        drop |= option == "--drop";
        Ok(option == "--drop")
    })?;
    if !names.is_empty() {
        fail!(Usage, "the command takes no names");
    }
    let contents = read_log(shell.local.home())?;
    for bad in &contents.bad {
        shell.notices.say(&format!(".log, line {}: ignored: {}", bad.number, bad.why));
    }
    let entries = if drop { shell.drop_transfers(contents.entries)? } else { contents.entries };
    let transfers = entries.iter().map(transfer).collect();
    Ok(CommandOutcome::Transfers(UnfinishedTransfers { transfers, dropped: drop }))
}

fn transfer(entry: &TransferEntry) -> UnfinishedTransfer {
    let (is_put, is_tree, bytes, size) = match &entry.task {
        TransferTask::Get(Some(state)) => {
            (false, false, Some(state.good.total()), Some(state.size))
        }
        TransferTask::Get(None) => (false, false, Some(0), None),
        TransferTask::Put(UploadRecord { sent, size, .. }) => {
            (true, false, Some(*sent), Some(*size))
        }
        TransferTask::GetTree => (false, true, None, None),
        TransferTask::PutTree => (true, true, None, None),
    };
    UnfinishedTransfer {
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
