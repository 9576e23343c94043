//! The state of the current server: `status`.

use super::{Command, CompletionKind, options};
use crate::Result;
use crate::outcome::{CommandOutcome, ServerStatus};
use crate::shell::Shell;

pub const STATUS: Command = Command {
    name: "status",
    aliases: &[],
    usage: "status",
    summary: "show the current server",
    help: "Shows its address, its cluster, whether the connection is encrypted, the content\n\
           of its folder, skipped names, and its sessions.\n\n\
           Example: status",
    options: &[],
    completes: CompletionKind::Nothing,
    run: status,
};

fn status(shell: &mut Shell, args: Vec<String>) -> Result<CommandOutcome> {
    if !options::names(args, &mut options::none)?.is_empty() {
        fail!(Usage, "the command takes no names");
    }
    let report = shell.session.status()?;
    let Some((server, role)) = shell.session.server() else {
        fail!(Unreachable, "the server went away");
    };
    Ok(CommandOutcome::Status(Box::new(ServerStatus {
        host: shell.session.host().to_string(),
        server: server.to_string(),
        role,
        cluster: shell.session.origin().map(|origin| origin.cluster),
        authority: shell.session.authority(),
        report,
    })))
}
