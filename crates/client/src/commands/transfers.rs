//! The unfinished transfers of the local folder: `transfers`.

use relais_proto::FileTime;

use super::command::{Args, Command, PLAIN};
use crate::Result;
use crate::outcome::{CommandOutcome, UnfinishedTransfer};
use crate::resume::drop_transfers;
use crate::shell::Shell;
use crate::transfer_log::{DownloadRecord, TransferEntry, TransferTask, UploadRecord, read_log};

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
    let drop = args.has("--drop");
    let entries = if drop { drop_transfers(shell, contents.entries)? } else { contents.entries };
    let transfers: Vec<_> = entries.iter().map(transfer).collect();
    let dropped = drop.then_some(transfers.len());
    Ok(CommandOutcome::Transfers { transfers, dropped })
}

fn transfer(entry: &TransferEntry) -> UnfinishedTransfer {
    let (direction, bytes, size) = match &entry.task {
        TransferTask::Get(Some(DownloadRecord(state))) => {
            ("get", Some(state.good.total()), Some(state.size))
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
