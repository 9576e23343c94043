//! The unfinished transfers of the local folder: `transfers`.

use relais_proto::FileTime;

use super::command::{Args, Command, PLAIN};
use crate::Result;
use crate::outcome::{CommandOutcome, UnfinishedTransfer};
use crate::resume::{drop_transfers, received_bytes};
use crate::shell::Shell;
use crate::transfer_log::{TransferEntry, TransferTask, UploadRecord, read_log};

pub const TRANSFERS: Command = Command {
    name: "transfers",
    usage: "transfers [--drop]",
    summary: "show unfinished transfers",
    help: "Lists the transfers in the .log of the local folder. A transfer resumes when its\n\
           command runs again, or when a prompt starts.\n\
           --drop deletes the transfers and their part files.\n\n\
           Example: transfers",
    options: &[("--drop", None)],
    is_local: true,
    run: transfers,
    ..PLAIN
};

fn transfers(shell: &mut Shell, args: Args) -> Result<CommandOutcome> {
    let contents = read_log(shell.local.home())?;
    contents.report_bad(&shell.notices);
    if !args.has("--drop") {
        let transfers = contents.entries.iter().map(|entry| transfer(shell, entry)).collect();
        return Ok(CommandOutcome::Transfers { transfers, dropped: None });
    }
    // The part files tell how much was received, so they are read before they are removed.
    let mut transfers: Vec<_> =
        contents.entries.iter().map(|entry| transfer(shell, entry)).collect();
    let entries = contents.entries.clone();
    let dropped = drop_transfers(shell, contents.entries)?;
    let mut is_dropped = entries.iter().map(|entry| dropped.iter().any(|d| d.is_same(entry)));
    transfers.retain(|_| is_dropped.next().unwrap_or(false));
    Ok(CommandOutcome::Transfers { dropped: Some(transfers.len()), transfers })
}

fn transfer(shell: &Shell, entry: &TransferEntry) -> UnfinishedTransfer {
    let (direction, bytes, size) = match &entry.task {
        TransferTask::Get(Some(record)) => {
            ("get", Some(received_bytes(shell, &entry.local, record)), Some(record.0.size))
        }
        TransferTask::Get(None) => ("get", Some(0), None),
        TransferTask::Put(UploadRecord { sent, size, .. }) => ("put", Some(*sent), Some(*size)),
        TransferTask::GetTree => ("get", None, None),
        TransferTask::PutTree => ("put", None, None),
    };
    UnfinishedTransfer {
        direction,
        recursive: entry.task.is_tree(),
        remote: entry.remote.to_string(),
        local: entry.local.clone(),
        bytes,
        size,
        since: FileTime { seconds: i64::try_from(entry.since).unwrap_or(i64::MAX), nanos: 0 },
        host: entry.origin.host.clone(),
    }
}
