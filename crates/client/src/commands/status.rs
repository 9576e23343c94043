//! The state of the current server: `status`.

use super::command::{Args, Command, PLAIN};
use crate::Result;
use crate::outcome::{CommandOutcome, ServerStatus, SkippedCounts};
use crate::session::StatusReport;
use crate::shell::Shell;

pub const STATUS: Command = Command {
    name: "status",
    usage: "status",
    summary: "show the current server",
    help: "Shows its address, its cluster, whether the connection is encrypted, the content\n\
           of its folder, skipped names, and its sessions.\n\n\
           Example: status",
    run: status,
    ..PLAIN
};

fn status(shell: &mut Shell, _: Args) -> Result<CommandOutcome> {
    let StatusReport { slave, lsn, counters, last_error } = shell.session.status()?;
    let Some((server, role)) = shell.session.server() else {
        fail!(Unreachable, "the server went away");
    };
    let authority = shell.session.authority().map(|authority| authority.to_string());
    Ok(CommandOutcome::Status(Box::new(ServerStatus {
        host: shell.session.host().to_string(),
        server: server.to_string(),
        role,
        slave: slave.to_string(),
        cluster: shell.session.origin().map(|origin| origin.cluster.to_string()),
        encrypted: authority.is_some(),
        authority,
        number: lsn.to_string(),
        files: counters.files,
        folders: counters.folders,
        bytes: counters.bytes,
        unhashed: counters.unhashed,
        skipped: SkippedCounts {
            total: counters.skipped(),
            links: counters.skipped_links,
            special: counters.skipped_special,
            mounts: counters.skipped_mounts,
            names: counters.skipped_names,
            unreadable: counters.skipped_unreadable,
        },
        rescans: counters.rescans,
        uploads: counters.uploads,
        upload_bytes: counters.upload_bytes,
        unapplied: counters.unapplied,
        sessions: counters.sessions,
        waiting: counters.waiting,
        workers: counters.workers,
        confined: counters.confinement.names(),
        last_error: Some(last_error).filter(|error| !error.is_empty()),
    })))
}
